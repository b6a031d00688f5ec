"""viewers: what 200 readers of the log's stream add to a control plane that takes 500 durable events a second.

`python -m benchmarks.viewers DATABASE PUBLIC_KEY` is the control plane: it reports events of its own hosts to itself,
prints its port, and answers each line of its input with its processor time and the last row of its log.
The readers are in another process, begin at the end of the log, and read everything. They come and go several times in
the life of one control plane, and what they add is the median of the differences: the cost of the events themselves
changes with time, and with what else runs on the machine, by more than the readers add.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import anyio
import uvicorn
from attrs import frozen

from benchmarks.fleet import CLOCK, host_names, release, tuned_collector
from benchmarks.harness import Figure, Scale, scratch
from benchmarks.life import FACTS_PER_LIFE, ROLLOUT, T0, at, life
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.http.server.server import server_config
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import Operator, OperatorRole, TrustedKey
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.kernel.clock import FakeClock

EVENTS_A_SECOND, VIEWERS, POINTS_AT_MOST = 500, 200, 8.0
BEATS_A_SECOND = 20
SETTLE_SECONDS = 2.0
SECONDS_MAX = 120
OPERATOR = "ada"


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the share of a core that the control plane takes, without readers, and what readers add."""
    viewers, turns = scale.pick(VIEWERS, VIEWERS, 3), scale.pick(5, 3, 1)
    seconds = scale.pick(4, 4, 1)
    runs = [_run(viewers, turns, seconds) for _ in range(scale.rounds)]
    name = f"{EVENTS_A_SECOND} durable events a second"
    alone = tuple(median(without.points for without, _ in run) for run in runs)
    added = tuple(median(beside.points - without.points for without, beside in run) for run in runs)
    taken = tuple(median(beside.rate / without.rate for without, beside in run) for run in runs)
    yield Figure("viewers", f"{name}, without readers", "% of a core", alone)
    yield Figure(
        "viewers",
        f"{name}, what {viewers} readers add",
        "% of a core",
        # What is measured is a difference, and may be nothing.
        tuple(max(points, 0.01) for points in added),
        at_most=POINTS_AT_MOST,
    )
    yield Figure(
        "viewers",
        f"events taken beside {viewers} readers, of those without",
        "×",
        taken,
        kind="ratio",
        at_least=0.9,
    )


@frozen
class _Span:
    """points: the share of a core that the control plane took, in percent. rate: rows of its log a second."""

    points: float
    rate: float


def _run(viewers: int, turns: int, seconds: int) -> list[tuple[_Span, _Span]]:
    """Return what the control plane takes without and with readers, as often as they come."""
    with scratch() as directory:
        return asyncio.run(_measured(directory / "control-plane.sqlite", viewers, turns, seconds))


async def _measured(
    database: Path, viewers: int, turns: int, seconds: int
) -> list[tuple[_Span, _Span]]:
    key = SigningKey.generate()
    command = (sys.executable, "-m", "benchmarks.viewers", database, key.public_key.public_key)
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        spans: list[tuple[_Span, _Span]] = []
        for _ in range(turns):
            without = await _span(process, seconds)
            _, head = await _used(process)
            readers = [asyncio.create_task(_read(port, key, head)) for _ in range(viewers)]
            await anyio.sleep(SETTLE_SECONDS)
            beside = await _span(process, seconds)
            _require_reading(readers)
            for reader in readers:
                reader.cancel()
            read = await asyncio.gather(*readers)
            assert all(read), "expected that each reader was sent something"
            await anyio.sleep(SETTLE_SECONDS)
            spans.append((without, beside))
        return spans
    finally:
        process.stdin.close()
        await process.wait()


async def _span(process: asyncio.subprocess.Process, seconds: int) -> _Span:
    used, head = await _used(process)
    began = perf_counter()
    await anyio.sleep(seconds)
    used_then, head_then = await _used(process)
    passed = perf_counter() - began
    return _Span((used_then - used) / passed * 100, (head_then - head) / passed)


async def _used(process: asyncio.subprocess.Process) -> tuple[float, int]:
    """Return the processor time of the control plane, in seconds, and the last row of its log."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    seconds, head = (await process.stdout.readline()).split()
    return float(seconds), int(head)


def _require_reading(readers: list[asyncio.Task[int]]) -> None:
    ended = [reader for reader in readers if reader.done()]
    assert not ended, f"expected streams without an end, found {len(ended)} that ended"


async def _read(port: int, key: SigningKey, after: int) -> int:
    """Read until it is cancelled. Returns how many bytes came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"{paths.LOG}?after={after}"
    signed = sign_request(
        key, operator_key_id(OPERATOR), "GET", path, b"", CLOCK.now(), new_nonce()
    )
    headers = {"Host": "control-plane", "Accept": "text/event-stream", **signed}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    count = 0
    try:
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        while data := await reader.read(65_536):
            count += len(data)
    except asyncio.CancelledError:
        return count
    finally:
        writer.close()
    return count


async def _serve(database: Path, key: TrustedKey) -> None:
    store = SqliteStore(database)
    limits = Limits(viewers_per_operator_max=VIEWERS)
    operator = Operator(OPERATOR, key, OperatorRole.READ)
    ring = KeyRing(operators=FrozenMap({OPERATOR: operator}))
    # The facts have their times; the clock of requests is the machine's.
    async with running(ThreadedStore(store), FakeClock(at(1_000))) as service:
        app = make_app(service, lambda: ring, SqliteQueries(database), CLOCK, limits=limits)
        server = uvicorn.Server(server_config(app, limits, shutdown_seconds_max=1))
        with tuned_collector():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve)
                tasks.start_soon(_report, service)
                while not server.started:
                    await anyio.sleep(0.01)
                await anyio.sleep(1.0)
                print(server.servers[0].sockets[0].getsockname()[1], flush=True)
                while await anyio.to_thread.run_sync(sys.stdin.readline):
                    print(process_time(), service.feed.head, flush=True)
                server.should_exit = True
                tasks.cancel_scope.cancel()
    store.close()


async def _report(service: ControlPlaneService) -> None:
    """Take so many events a second, each in a row of its own. Every second has the same mix of events.

    Hosts report beside each other, as they do: a disk that is slow for a moment does not change the rate.
    """
    together = EVENTS_A_SECOND // BEATS_A_SECOND
    hosts = host_names(SECONDS_MAX * EVENTS_A_SECOND // FACTS_PER_LIFE + together)
    assert not (await service.publish(release(hosts, T0))).refused
    begins = anyio.current_time()
    groups = (hosts[first : first + together] for first in range(0, len(hosts), together))
    beats = ((group, fact) for group in groups for fact in life())
    for beat, (group, fact) in enumerate(beats, start=1):
        async with anyio.create_task_group() as reports:
            for host in group:
                reports.start_soon(_take, service, AgentEventEnvelope(host, ROLLOUT, fact))
        await anyio.sleep_until(begins + beat / BEATS_A_SECOND)


async def _take(service: ControlPlaneService, reported: AgentEventEnvelope) -> None:
    outcome = await service.take_events(reported.hostname, (reported,))
    assert outcome.accepted == 1, outcome


if __name__ == "__main__":
    anyio.run(
        _serve,
        Path(sys.argv[1]),
        TrustedKey(sys.argv[2]),
        backend_options={"use_uvloop": True},
    )
