"""viewers: what 200 readers of the log's stream add to a control plane that takes 500 durable events a second.

`python -m benchmarks.viewers DATABASE PUBLIC_KEY` is the control plane: it reports events of its own hosts to itself,
and prints its port. The processor's time of that process is compared, without readers and with them; the readers are
in another process, and read everything.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from time import perf_counter

import anyio
import uvicorn

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
OPERATOR = "ada"
_TICKS = os.sysconf("SC_CLK_TCK")


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the share of a core that the control plane takes, without readers, and what readers add."""
    viewers, seconds = scale.pick(VIEWERS, VIEWERS, 3), scale.pick(10, 5, 1)
    runs = [_run(viewers, seconds) for _ in range(scale.rounds)]
    alone, added = zip(*runs, strict=True)
    name = f"{EVENTS_A_SECOND} durable events a second"
    yield Figure("viewers", f"{name}, without readers", "% of a core", alone)
    yield Figure(
        "viewers",
        f"{name}, what {viewers} readers add",
        "% of a core",
        # What is measured is a difference, and may be nothing.
        tuple(max(points, 0.01) for points in added),
        at_most=POINTS_AT_MOST,
    )


def _run(viewers: int, seconds: int) -> tuple[float, float]:
    with scratch() as directory:
        return asyncio.run(_measured(directory / "control-plane.sqlite", viewers, seconds))


async def _measured(database: Path, viewers: int, seconds: int) -> tuple[float, float]:
    key = SigningKey.generate()
    command = (sys.executable, "-m", "benchmarks.viewers", database, key.public_key.public_key)
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        alone = await _points(process.pid, seconds)
        async with anyio.create_task_group() as readers:
            read = [0] * viewers
            for number in range(viewers):
                readers.start_soon(_read, port, key, read, number)
            while not all(read):
                await anyio.sleep(0.05)
            with_readers = await _points(process.pid, seconds)
            readers.cancel_scope.cancel()
        return alone, with_readers - alone
    finally:
        process.stdin.close()
        await process.wait()


async def _points(pid: int, seconds: int) -> float:
    """Return which share of a core a process takes, in percent."""
    before, began = _cpu_seconds(pid), perf_counter()
    await anyio.sleep(seconds)
    return (_cpu_seconds(pid) - before) / (perf_counter() - began) * 100


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def _read(port: int, key: SigningKey, read: list[int], number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"{paths.LOG}?after=0"
    signed = sign_request(
        key, operator_key_id(OPERATOR), "GET", path, b"", CLOCK.now(), new_nonce()
    )
    headers = {"Host": "control-plane", "Accept": "text/event-stream", **signed}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    try:
        while data := await reader.read(65_536):
            read[number] += len(data)
    finally:
        writer.close()


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
                await anyio.to_thread.run_sync(sys.stdin.readline)
                server.should_exit = True
                tasks.cancel_scope.cancel()
    store.close()


async def _report(service: ControlPlaneService) -> None:
    """Take so many events a second, each in a row of its own, of one host after the other."""
    hosts = host_names(60 * EVENTS_A_SECOND // FACTS_PER_LIFE)
    assert not (await service.publish(release(hosts, T0))).refused
    waiting = chain.from_iterable(((host, fact) for host in hosts) for fact in life())
    begins = anyio.current_time()
    for beat in range(60 * BEATS_A_SECOND):
        for _ in range(EVENTS_A_SECOND // BEATS_A_SECOND):
            host, fact = next(waiting)
            envelope = AgentEventEnvelope(host, ROLLOUT, fact)
            outcome = await service.take_events(host, (envelope,))
            assert outcome.accepted == 1, outcome
        await anyio.sleep_until(begins + (beat + 1) / BEATS_A_SECOND)


if __name__ == "__main__":
    anyio.run(
        _serve,
        Path(sys.argv[1]),
        TrustedKey(sys.argv[2]),
        backend_options={"use_uvloop": True},
    )
