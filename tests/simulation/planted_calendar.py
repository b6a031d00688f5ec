"""Bugs planted in windows, freezes and holds with an end.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every seventh seed
has a calendar.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_control_plane.engine import engine, rollout_course
from nixfleet_proto.policy import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Repeat
from nixfleet_simulation.scenario.acts import Release
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario
from nixfleet_state_machine.planner.holds import calendar, edges
from nixfleet_state_machine.planner.holds.calendar import Phase, Span
from tests.simulation.planted import Plant
from tests.simulation.planted_directed import Directed


def ignores_windows(patch: pytest.MonkeyPatch) -> None:
    """A fleet with windows begins at any time."""
    patch.setattr(edges, "window_phase", lambda entries, *_: Phase(False, None, entries[0]))


def takes_wall_clocks_for_utc(patch: pytest.MonkeyPatch) -> None:
    """The zone of an entry is not looked at."""
    patch.setattr(calendar, "instant", lambda wall, zone: wall.replace(tzinfo=UTC))


def takes_the_second_of_two_hours(patch: pytest.MonkeyPatch) -> None:
    """In the night in which clocks are put back, entries begin an hour late."""

    def second(wall: datetime, zone: tzinfo) -> datetime:
        return wall.replace(tzinfo=zone, fold=1).astimezone(UTC)

    patch.setattr(calendar, "instant", second)


def lasts_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """An entry ends when the wall clock shows its minutes later, an hour too early or too late in two nights."""
    walls = calendar._walls

    def by_wall(entry: CalendarEntry, zone: tzinfo, after: datetime) -> Any:
        for begins, ends in walls(entry, zone, after - timedelta(hours=2)):
            wall = begins.astimezone(zone).replace(tzinfo=None)
            yield (
                begins,
                calendar.instant(wall + timedelta(minutes=entry.minutes or 0), zone)
                if (entry.repeat)
                else ends,
            )

    patch.setattr(calendar, "_walls", by_wall)


def ends_freezes_early(patch: pytest.MonkeyPatch) -> None:
    """The last five minutes of a freeze are none."""
    spans = calendar.spans

    def shorter(entry: CalendarEntry, zones: Any, after: datetime) -> Any:
        for span in spans(entry, zones, after):
            ends = span.ends - timedelta(minutes=5)
            if entry.kind.value == "allow" or ends > after:
                yield span if entry.kind.value == "allow" else span._replace(ends=ends)

    patch.setattr(calendar, "spans", shorter)


def begins_until_the_last_minute(patch: pytest.MonkeyPatch) -> None:
    """What a switch needs is not left before the end of a window, or before a freeze."""
    patch.setattr(calendar, "_needed", lambda *_: 0)


def takes_windows_that_touch_for_two(patch: pytest.MonkeyPatch) -> None:
    """Between two windows that overlap hosts wait for what is needed before the end of the first."""

    def apart(found: Sequence[Span], horizon: datetime) -> Any:
        for span in found:
            yield span
            if span.begins >= horizon:
                return

    patch.setattr(calendar, "joined", apart)


def opens_windows_for_good(patch: pytest.MonkeyPatch) -> None:
    """Nothing looks at a calendar after it was put in force."""
    patch.setattr(
        rollout_course,
        "calendar_events",
        lambda *given: edges.calendar_events(*given)._replace(next_at=None),
    )


def forgets_that_clocks_are_set_back(patch: pytest.MonkeyPatch) -> None:
    """A window that opened by a clock that was ahead stays open once that is right."""

    def is_due(state: Any, now: datetime) -> bool:
        due = state.calendar_due.get()
        return due is not None and due <= now

    patch.setattr(rollout_course, "is_calendar_due", is_due)
    patch.setattr(engine, "is_calendar_due", is_due)


def takes_unknown_zones_for_no_calendar(patch: pytest.MonkeyPatch) -> None:
    """A calendar that cannot be read permits everything."""
    phases = edges._phases

    def trusting(group: Any, zones: Any, now: datetime) -> Any:
        known = tuple(each for each in group.entries if each.zone in zones)
        return phases(evolve(group, entries=known), zones, now)

    patch.setattr(edges, "_phases", trusting)


def never_ends_holds(patch: pytest.MonkeyPatch) -> None:
    """The end of a hold means nothing."""
    patch.setattr(rollout_course, "due_hold_events", lambda *_: ())


def _window(name: str, start: str, minutes: int) -> CalendarEntry:
    return CalendarEntry(
        name,
        CalendarKind.ALLOW,
        Selector(all=True),
        "UTC",
        repeat=Repeat.DAILY,
        start=start,
        minutes=minutes,
        minutes_needed=20,
    )


_OVERLAPPING: Final = Scenario(
    1,
    (ChannelLayout("stable", (("host-01",),), soak_minutes=0),),
    (Release(900, "stable", "r1", ""),),
    1800,
    calendar=(_window("first", "00:00", 30), _window("second", "00:20", 60)),
)
"""A release that comes when the first window is as good as over, and the second has not begun."""

DIRECTED_IN_CALENDARS: Final[Mapping[str, Directed]] = {
    "takes_windows_that_touch_for_two": Directed(takes_windows_that_touch_for_two, _OVERLAPPING)
}

PLANTED_IN_CALENDARS: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        ignores_windows,
        takes_wall_clocks_for_utc,
        takes_the_second_of_two_hours,
        lasts_by_the_wall_clock,
        ends_freezes_early,
        begins_until_the_last_minute,
        opens_windows_for_good,
        forgets_that_clocks_are_set_back,
        takes_unknown_zones_for_no_calendar,
        never_ends_holds,
    )
}

FOUND_BY_IN_CALENDARS: Final[Mapping[str, int]] = {
    "ignores_windows": 6,
    "takes_wall_clocks_for_utc": 6,
    "takes_the_second_of_two_hours": 6,
    "lasts_by_the_wall_clock": 34,
    "ends_freezes_early": 6,
    "begins_until_the_last_minute": 69,
    "opens_windows_for_good": 6,
    "forgets_that_clocks_are_set_back": 20,
    "takes_unknown_zones_for_no_calendar": 6,
    "never_ends_holds": 6,
}
"""As `planted.FOUND_BY`."""
