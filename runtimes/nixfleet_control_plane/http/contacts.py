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
    """The last request of each host. since: when the first one could have come."""

    def __init__(self, since: datetime) -> None:
        self.since = since
        self._last: dict[str, Contact] = {}
        # Hosts by the minute of their last request, and by how far their clocks were off: what is asked of all walks
        # over minutes and seconds, of which a signature allows few, and not over hosts.
        self._by_minute: dict[int, Counter[int]] = {_LONG_PAST: Counter()}

    def heard(self, hostname: str, created: int, now: datetime) -> None:
        """Note a request of `hostname`, which was authenticated; created: the time in its signature."""
        before = self._last.get(hostname)
        if before is not None:
            self._by_minute[self._minute_of(before)][abs(before.skew_seconds)] -= 1
        contact = Contact(now, created - int(now.timestamp()))
        self._last[hostname] = contact
        self._by_minute.setdefault(_minute(now), Counter())[abs(contact.skew_seconds)] += 1

    def last(self, hostname: str) -> Contact | None:
        """Return the last request of `hostname`; `None` if there was none since the start."""
        return self._last.get(hostname)

    def is_silent(self, hostname: str, now: datetime) -> bool:
        """Return whether the host was not heard of for SILENT_AFTER; one that never was counts from the start."""
        contact = self._last.get(hostname)
        return now - (self.since if contact is None else contact.at) > SILENT_AFTER

    def silent(self, now: datetime) -> int:
        """Return how many hosts were heard since the start, but not for SILENT_AFTER, to the minute. O(1).

        Minutes that are long past are counted together, so there are few.
        """
        self._forget_minutes_before(_minute(now - HEARD_RECENTLY))
        silent_before = _minute(now - SILENT_AFTER)
        return sum(
            count.total() for minute, count in self._by_minute.items() if minute < silent_before
        )

    def _forget_minutes_before(self, first: int) -> None:
        for minute in [it for it in self._by_minute if it != _LONG_PAST and it < first]:
            self._by_minute[_LONG_PAST].update(self._by_minute.pop(minute))

    def _minute_of(self, contact: Contact) -> int:
        minute = _minute(contact.at)
        return minute if minute in self._by_minute else _LONG_PAST

    def skew_seconds_max(self, now: datetime) -> int:
        """Return by how much the worst clock of the hosts that were heard recently, to the minute, is off. O(1)."""
        first = _minute(now - HEARD_RECENTLY)
        self._forget_minutes_before(first)
        recent = (count for minute, count in self._by_minute.items() if minute >= first)
        return max((skew for count in recent for skew in +count), default=0)


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


def heard(contact: Contact | None) -> tuple[datetime | None, int | None, int | None]:
    """Return when it was, and how far the clock was ahead and behind; `None`: it is not known."""
    if contact is None:
        return None, None, None
    return contact.at, max(contact.skew_seconds, 0), max(-contact.skew_seconds, 0)
