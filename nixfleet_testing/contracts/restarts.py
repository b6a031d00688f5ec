"""A port with something durable behind it, as one process after the other opens it on the same directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A port that can be closed."""

    def close(self) -> None: ...


PortT = TypeVar("PortT", bound=Closable)


class Restarts(Generic[PortT]):
    """Opens a port again and again, after an orderly end or after a crash."""

    def __init__(self, opener: Callable[[Path], PortT], directory: Path) -> None:
        self._opener = opener
        self._directory = directory
        # A process that crashed does nothing more: nothing it left behind may be collected, and finished by that.
        self._opened: list[PortT] = []

    def start(self) -> PortT:
        """Open the port as a new process does."""
        port = self._opener(self._directory)
        self._opened.append(port)
        return port

    def crash(self) -> PortT:
        """Open the port as the next process does after the one that has it has crashed."""
        return self.start()

    def restart(self) -> PortT:
        """Open the port as the next process does after the one that has it has closed it."""
        self._opened.pop().close()
        return self.start()

    def close(self) -> None:
        """Close every port that is still open."""
        for port in reversed(self._opened):
            port.close()
