"""A control plane in the test's process: its service alone, or served on loopback with clients to call it.

Clients are an agent, operators and a bare socket. As a process of its own it is in `control_plane_process`.
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2
import uvicorn
from anyio.abc import TaskGroup
from attrs import frozen
from starlette.types import ASGIApp

from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.forecaster import Forecaster, NoForecaster
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.http.server.server import server_config
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import BlockingStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from nixfleet_runtime.http.signing.key_id import host_key_id, operator_key_id
from nixfleet_runtime.http.signing.nonces import EarlierRequests
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.kernel.clock import Clock, FakeClock, SystemClock
from nixfleet_state_machine.host.effect import EmitMetric
from nixfleet_testing.contracts.served_fleet import GuardedStore
from tests.engines.releases import START as FIXED_START
from tests.engines.releases import Layout, Publisher, rollout_id_of
from tests.support.threaded import threaded

CLOCK = SystemClock()
START = CLOCK.now() - timedelta(seconds=2)
SEED_VARIABLE = "SITE_SEED"
"""Whoever starts a site in a process of its own passes on the seed of all keys."""
SEED = bytes.fromhex(os.environ.get(SEED_VARIABLE, "")) or secrets.token_bytes(32)
KEY_SEED, *_SEEDS = (hashlib.sha256(SEED + bytes([index])).digest() for index in range(5))
KEY = SigningKey(KEY_SEED)
OTHER_KEY, STRANGER, OPERATOR_KEY, READER_KEY = map(SigningKey, _SEEDS)
ANSWER_SECONDS_MAX = 10
SERVICE_SECONDS_MAX = 20


@asynccontextmanager
async def running_service(
    store: BlockingStore,
    clock: Clock | None = None,
    record_metric: Callable[[EmitMetric], None] = lambda _: None,
) -> AsyncIterator[ControlPlaneService]:
    """Run the whole service as `nixfleet control-plane run` does; raise TimeoutError instead of hanging."""
    with anyio.fail_after(SERVICE_SECONDS_MAX):
        async with (
            threaded(store) as behind,
            running(
                behind, clock or FakeClock(FIXED_START), record_metric=record_metric
            ) as service,
        ):
            yield service


@asynccontextmanager
async def running_mutator(
    store: BlockingStore, engine: ControlPlaneEngine
) -> AsyncIterator[tuple[ControlPlaneService, TaskGroup]]:
    """Run the mutator of a service around `engine` and nothing else: no ticks, no flushes. The test closes it."""
    with anyio.fail_after(SERVICE_SECONDS_MAX):
        async with threaded(store) as behind:
            service = ControlPlaneService(behind, engine, FakeClock(FIXED_START), lambda _: None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.run_mutator)
                yield service, tasks


@frozen
class Site:
    """A served control plane and what a client needs to call it."""

    url: str
    port: int
    database: Path
    store: GuardedStore
    service: ControlPlaneService
    publisher: Publisher

    async def publish(self, channel_ref: str = "r1", layout: Layout | None = None) -> RolloutId:
        """Put a release in force: web-01 is dispatched."""
        release = self.publisher.release(layout or Layout(), channel_ref, CLOCK.now())
        await self.service.publish(release)
        return rollout_id_of(release)

    @asynccontextmanager
    async def agent(
        self, hostname: str = "web-01", key: SigningKey = KEY
    ) -> AsyncIterator[HttpTransport]:
        """Yield a host's way here."""
        async with connected(self.url, hostname, key, CLOCK) as transport:
            yield transport

    async def operate(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        name: str = "alice",
        key: SigningKey = OPERATOR_KEY,
    ) -> httpx2.Response:
        """Return the answer to what an operator asks."""
        key_id = operator_key_id(name)
        headers = sign_request(key, key_id, method, path, body, CLOCK.now(), new_nonce())
        return await self.ask(method, path, body, headers)

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: object = None
    ) -> httpx2.Response:
        """Return the answer to a request with just these headers."""
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False) as client:
            return await client.request(method, path, content=body, headers=headers)  # type: ignore[arg-type]

    async def say(self, *parts: bytes, pause_seconds: float = 0.0) -> bytes:
        """Return all that is answered to these bytes until the other side closes. Between parts there is a pause."""
        answer = bytearray()
        with anyio.fail_after(ANSWER_SECONDS_MAX):
            async with (
                await anyio.connect_tcp("127.0.0.1", self.port) as stream,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(_hear, stream, answer)
                # Who is cut off has been told why before.
                with suppress(anyio.BrokenResourceError):
                    for part in parts:
                        await stream.send(part)
                        await anyio.sleep(pause_seconds)
        return bytes(answer)


def signed(
    method: str, path: str, body: bytes = b"", *, hostname: str = "web-01", key: SigningKey = KEY
) -> dict[str, str]:
    """The headers that make this a request of a host."""
    key_id = host_key_id(hostname)
    return dict(sign_request(key, key_id, method, path, body, CLOCK.now(), new_nonce()))


async def _hear(stream: anyio.abc.ByteReceiveStream, answer: bytearray) -> None:
    with suppress(anyio.BrokenResourceError):
        async for chunk in stream:
            answer += chunk


@asynccontextmanager
async def site_with(
    directory: Path,
    limits: Limits | None = None,
    earlier_commands: EarlierRequests | None = None,
    *,
    enrolls: bool = False,
    forecaster: Forecaster | None = None,
) -> AsyncIterator[Site]:
    """Serve a control plane that knows web-01 and web-02, alice who may operate, and bob who may read.

    enrolls: it knows no key at first, and hosts enroll under the trust root of `Site.publisher`.
    """
    database = directory / "control-plane.sqlite"
    limits = limits or Limits()
    store = GuardedStore(ThreadedStore(SqliteStore(database)))
    ring, publisher = _ring(), Publisher()
    trust = publisher.trust if enrolls else OPERATORS_TRUST
    async with running(store, CLOCK, trust=trust) as service:
        app = make_app(
            service,
            service.ring if enrolls else lambda: ring,
            SqliteQueries(database),
            CLOCK,
            limits=limits,
            # What was signed in the second of the start is refused, and a test starts and signs in one.
            signed_since=START,
            earlier_commands=earlier_commands,
            forecaster=forecaster or NoForecaster("this one computes none"),
        )
        async with served(app, limits) as port:
            yield Site(f"http://127.0.0.1:{port}", port, database, store, service, publisher)
    await store.close()


@asynccontextmanager
async def served(app: ASGIApp, limits: Limits) -> AsyncIterator[int]:
    """Serve `app` as a control plane does, on the port that is yielded."""
    server = uvicorn.Server(server_config(app, limits, shutdown_seconds_max=1))

    async def serve() -> None:
        # Only `should_exit` lets it close what it opened.
        with anyio.CancelScope(shield=True):
            await server.serve()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            while not server.started:
                await anyio.lowlevel.checkpoint()
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True


OPERATORS_TRUST = TrustRoot(
    KeySlot(SigningKey.generate().public_key),
    operators=(
        Operator("alice", OPERATOR_KEY.public_key, OperatorRole.OPERATE),
        Operator("bob", READER_KEY.public_key, OperatorRole.READ),
    ),
)
"""Of a site on which hosts do not enroll."""


def _ring() -> KeyRing:
    enrolled = (
        EnrolledHost(name, key.public_key, CLOCK.now())
        for name, key in (("web-01", KEY), ("web-02", OTHER_KEY))
    )
    ring = KeyRing.of(OPERATORS_TRUST)
    for host in enrolled:
        ring = ring.with_host(host)
    return ring
