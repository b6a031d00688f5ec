"""When each host was last heard, and what its clock showed then. In memory, by the clock that checks signatures.

A host's clock is read from the time in its request's signature, in whole seconds; the request's way counts as the
clock being behind. Only authenticated requests count: a clock that is off by more than the signature's window is
refused, and shows in the agent's log alone.
Source: docs/spec/wire.md, Operator calls.
"""

from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

HEARD_RECENTLY: Final = timedelta(minutes=10)
"""Hosts that were not heard for longer do not count in the fleet's metric."""


@frozen
class Contact:
    """A request of a host. skew_seconds: how far the host's clock was ahead; negative if it was behind."""

    at: datetime
    skew_seconds: int


class Contacts:
    """The last request of each host."""

    def __init__(self) -> None:
        self._last: dict[str, Contact] = {}

    def heard(self, hostname: str, created: int, now: datetime) -> None:
        """Note a request of `hostname`, which was authenticated; created: the time in its signature."""
        self._last[hostname] = Contact(now, created - int(now.timestamp()))

    def last(self, hostname: str) -> Contact | None:
        """Return the last request of `hostname`; `None` if there was none since the start."""
        return self._last.get(hostname)

    def skew_seconds_max(self, now: datetime) -> int:
        """Return by how much the worst clock of the hosts that were heard recently is off."""
        recent = (each for each in self._last.values() if now - each.at <= HEARD_RECENTLY)
        return max((abs(each.skew_seconds) for each in recent), default=0)
