"""Our transports keep the contract of a transport."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nixfleet_control_plane.in_process import InProcessTransport
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.transport import Transport
from nixfleet_testing.contracts.transport import TransportContract


class TestInProcessTransport(TransportContract):
    """The transport without a network."""

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        """Call the control plane."""
        yield InProcessTransport(control_plane, hostname)
