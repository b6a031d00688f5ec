"""Who waits for something, by host. There may be thousands, so nobody has a task or an event to wait with.

Who waits does so in a cancel scope, and is woken by its end. What came is for them to ask.
"""

import anyio


class Wakers:
    """The scopes in which somebody waits, or is about to."""

    def __init__(self) -> None:
        self._of: dict[str, list[anyio.CancelScope]] = {}

    def add(self, hostname: str) -> anyio.CancelScope:
        """Return a scope that ends when the host is woken, even if nobody has entered it yet."""
        scope = anyio.CancelScope()
        self._of.setdefault(hostname, []).append(scope)
        return scope

    def discard(self, hostname: str, scope: anyio.CancelScope) -> None:
        """Forget a scope, if it has not been woken."""
        scopes = self._of.get(hostname, [])
        if scope in scopes:
            scopes.remove(scope)
        if not scopes:
            self._of.pop(hostname, None)

    def wake(self, hostname: str) -> None:
        """End what waits for the host."""
        for scope in self._of.pop(hostname, ()):
            scope.cancel()

    def wake_all(self) -> None:
        """End whatever waits."""
        for hostname in tuple(self._of):
            self.wake(hostname)
