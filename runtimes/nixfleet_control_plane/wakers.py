"""Waiting polls, by host. There may be thousands, so none has a task or an event of its own.

A poll waits inside a cancel scope, and is woken by cancelling the scope. It then asks again for its dispatch.
"""

import anyio


class Wakers:
    """The cancel scopes of polls that wait or are about to."""

    def __init__(self) -> None:
        self._of: dict[str, list[anyio.CancelScope]] = {}

    def add(self, hostname: str) -> anyio.CancelScope:
        """Return a scope that is cancelled when the host is woken, even if it has not been entered yet."""
        scope = anyio.CancelScope()
        self._of.setdefault(hostname, []).append(scope)
        return scope

    def discard(self, hostname: str, scope: anyio.CancelScope) -> None:
        """Remove a scope, if it has not been woken."""
        scopes = self._of.get(hostname, [])
        if scope in scopes:
            scopes.remove(scope)
        if not scopes:
            self._of.pop(hostname, None)

    def __len__(self) -> int:
        """Return how many polls wait."""
        return sum(map(len, self._of.values()))

    def wake(self, hostname: str) -> None:
        """Wake the polls of the host."""
        for scope in self._of.pop(hostname, ()):
            scope.cancel()

    def wake_all(self) -> None:
        """Wake all polls."""
        for hostname in tuple(self._of):
            self.wake(hostname)
