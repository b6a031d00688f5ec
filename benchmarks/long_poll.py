"""long_poll: 5,000 hosts wait for a dispatch, each on a connection of its own; then 500 of them are dispatched.

Memory: how much the server's process grew by when all wait, per poll. Delivery: from the commit of the dispatches,
all in one transaction, until each of the 500 has read its answer; both processes read the same monotonic clock.
"""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import anyio
from attrs import frozen

from benchmarks.client import Connection, request
from benchmarks.fleet import host_names
from benchmarks.harness import Figure, Scale, percentile, scratch
from benchmarks.memory import resident_kib
from benchmarks.served import Served, served
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http import paths

KIB_AT_MOST, P99_MS_AT_MOST = 24.0, 100.0
CROWD = 500
POLLS_NAME = b"nixfleet_dispatch_polls "


@frozen
class Delivered:
    """What one run came to."""

    kib_per_poll: float
    delivered_ms: tuple[float, ...]


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield memory per idle poll, and how long a dispatch takes to arrive."""
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    polls, dispatches = scale.pick(5_000, 1_000, 20), scale.pick(500, 200, 5)
    runs = [_run(polls, dispatches) for _ in range(scale.rounds)]
    memory = tuple(run.kib_per_poll for run in runs)
    yield Figure("long_poll", f"{polls:,} idle polls, each", "KiB", memory, at_most=KIB_AT_MOST)
    for share, at_most in ((0.5, None), (0.99, P99_MS_AT_MOST)):
        name = f"{dispatches:,} dispatches, commit to delivery p{share * 100:.0f}"
        waits = tuple(percentile(run.delivered_ms, share) for run in runs)
        yield Figure("long_poll", name, "ms", waits, at_most=at_most)


def _run(polls: int, dispatches: int) -> Delivered:
    with scratch() as directory:
        return asyncio.run(_polled(directory / "control-plane.sqlite", polls, dispatches))


async def _polled(database: Path, polls: int, dispatches: int) -> Delivered:
    key = SigningKey.generate()
    async with served(database, key, polls) as server:
        watcher = await Connection.open(server.address)
        await _waiting(watcher)
        before = resident_kib(str(server.pid))
        arrived: list[float] = []
        async with anyio.create_task_group() as pollers:
            hosts = host_names(polls)
            # Not all at once: the queue has no room for so many, and agents come when they come.
            for start in range(0, polls, CROWD):
                for host in hosts[start : start + CROWD]:
                    pollers.start_soon(_poll, server, host, key, arrived)
                while await _waiting(watcher) < min(start + CROWD, polls):
                    await anyio.sleep(0.05)
            grown = resident_kib(str(server.pid)) - before
            committed_at = await server.publish(dispatches)
            while len(arrived) < dispatches:
                await anyio.sleep(0.05)
            pollers.cancel_scope.cancel()
        watcher.close()
        return Delivered(grown / polls, tuple((at - committed_at) * 1e3 for at in arrived))


async def _poll(server: Served, host: str, key: SigningKey, arrived: list[float]) -> None:
    connection = await Connection.open(server.address)
    try:
        poll = request(host, key, "GET", f"{paths.AGENT_DISPATCH}?wait=60")
        status, body = await connection.ask(poll)
        arrived.append(perf_counter())
        assert status == 200, (status, body)
    finally:
        connection.close()


async def _waiting(watcher: Connection) -> int:
    """Return how many polls the server says are open."""
    status, body = await watcher.ask(b"GET /metrics HTTP/1.1\r\nHost: control-plane\r\n\r\n")
    assert status == 200, status
    (line,) = (line for line in body.splitlines() if line.startswith(POLLS_NAME))
    return int(float(line.removeprefix(POLLS_NAME)))
