"""Our transports keep the contract of a transport."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nixfleet_control_plane.in_process import InProcessTransport
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.transport import Transport
from nixfleet_testing.contracts.histories import HOST, OTHER_HOST
from nixfleet_testing.contracts.served_fleet import ServedFleet, served_fleet
from nixfleet_testing.contracts.transport import TransportContract
from tests.support.socket_transport import SocketServer, SocketTransport


class TestInProcessTransport(TransportContract):
    """The transport without a network."""

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        """Call the control plane."""
        yield InProcessTransport(control_plane, hostname)


class TestSocketTransport(TransportContract):
    """One that an embedder could write, which the tests of plug-ins install."""

    @asynccontextmanager
    async def serve(self, directory: Path) -> AsyncIterator[ServedFleet]:
        """Serve both hosts over sockets of their own."""
        self._sockets = directory
        hosts = SocketServer(directory, (HOST, OTHER_HOST))
        async with served_fleet(directory) as fleet, hosts.serve(fleet.service):
            yield fleet

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        """Call over the host's socket."""
        yield SocketTransport(self._sockets / hostname)


class TestInProcessTransportUnderTrio(TestInProcessTransport):
    """The same under trio."""

    backend = "trio"
