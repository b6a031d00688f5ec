"""Warnings about calendars that are valid, and do something else than they seem to. Pure.

Source: docs/spec/holds.md, Calendar.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Final, TypeAlias

from attrs import frozen

from nixfleet_proto.fleet import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind
from nixfleet_release.check.rules.calendar import ZONES, groups_of, spans_until
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import at
from nixfleet_state_machine.planner.holds.calendar import instant, wall_times, window_phase
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.selector import enabled_hosts

_EVERYBODY: Final = Selector(all=True)
_YEAR: Final = timedelta(days=366)
_FIVE_WEEKS: Final = timedelta(days=35)
# Without a time, any that is the same each time: what is said must not depend on the day of the check.
_LOOKED_FROM: Final = datetime(2027, 1, 1, tzinfo=UTC)


@frozen
class StartsInGap:
    """A warning: in the night of `date` the clocks of the zone are put forward over the start."""

    path: str
    date: str
    shown: str
    zone: str

    def __str__(self) -> str:
        over = f"on {self.date} the clocks of {self.zone} are put forward over it"
        return f"{self.path}: {over}, and it begins at {self.shown}"


@frozen
class WindowsOverlap:
    """A warning: two windows of the same hosts are open at once, which one window could say."""

    path: str
    name: str
    other: str
    since: datetime

    def __str__(self) -> str:
        return f"{self.path}: the windows {self.name} and {self.other} overlap, from {self.since:%Y-%m-%d %H:%M}Z on"


@frozen
class OpensTooLate:
    """A warning: none of these hosts, such as `channel stable`, begins before what is signed now has expired."""

    path: str
    who: str
    opens_at: datetime | None
    freshness_minutes: int

    def __str__(self) -> str:
        when = "never" if self.opens_at is None else f"not before {self.opens_at:%Y-%m-%d %H:%M}Z"
        return (
            f"{self.path}: the windows of {self.who} open {when}, and what is signed now is fresh for "
            f"{self.freshness_minutes} minutes: sign it again until then"
        )


CalendarWarning: TypeAlias = StartsInGap | WindowsOverlap | OpensTooLate


def calendar_cautions(fleet: FleetDeclaration, now: datetime | None) -> Iterator[CalendarWarning]:
    """Yield the warnings about the calendar of a valid fleet. now: `None`: nothing is said that depends on it."""
    entries = [declared.entry(_EVERYBODY) for declared in fleet.calendar]
    for index, entry in enumerate(entries):
        begins = "begins" if entry.repeat is None else "start"
        yield from _gaps(at(at("calendar", index), begins), entry)
    yield from _overlaps(fleet, entries)
    if now is not None:
        for channel in sorted(fleet.channels):
            yield from _late(fleet, channel, entries, now)


def _gaps(path: str, entry: CalendarEntry) -> Iterator[StartsInGap]:
    zone = ZONES[entry.zone]
    for wall in wall_times(entry, _LOOKED_FROM, zone):
        # A range comes once, whenever that is.
        if entry.repeat is not None and wall.replace(tzinfo=UTC) > _LOOKED_FROM + _YEAR:
            return
        shown = instant(wall, zone).astimezone(zone).replace(tzinfo=None, fold=0)
        if shown != wall:
            yield StartsInGap(path, f"{wall:%Y-%m-%d}", f"{shown:%H:%M}", entry.zone)
            return


def _overlaps(fleet: FleetDeclaration, entries: list[CalendarEntry]) -> Iterator[WindowsOverlap]:
    hosts = enabled_hosts(fleet.hosts, fleet.channels)
    windows = [index for index, it in enumerate(entries) if it.kind is CalendarKind.ALLOW]
    selected = {
        index: set(hosts) if declared is None else set(meant(declared.expression, hosts))
        for index in windows
        for declared in (fleet.calendar[index].selector,)
    }
    for one, other in combinations(windows, 2):
        if selected[one].isdisjoint(selected[other]):
            continue
        until = _LOOKED_FROM + _FIVE_WEEKS
        spans = [list(spans_until(entries[it], _LOOKED_FROM, until)) for it in (one, other)]
        since = min(
            (
                max(first.begins, second.begins)
                for first in spans[0]
                for second in spans[1]
                if first.begins < second.ends and second.begins < first.ends
            ),
            default=None,
        )
        if since is not None:
            path = at("calendar", other)
            yield WindowsOverlap(path, entries[one].name, entries[other].name, since)


def _late(
    fleet: FleetDeclaration, channel: str, entries: list[CalendarEntry], now: datetime
) -> Iterator[OpensTooLate]:
    """Yield a warning for the groups of a channel whose windows open too late, each window once."""
    declared = fleet.channels[channel]
    activation = fleet.policies[declared.rollout_policy].deadlines.activation
    needed = 0 if activation is None else activation.minutes
    fresh_until = now + timedelta(minutes=declared.freshness_window)
    warned: set[int] = set()
    for group in groups_of(fleet, channel, range(len(entries))):
        windows = [it for it in group.entries if entries[it].kind is CalendarKind.ALLOW]
        if not windows or windows[0] in warned:
            continue
        phase = window_phase([entries[index] for index in windows], ZONES, now, needed)
        if phase.is_closed and (phase.until is None or phase.until >= fresh_until):
            warned.add(windows[0])
            path = at("calendar", windows[0])
            yield OpensTooLate(path, group.who, phase.until, declared.freshness_window)
