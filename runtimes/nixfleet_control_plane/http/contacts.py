"""When each host was last heard, and what its clock showed then. In memory, by the clock that checks signatures.

A host's clock is read from the time in its request's signature, in whole seconds; the request's way counts as the
clock being behind. Only authenticated requests count: a clock that is off by more than the signature's window is
refused, and shows in the agent's log alone.
Source: docs/spec/wire.md, Operator calls.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from nixfleet_state_machine.planner.passing_time import SILENT_AFTER

HEARD_RECENTLY: Final = timedelta(minutes=10)
"""Hosts that were not heard for longer do not count in the fleet's metric."""

_LONG_PAST: Final = -1


@frozen
class Contact:
    """A request of a host. skew_seconds: how far the host's clock was ahead; negative if it was behind."""

    at: datetime
    skew_seconds: int


class Contacts:
    """The last request of each host."""

    def __init__(self) -> None:
        self._last: dict[str, Contact] = {}
        # Hosts by the minute of their last request: counting the silent ones walks over minutes, not over hosts.
        self._by_minute = Counter[int]()

    def heard(self, hostname: str, created: int, now: datetime) -> None:
        """Note a request of `hostname`, which was authenticated; created: the time in its signature."""
        before = self._last.get(hostname)
        if before is not None:
            self._by_minute[self._minute_of(before)] -= 1
        self._last[hostname] = Contact(now, created - int(now.timestamp()))
        self._by_minute[_minute(now)] += 1

    def last(self, hostname: str) -> Contact | None:
        """Return the last request of `hostname`; `None` if there was none since the start."""
        return self._last.get(hostname)

    def silent(self, now: datetime) -> int:
        """Return how many hosts were heard since the start, but not for SILENT_AFTER, to the minute. O(1).

        Minutes that are long past are counted together, so there are few.
        """
        silent_before = _minute(now - SILENT_AFTER)
        for minute in [it for it in self._by_minute if it != _LONG_PAST and it < silent_before]:
            self._by_minute[_LONG_PAST] += self._by_minute.pop(minute)
        return self._by_minute[_LONG_PAST]

    def _minute_of(self, contact: Contact) -> int:
        minute = _minute(contact.at)
        return minute if minute in self._by_minute else _LONG_PAST

    def skew_seconds_max(self, now: datetime) -> int:
        """Return by how much the worst clock of the hosts that were heard recently is off."""
        recent = (each for each in self._last.values() if now - each.at <= HEARD_RECENTLY)
        return max((abs(each.skew_seconds) for each in recent), default=0)


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60
