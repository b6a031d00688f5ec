"""The transport over HTTP keeps the contract of a transport: a real server on loopback, real signatures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nixfleet_agent.network.http_transport import connected
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import Transport
from nixfleet_testing.contracts.histories import HOST, OTHER_HOST, T0
from nixfleet_testing.contracts.served_fleet import ServedFleet, served_fleet
from nixfleet_testing.contracts.transport import TransportContract
from tests.support.served_control_plane import served

KEYS = {host: SigningKey.generate() for host in (HOST, OTHER_HOST)}
RING = KeyRing(
    enrolled=FrozenMap({host: EnrolledHost(host, key.public_key, T0) for host, key in KEYS.items()})
)
NO_QUERIES = SqliteQueries(Path("not read by agents"))


class TestHttpTransport(TransportContract):
    """Both hosts talk to one server, each with its own key."""

    clock: FakeClock
    url: str

    @asynccontextmanager
    async def serve(self, directory: Path) -> AsyncIterator[ServedFleet]:
        """Serve the control plane on a free port."""
        async with served_fleet(directory) as fleet:
            self.clock = FakeClock(T0)
            app = make_app(fleet.service, lambda: RING, NO_QUERIES, self.clock)
            # What was signed in the second of the start is refused.
            self.clock.advance(2)
            async with served(app, Limits()) as port:
                self.url = f"http://127.0.0.1:{port}"
                yield fleet

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        """Sign requests to the server."""
        async with connected(self.url, hostname, KEYS[hostname], self.clock) as transport:
            yield transport
