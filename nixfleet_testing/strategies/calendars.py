"""Strategies of windows and freezes: of every rule, in zones whose clocks are set and in one whose are not."""

from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.fleet import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Nth, Repeat, Weekday
from nixfleet_state_machine.planner.holds.calendar import Phase
from nixfleet_state_machine.planner.holds.groups import CalendarGroup, ChannelCalendar
from nixfleet_testing.strategies.holds import hold_scopes
from nixfleet_testing.strategies.names import times

_CLOCK_TIMES = st.sampled_from(("00:00", "02:30", "22:00"))
_DATES = st.none() | st.sampled_from(("2026-05-17", "2027-01-01"))
_SELECTORS = st.sampled_from(
    (Selector(all=True), Selector(channel="stable"), Selector(hosts=("web-01",)))
)


@st.composite
def calendar_entries(draw: st.DrawFn) -> CalendarEntry:
    """Entries of every rule."""
    repeat = draw(st.sampled_from((None, *Repeat)))
    is_by_nth = repeat is Repeat.MONTHLY and draw(st.booleans())
    days: tuple[Weekday, ...] = ()
    if repeat is Repeat.WEEKLY or is_by_nth:
        most = 1 if is_by_nth else 3
        some = st.lists(st.sampled_from(Weekday), min_size=1, max_size=most, unique=True)
        days = tuple(draw(some))
    return CalendarEntry(
        name=draw(st.sampled_from(("nightly", "holidays"))),
        kind=draw(st.sampled_from(CalendarKind)),
        selector=draw(_SELECTORS),
        zone=draw(st.sampled_from(("UTC", "Europe/Berlin", "Australia/Lord_Howe"))),
        reason=draw(st.sampled_from(("", "people sleep"))),
        repeat=repeat,
        start=draw(_CLOCK_TIMES) if repeat else None,
        minutes=draw(st.sampled_from((1, 60, 1440))) if repeat else None,
        days=days,
        month_day=31 if repeat is Repeat.MONTHLY and not is_by_nth else None,
        nth=draw(st.sampled_from(Nth)) if is_by_nth else None,
        until=draw(_DATES) if repeat else None,
        begins=None if repeat else f"2026-05-16T{draw(_CLOCK_TIMES)}",
        ends=None if repeat else f"2026-05-18T{draw(_CLOCK_TIMES)}",
        minutes_needed=draw(st.none() | st.sampled_from((0, 30))),
    )


def calendars() -> SearchStrategy[tuple[CalendarEntry, ...]]:
    """Up to two entries, each with a name of its own; mostly none."""
    some = st.lists(calendar_entries(), max_size=2, unique_by=lambda entry: entry.name)
    return st.just(()) | some.map(tuple)


CALENDARS: Mapping[type[object], SearchStrategy[object]] = {
    CalendarEntry: calendar_entries(),
    CalendarGroup: st.builds(CalendarGroup, hold_scopes(), calendars()),
    ChannelCalendar: st.builds(ChannelCalendar, st.just(())),
    Phase: st.builds(Phase, st.booleans(), st.none() | times(), calendar_entries()),
}
