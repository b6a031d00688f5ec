"""What the story asks of whoever lets the fleet of the demonstration run."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from nixfleet_cli.demo.releases import Published
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.watch import Watch


class Runtimes(Protocol):
    """A control plane and its agents, at work in a `World`."""

    async def put_in_force(self, release: Path) -> None:
        """Let the control plane have the signed release in the directory `release`."""
        ...

    async def switch_on(self, hostname: str) -> None:
        """Let a host begin that was off."""
        ...

    def reached(self) -> AbstractAsyncContextManager[str]:
        """Return the context in which the control plane answers over HTTP. Yields its URL."""
        ...

    async def meet_trouble(self, published: Published, watch: Watch, screen: Screen) -> None:
        """Let befall the runtimes what is to befall them while the first release is under way."""
        ...
