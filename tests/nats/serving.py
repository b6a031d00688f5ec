"""A control plane of the contracts on a real server, with the keys that a test gives its hosts."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import frozen
from starlette.types import ASGIApp

from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_nats.control_plane_end import ControlPlaneEnd
from nixfleet_nats.target import Target
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.kernel.clock import FakeClock, SystemClock
from nixfleet_testing.contracts.histories import HOST, OTHER_HOST, T0
from nixfleet_testing.contracts.served_fleet import ServedFleet, served_fleet
from tests.nats.conftest import KEY

KEYS = {host: SigningKey.generate() for host in (HOST, OTHER_HOST)}
RING = KeyRing(
    enrolled=FrozenMap({host: EnrolledHost(host, key.public_key, T0) for host, key in KEYS.items()})
)
NO_QUERIES = SqliteQueries(Path("not read by agents"))


@frozen
class Served:
    """clock: that requests are signed by."""

    fleet: ServedFleet
    clock: FakeClock


@asynccontextmanager
async def served(
    directory: Path,
    target: Target,
    ring: Callable[[], KeyRing] = lambda: RING,
    app: ASGIApp | None = None,
    key: SigningKey = KEY,
) -> AsyncIterator[Served]:
    """Serve hosts while the context is open. app: answers them in the place of the control plane's own."""
    async with served_fleet(directory) as fleet:
        clock = FakeClock(T0)
        own = make_app(fleet.service, ring, NO_QUERIES, clock)
        clock.advance(2)  # What was signed in the second of the start is refused.
        fleet.service.ring = ring  # type: ignore[method-assign]
        end = ControlPlaneEnd(target, key, SystemClock())
        async with end.serve_requests(fleet.service, app or own):
            yield Served(fleet, clock)
