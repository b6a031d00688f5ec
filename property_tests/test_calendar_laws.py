"""Laws of windows and freezes: two calendars agree on every minute, and edges are where the answer changes.

Source: docs/spec/holds.md, Calendar.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from nixfleet_proto.fleet import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Nth, Repeat, Weekday
from nixfleet_state_machine.planner.holds.calendar import Phase, freeze_phase, window_phase
from tests.holds.minute_calendar import MINUTE, Watch, frozen_minutes, open_minutes

NIGHTS = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    # By half an hour.
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),
    # At midnight: a day without its first hour, and one with two of its last.
    "America/Sao_Paulo": ("2018-02-18", "2018-11-04"),
}
"""Zones, and nights in which their clocks are set."""
ZONES = {name: ZoneInfo(name) for name in NIGHTS}
_WATCHED_DAYS = 12
_MINUTES = _WATCHED_DAYS * 24 * 60
_LASTS_MAX = 3 * 24 * 60


@cache
def _watch(zone: str, night: datetime) -> Watch:
    """Watch some days about the night, from long enough before for all that still goes on."""
    begin = night - timedelta(days=_WATCHED_DAYS // 2)
    return Watch(ZONES[zone], begin, _MINUTES)


def _midnight(date: str) -> datetime:
    return datetime.fromisoformat(date).replace(tzinfo=UTC)


@st.composite
def _clock_times(draw: st.DrawFn) -> str:
    """Most of them at night, where clocks are set."""
    hour = draw(st.sampled_from((0, 0, 1, 2, 2, 2, 3, 9, 22, 23)))
    return f"{hour:02}:{draw(st.sampled_from((0, 15, 30, 59))):02}"


@st.composite
def _entries(
    draw: st.DrawFn, zone: str, night: datetime, kind: CalendarKind, needed: int | None
) -> CalendarEntry:
    fields: dict[str, Any] = {
        "name": draw(st.sampled_from(("a", "b", "c"))),
        "kind": kind,
        "selector": Selector(all=True),
        "zone": zone,
        "minutes_needed": needed,
    }
    repeat = draw(st.sampled_from((None, *Repeat)))
    if repeat is None:
        day = draw(st.integers(-1, 1))
        begins = night + timedelta(days=day)
        ends = begins + timedelta(days=draw(st.integers(0, 2)))
        walls = sorted(f"{each:%Y-%m-%d}T{draw(_clock_times())}" for each in (begins, ends))
        assume(walls[0] < walls[1])
        return CalendarEntry(**fields, begins=walls[0], ends=walls[1])
    minutes = draw(st.sampled_from((1, 30, 60, 90, 600, 1440, _LASTS_MAX)))
    fields |= {
        "repeat": repeat,
        "start": draw(_clock_times()),
        "minutes": min(minutes, repeat.minutes),
    }
    if draw(st.booleans()):
        fields["until"] = f"{night + timedelta(days=draw(st.integers(-2, 2))):%Y-%m-%d}"
    days = st.lists(st.sampled_from(Weekday), min_size=1, max_size=3, unique=True)
    if repeat is Repeat.WEEKLY:
        fields["days"] = tuple(draw(days))
    elif repeat is Repeat.MONTHLY and draw(st.booleans()):
        fields |= {
            "nth": draw(st.sampled_from(Nth)),
            "days": (draw(st.sampled_from(Weekday)),),
        }
    elif repeat is Repeat.MONTHLY:
        fields["month_day"] = draw(st.sampled_from((1, 3, 4, 8, 18, 25, 29, 31)))
    return CalendarEntry(**fields)


_PLACES = st.sampled_from(
    [(zone, _midnight(date)) for zone, dates in NIGHTS.items() for date in dates]
)


def _asked(data: st.DataObject) -> int:
    """Draw a minute of the three days about the night, as `Watch` counts: all that counts for it was watched."""
    return _MINUTES // 2 + data.draw(st.integers(-36 * 60, 36 * 60))


def _agrees(phase: Phase, closed: list[bool], asked: int, watch: Watch) -> None:
    """The answer, and the minute at which it changes next, as far as was watched."""
    assert phase.is_closed is closed[asked]
    # Near the end of what was watched, what comes afterwards counts too.
    last = watch.count - 2 * 24 * 60
    change = next((it for it in range(asked, last) if closed[it] is not closed[asked]), None)
    if change is None:
        assert phase.until is None or phase.until >= watch.begin + last * MINUTE
    else:
        assert phase.until == watch.begin + change * MINUTE


@given(_PLACES, st.data(), st.sampled_from((0, 0, 30, 200)))
def test_a_freeze_holds_in_the_minutes_in_which_another_calendar_says_so(
    place: tuple[str, datetime], data: st.DataObject, needed: int
) -> None:
    """In nights in which the clock is set, over midnight, and over the ends of months."""
    own = data.draw(st.sampled_from((None, 0, 45)))
    entry = data.draw(_entries(*place, CalendarKind.DENY, own))
    asked, watch = _asked(data), _watch(*place)

    phase = freeze_phase(entry, ZONES, watch.begin + asked * MINUTE, needed)
    frozen = frozen_minutes(entry, needed if own is None else own, watch)
    _agrees(phase, frozen, asked, watch)


@given(_PLACES, st.data(), st.sampled_from((0, 0, 30, 200)))
def test_windows_are_open_in_the_minutes_in_which_another_calendar_says_so(
    place: tuple[str, datetime], data: st.DataObject, needed: int
) -> None:
    """Of one to three windows, which may overlap, touch, or be too short for what is needed."""
    own = data.draw(st.sampled_from((None, 0, 45)))
    some = st.lists(_entries(*place, CalendarKind.ALLOW, own), min_size=1, max_size=3)
    entries = data.draw(some)
    asked, watch = _asked(data), _watch(*place)

    phase = window_phase(entries, ZONES, watch.begin + asked * MINUTE, needed)
    is_open = open_minutes(entries, needed if own is None else own, watch)
    _agrees(phase, [not each for each in is_open], asked, watch)
