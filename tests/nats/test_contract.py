"""The transport over NATS keeps the contract of a transport: a real server on loopback, real signatures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_nats.agent_end import connected
from nixfleet_nats.target import Target
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import Transport
from nixfleet_testing.contracts.served_fleet import ServedFleet
from nixfleet_testing.contracts.transport import TransportContract
from tests.nats.serving import KEYS, served


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
        async with served(directory, self.target) as control_plane:
            self.clock = control_plane.clock
            yield control_plane.fleet

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        """Sign requests, and send them over NATS."""
        async with connected(self.target, hostname, KEYS[hostname], self.clock) as transport:
            yield transport
