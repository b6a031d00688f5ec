"""The parts of an agent that a configuration names: journals, transports and activators.

Those that come with nixfleet are read in `config`. Others are entry points of the groups `nixfleet.journals`,
`nixfleet.transports` and `nixfleet.activators`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeAlias, TypeVar

from attrs import field, frozen

from nixfleet_agent.activation.activator import Activator
from nixfleet_agent.journal.journal import Journal
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.config.plugins import Plugin
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.transport import Transport

PortT = TypeVar("PortT")

JournalOpener: TypeAlias = Callable[[], AbstractAsyncContextManager[Journal]]
"""Opens a journal for this process alone, and closes it at the end of the context."""
ActivatorMaker: TypeAlias = Callable[[Clock], Activator]
"""Makes an activator. It is given the fleet's clock."""


class TransportClient(Protocol):
    """The agent's end of a transport."""

    def connect(
        self, hostname: str, key: SigningKey, clock: Clock
    ) -> AbstractAsyncContextManager[Transport]:
        """Open the way from the host to its control plane. key: the host's. clock: of the machine."""
        ...


@frozen
class PluggedJournal:
    """`[journal]` of a kind that does not come with nixfleet."""

    plugin: Plugin
    opener: JournalOpener = field(eq=False)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Journal]:
        """Open the journal; close it at the end. Raises: PluginUnusable."""
        async with _entered(self.plugin, self.opener, "the journal to be opened") as journal:
            self.plugin.require(journal, Journal)
            yield journal


@frozen
class PluggedTransport:
    """`[control_plane]` of a kind that does not come with nixfleet. It enrolls its hosts itself, if they need that."""

    plugin: Plugin
    client: TransportClient = field(eq=False)

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"the transport {self.plugin.name!r}"

    @asynccontextmanager
    async def connected(
        self, hostname: str, key: SigningKey, clock: Clock
    ) -> AsyncIterator[Transport]:
        """Open the way to the control plane; close it at the end. Raises: PluginUnusable."""

        def opener() -> AbstractAsyncContextManager[Transport]:
            return self.client.connect(hostname, key, clock)

        async with _entered(self.plugin, opener, "the transport to be opened") as transport:
            self.plugin.require(transport, Transport)
            yield transport


@frozen
class PluggedActivator:
    """`[activator]` of a kind that does not come with nixfleet."""

    plugin: Plugin
    maker: ActivatorMaker = field(eq=False)

    def made(self, clock: Clock) -> Activator:
        """Return the activator. Raises: PluginUnusable."""
        try:
            activator = self.maker(clock)
        except Exception as error:
            raise self.plugin.failed("the activator to be made", error) from error
        self.plugin.require(activator, Activator)
        return activator


@asynccontextmanager
async def _entered(
    plugin: Plugin, opener: Callable[[], AbstractAsyncContextManager[PortT]], expected: str
) -> AsyncIterator[PortT]:
    """Enter what `opener` makes: only what it raises then is a failure of the plug-in."""
    async with AsyncExitStack() as held:
        try:
            port = await held.enter_async_context(opener())
        except Exception as error:
            raise plugin.failed(expected, error) from error
        yield port
