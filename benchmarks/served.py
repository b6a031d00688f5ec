"""A control plane in a process of its own behind real HTTP, for the workloads that need a network.

`python -m benchmarks.served DATABASE PUBLIC_KEY HOSTS [NATS_URL KEY_FILE]`: every host is enrolled, with the same key.
It prints its port.
A number on its standard input publishes a release for so many hosts, and it prints when that was committed, by the
machine's monotonic clock; the end of the input ends it.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter

import anyio
import uvicorn
from attrs import frozen

from benchmarks.client import Address
from benchmarks.fleet import CLOCK, host_names, release, tuned_collector
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.http.server.server import server_config
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_nats.control_plane_end import ControlPlaneEnd
from nixfleet_nats.target import Target
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import TrustedKey


@frozen
class Nats:
    """A server where hosts are answered as well. key_file: the control plane's key for it."""

    url: str
    key_file: Path


class TimedStore(SqliteStore):
    """Knows when it committed last."""

    committed_at = 0.0

    def commit(self, writes: Sequence[Write]) -> None:
        """As the store does."""
        super().commit(writes)
        self.committed_at = perf_counter()


class Served:
    """The child process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.address = Address("127.0.0.1", port)

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    async def publish(self, hosts: int) -> float:
        """Dispatch the first so many hosts; return when that was committed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{hosts}\n".encode())
        return float(await self._line())

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


@asynccontextmanager
async def served(
    database: Path, key: SigningKey, hosts: int, nats: Nats | None = None
) -> AsyncIterator[Served]:
    """Run a control plane in a child process until the end of the context."""
    command = (
        sys.executable,
        "-m",
        "benchmarks.served",
        database,
        key.public_key.public_key,
        hosts,
        *(() if nats is None else (nats.url, nats.key_file)),
    )
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Served(process, int(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


async def _serve(
    database: Path, key: TrustedKey, hosts: tuple[str, ...], nats: Nats | None
) -> None:
    store, limits = TimedStore(database), Limits()
    now = CLOCK.now()
    ring = KeyRing(enrolled=FrozenMap({host: EnrolledHost(host, key, now) for host in hosts}))
    async with running(ThreadedStore(store), CLOCK) as service:
        app = make_app(service, lambda: ring, SqliteQueries(database), CLOCK, limits=limits)
        server = uvicorn.Server(server_config(app, limits, shutdown_seconds_max=1))
        with tuned_collector():
            async with AsyncExitStack() as held:
                if nats is not None:
                    service.ring = lambda: ring  # type: ignore[method-assign]
                    nats_key = SigningKey.load(nats.key_file)
                    end = ControlPlaneEnd(Target((nats.url,)), nats_key, CLOCK)
                    await held.enter_async_context(end.serve_requests(service, app))
                tasks = await held.enter_async_context(anyio.create_task_group())
                tasks.start_soon(server.serve)
                while not server.started:
                    await anyio.sleep(0.01)
                # What was signed in the second before the start is refused: begin in the next one.
                await anyio.sleep(1.0)
                print(server.servers[0].sockets[0].getsockname()[1], flush=True)
                await _obey(service, store, hosts)
                server.should_exit = True
    store.close()


async def _obey(service: ControlPlaneService, store: TimedStore, hosts: tuple[str, ...]) -> None:
    while count := await anyio.to_thread.run_sync(sys.stdin.readline):
        outcome = await service.publish(release(hosts[: int(count)]))
        assert not outcome.refused, outcome
        print(store.committed_at, flush=True)


if __name__ == "__main__":
    anyio.run(
        _serve,
        Path(sys.argv[1]),
        TrustedKey(sys.argv[2]),
        host_names(int(sys.argv[3])),
        Nats(sys.argv[4], Path(sys.argv[5])) if len(sys.argv) > 4 else None,
        backend_options={"use_uvloop": True},
    )
