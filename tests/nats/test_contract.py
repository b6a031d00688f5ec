"""The transport over NATS keeps the contract of a transport: a real server on loopback, real signatures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_nats.agent_end import connected
from nixfleet_nats.control_plane_end import ControlPlaneEnd
from nixfleet_nats.target import Target
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.kernel.clock import FakeClock, SystemClock
from nixfleet_runtime.transport import Transport
from nixfleet_testing.contracts.histories import HOST, OTHER_HOST, T0
from nixfleet_testing.contracts.served_fleet import ServedFleet, served_fleet
from nixfleet_testing.contracts.transport import TransportContract
from tests.nats.conftest import KEY

KEYS = {host: SigningKey.generate() for host in (HOST, OTHER_HOST)}
RING = KeyRing(
    enrolled=FrozenMap({host: EnrolledHost(host, key.public_key, T0) for host, key in KEYS.items()})
)
NO_QUERIES = SqliteQueries(Path("not read by agents"))


class TestNatsTransport(TransportContract):
    """Both hosts are on one server, each with its own key and its own connection."""

    polls_wait_at_the_control_plane = False
    clock: FakeClock
    target: Target

    @pytest.fixture(autouse=True)
    def _on(self, target: Target) -> None:
        self.target = target

    @asynccontextmanager
    async def serve(self, directory: Path) -> AsyncIterator[ServedFleet]:
        """Serve the control plane on NATS."""
        async with served_fleet(directory) as fleet:
            self.clock = FakeClock(T0)
            app = make_app(fleet.service, lambda: RING, NO_QUERIES, self.clock)
            # What was signed in the second of the start is refused.
            self.clock.advance(2)
            fleet.service.ring = lambda: RING  # type: ignore[method-assign]
            end = ControlPlaneEnd(self.target, KEY, "FLEET", SystemClock())
            async with end.serve_requests(fleet.service, app):
                yield fleet

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        """Sign requests, and send them over NATS."""
        async with connected(self.target, hostname, KEYS[hostname], self.clock) as transport:
            yield transport
