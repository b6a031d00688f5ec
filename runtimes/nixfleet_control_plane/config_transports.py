"""`[transports.NAME]` of the control plane's configuration: what hosts can call it by, beside HTTP.

Each is a part of the group `nixfleet.transports`; HTTP itself is `[listen]`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

from attrs import field, frozen
from starlette.types import ASGIApp
from typing_extensions import TypeIs

from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.plugins import (
    TRANSPORTS,
    Plugin,
    PluginUnfit,
    read_plugin,
    refuse_plugin,
)
from nixfleet_runtime.transport import TransportUnusable


class TransportServer(Protocol):
    """The control plane's end of a transport."""

    def serve(self, service: ControlPlaneService) -> AbstractAsyncContextManager[None]:
        """Serve hosts while the context is open.

        It authenticates: it passes on the name of the host that it has proof of, never one that a message gives.
        """
        ...


class RequestServer(Protocol):
    """The control plane's end of a transport that carries the requests of HTTP as they are, on another road."""

    def serve_requests(
        self, service: ControlPlaneService, app: ASGIApp
    ) -> AbstractAsyncContextManager[None]:
        """Serve hosts while the context is open. Raises: TransportUnusable.

        app: authenticates requests, limits and answers them, as over HTTP.
        """
        ...


@frozen
class TransportConfig:
    """`[transports.NAME]`."""

    plugin: Plugin
    server: TransportServer | RequestServer = field(eq=False)

    @asynccontextmanager
    async def serving(self, service: ControlPlaneService, app: ASGIApp) -> AsyncIterator[None]:
        """Serve hosts while the context is open. Raises: TransportUnusable, PluginFailed, if it cannot begin."""
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._serving(service, app))
            except TransportUnusable:
                raise
            except Exception as error:
                raise self.plugin.failed("to begin to serve", error) from error
            yield

    def _serving(
        self, service: ControlPlaneService, app: ASGIApp
    ) -> AbstractAsyncContextManager[None]:
        if _carries_requests(self.server):
            return self.server.serve_requests(service, app)
        return self.server.serve(service)


def _carries_requests(server: TransportServer | RequestServer) -> TypeIs[RequestServer]:
    return hasattr(server, "serve_requests")


def read_transports(root: Section) -> Mapping[str, TransportConfig]:
    """Return the transports by name."""
    found: dict[str, TransportConfig] = {}
    for name, section in root.sections("transports").items():
        made = read_plugin(section, TRANSPORTS, _OWN)
        if made is None:
            continue
        plugin, server = made
        try:
            plugin.require(server, RequestServer if _carries_requests(server) else TransportServer)
        except PluginUnfit as error:
            refuse_plugin(section, error)
        found[name] = TransportConfig(plugin, server)
    return FrozenMap(found)


_OWN: Final[Mapping[str, Callable[[Section], TransportServer | RequestServer]]] = {}
