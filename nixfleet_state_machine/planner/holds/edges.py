"""What becomes of holds by the passing of time: a sibling of `passing_time`, for holds.

The one place that looks at a calendar with a clock. Each event is in the log, and gates look at holds alone: a replay
needs no clock and no time-zone data, and other time-zone data show as rows of the log.
Source: docs/spec/holds.md, Time.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_state_machine.planner.holds.calendar import (
    Phase,
    Zones,
    freeze_phase,
    window_phase,
)
from nixfleet_state_machine.planner.holds.groups import CalendarGroup
from nixfleet_state_machine.planner.holds.hold import (
    Hold,
    HoldBegan,
    HoldEnded,
    HoldEvent,
    HoldKind,
    HoldSource,
)
from nixfleet_state_machine.planner.holds.index import HoldIndex

LOOK_AGAIN: Final = timedelta(days=1)
"""When a calendar is looked at again that names no edge of an entry within its horizon: by then one may be nearer."""


class CalendarEvents(NamedTuple):
    """What a calendar makes due now, and when it is to be looked at again; `None`: there is nothing to look at."""

    events: tuple[HoldEvent, ...]
    next_at: datetime | None


def due_hold_events(holds: HoldIndex, now: datetime) -> Iterator[HoldEvent]:
    """Yield the holds that end because their time is over, in order of their ends. None is due twice."""
    for hold in tuple(holds.ended(now)):
        # A wave's own time is not in the log: it is signed in the manifest, and judged again at each plan.
        if not hold.source.kind.is_derived and not hold.source.kind.is_by_calendar:
            yield HoldEnded(hold.scope, hold.source)


def calendar_events(
    holds: HoldIndex, groups: Iterable[CalendarGroup], zones: Zones, now: datetime
) -> CalendarEvents:
    """Return what makes the holds by calendars those that `groups` ask for at `now`. Costs entries, not hosts."""
    wanted: dict[tuple[str, str], Hold] = {}
    edges: list[datetime] = []
    for group in groups:
        for source, phase, zone in _phases(group, zones, now):
            edges.append(now + LOOK_AGAIN if phase.until is None else phase.until)
            if phase.is_closed:
                reason = _reason(phase, zone)
                hold = Hold(group.scope, source, reason, phase.until)
                wanted[str(group.scope), str(source)] = hold
    present = {
        (str(hold.scope), str(hold.source)): hold
        for hold in holds
        if hold.source.kind.is_by_calendar
    }
    ended = (HoldEnded(*present[key].key) for key in sorted(present.keys() - wanted.keys()))
    began = (
        HoldBegan(hold)
        for key, hold in sorted(wanted.items())
        if key not in present or _differs(present[key], hold)
    )
    return CalendarEvents((*ended, *began), min(edges, default=None))


def calendar_changes(
    group: CalendarGroup, zones: Zones, now: datetime
) -> Iterator[tuple[datetime, HoldSource]]:
    """Yield when freezes and windows that are not on begin to hold the hosts of a group next. Costs entries."""
    for source, phase, _ in _phases(group, zones, now):
        if phase.until is not None and not phase.is_closed:
            yield phase.until, source


def _phases(
    group: CalendarGroup, zones: Zones, now: datetime
) -> Iterator[tuple[HoldSource, Phase, tzinfo | None]]:
    for entry in group.freezes:
        source = HoldSource(HoldKind.FREEZE, entry.name)
        if entry.zone in zones:
            phase = freeze_phase(entry, zones, now, group.minutes_needed)
            yield source, phase, zones[entry.zone]
        else:
            yield source, Phase(True, None, entry), None
    if group.windows:
        source = HoldSource(HoldKind.WINDOW, "+".join(sorted(it.name for it in group.windows)))
        unknown = [entry for entry in group.windows if entry.zone not in zones]
        if unknown:
            yield source, Phase(True, None, unknown[0]), None
        else:
            phase = window_phase(group.windows, zones, now, group.minutes_needed)
            yield source, phase, zones[phase.entry.zone]


def _reason(phase: Phase, zone: tzinfo | None) -> str:
    """Return until when, by the entry's own clock, and why."""
    entry = phase.entry
    if zone is None:
        return (
            f"its time zone {entry.zone} is not known here, so nothing begins: install tzdata, "
            "or release a calendar without it"
        )
    until = "with no end in sight"
    if phase.until is not None:
        until = f"until {local_time(phase.until, zone, entry)}"
    return f"{until}: {entry.reason}" if entry.reason else until


def local_time(at: datetime, zone: tzinfo, entry: CalendarEntry) -> str:
    """Return an instant as people of the entry's zone read it: `2026-12-01 22:00 Europe/Berlin`."""
    return f"{at.astimezone(UTC).astimezone(zone):%Y-%m-%d %H:%M} {entry.zone}"


def _differs(present: Hold, wanted: Hold) -> bool:
    return (present.reason, present.until) != (wanted.reason, wanted.until)
