"""Calendar arithmetic by example: rules, nights in which clocks are set, and what is left before the end."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Nth, Repeat, Weekday
from nixfleet_state_machine.planner.holds.calendar import freeze_phase, spans, window_phase

BERLIN = "Europe/Berlin"
ZONES = {name: ZoneInfo(name) for name in (BERLIN, "America/New_York", "Australia/Lord_Howe")}
NIGHTLY = CalendarEntry(
    "nightly",
    CalendarKind.ALLOW,
    Selector(all=True),
    BERLIN,
    repeat=Repeat.DAILY,
    start="22:00",
    minutes=120,
)
HOLIDAYS = CalendarEntry(
    "holidays",
    CalendarKind.DENY,
    Selector(all=True),
    BERLIN,
    begins="2026-12-23T18:00",
    ends="2027-01-04T06:00",
)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _begins(entry: CalendarEntry, after: str, count: int = 3) -> list[str]:
    found = spans(entry, ZONES, _utc(after))
    return [f"{next(found).begins:%Y-%m-%d %H:%M}" for _ in range(count)]


def test_a_daily_window_begins_by_the_wall_clock_of_its_zone() -> None:
    """Winter and summer have another instant."""
    assert _begins(NIGHTLY, "2026-03-27 22:30")[:3] == [
        "2026-03-27 21:00",
        "2026-03-28 21:00",
        "2026-03-29 20:00",
    ]


def test_a_start_in_the_gap_of_a_spring_night_moves_on_by_the_gap() -> None:
    """At 02:30 on 2026-03-29 the clocks of Berlin show 03:30."""
    early = evolve(NIGHTLY, start="02:30")
    assert _begins(early, "2026-03-28 12:00", 2) == ["2026-03-29 01:30", "2026-03-30 00:30"]


def test_a_start_in_the_fold_of_an_autumn_night_is_the_first() -> None:
    """02:30 comes twice on 2026-10-25; the window begins once, and lasts its minutes."""
    early = evolve(NIGHTLY, start="02:30")
    first = next(spans(early, ZONES, _utc("2026-10-24 12:00")))
    assert (first.begins, first.ends) == (_utc("2026-10-25 00:30"), _utc("2026-10-25 02:30"))


def test_a_clock_that_is_set_by_half_an_hour_moves_the_start_by_as_much() -> None:
    """Lord Howe puts its clocks forward from 02:00 to 02:30."""
    early = evolve(NIGHTLY, zone="Australia/Lord_Howe", start="02:15")
    first = next(spans(early, ZONES, _utc("2026-10-03 10:00")))
    assert first.begins.astimezone(ZONES["Australia/Lord_Howe"]).strftime("%H:%M") == "02:45"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {"repeat": Repeat.WEEKLY, "days": (Weekday.TUE, Weekday.SAT)},
            ["2026-11-03", "2026-11-07", "2026-11-10"],
        ),
        (
            {"repeat": Repeat.MONTHLY, "month_day": 31},
            ["2026-12-31", "2027-01-31", "2027-03-31"],
        ),
        (
            {"repeat": Repeat.MONTHLY, "nth": Nth.SECOND, "days": (Weekday.TUE,)},
            ["2026-11-10", "2026-12-08", "2027-01-12"],
        ),
        (
            {"repeat": Repeat.MONTHLY, "nth": Nth.LAST, "days": (Weekday.FRI,)},
            ["2026-11-27", "2026-12-25", "2027-01-29"],
        ),
    ],
)
def test_a_rule_comes_on_its_days(rule: dict[str, Any], expected: list[str]) -> None:
    """Weekly by day; monthly by the day of the month, where there is one, or by the nth weekday."""
    entry = evolve(NIGHTLY, **rule)
    assert [text.split()[0] for text in _begins(entry, "2026-11-01 12:00")] == expected


def test_a_rule_ends_with_its_last_date() -> None:
    """The last span begins on the date `until`."""
    entry = evolve(NIGHTLY, until="2026-11-02")
    found = [span.begins.day for span in spans(entry, ZONES, _utc("2026-11-01 12:00"))]
    assert found == [1, 2]


def test_a_window_is_closed_in_good_time_before_its_end() -> None:
    """With 30 minutes needed no host begins in the last 30 minutes."""
    now = _utc("2026-11-01 22:15")
    is_open = window_phase((NIGHTLY,), ZONES, now, 30)
    too_late = window_phase((NIGHTLY,), ZONES, now + timedelta(minutes=15), 30)

    assert (is_open.is_closed, is_open.until) == (False, _utc("2026-11-01 22:30"))
    assert (too_late.is_closed, too_late.until) == (True, _utc("2026-11-02 21:00"))


def test_what_an_entry_needs_itself_comes_before_the_default() -> None:
    """0 is something that is said."""
    entry = evolve(NIGHTLY, minutes_needed=0)
    assert window_phase((entry,), ZONES, _utc("2026-11-01 22:45"), 30).until == _utc(
        "2026-11-01 23:00"
    )


def test_windows_that_touch_are_one() -> None:
    """The time that is needed counts before the end of the later one."""
    later = evolve(NIGHTLY, name="later", start="00:00", minutes=60)
    phase = window_phase((NIGHTLY, later), ZONES, _utc("2026-11-01 22:59"), 30)
    assert (phase.is_closed, phase.until) == (False, _utc("2026-11-01 23:30"))


def test_windows_that_are_open_at_the_same_times_are_one() -> None:
    """Neither comes before the other."""
    twin = evolve(NIGHTLY, name="twin")
    phase = window_phase((NIGHTLY, twin), ZONES, _utc("2026-11-01 21:30"), 30)
    assert (phase.is_closed, phase.until) == (False, _utc("2026-11-01 22:30"))


def test_a_freeze_keeps_hosts_from_beginning_what_would_run_into_it() -> None:
    """It holds from so long before its beginning until its end."""
    phases = [
        freeze_phase(HOLIDAYS, ZONES, _utc(at), 60)
        for at in ("2026-12-23 15:59", "2026-12-23 16:00", "2027-01-04 05:00")
    ]
    assert [(it.is_closed, it.until) for it in phases] == [
        (False, _utc("2026-12-23 16:00")),
        (True, _utc("2027-01-04 05:00")),
        (False, None),
    ]


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [
        ("02:15", "03:00", ("01:15", "02:00")),
        ("02:15", "03:15", ("01:15", "02:15")),
        ("02:15", "03:16", ("01:15", "01:16")),
        ("02:15", "02:45", ("01:15", "01:45")),
        ("01:30", "02:15", ("00:30", "01:15")),
    ],
)
def test_a_range_that_the_clocks_leave_out_lasts_as_long_as_it_says(
    begins: str, ends: str, expected: tuple[str, str]
) -> None:
    """It begins after the minutes that are left out, and is never over before that."""
    night = "2027-03-28"
    entry = evolve(HOLIDAYS, begins=f"{night}T{begins}", ends=f"{night}T{ends}")
    (span,) = spans(entry, ZONES, _utc("2027-01-01 00:00"))

    assert (f"{span.begins:%H:%M}", f"{span.ends:%H:%M}") == expected


def test_a_window_that_is_always_open_has_no_edge() -> None:
    """Days that follow each other without a gap are not walked for ever."""
    always = evolve(NIGHTLY, start="00:00", minutes=24 * 60)
    assert not window_phase((always,), ZONES, _utc("2026-06-01 12:00"), 0).is_closed


def test_a_window_that_is_never_long_enough_never_opens() -> None:
    """A host that needs more than the window has is told that there is no end in sight."""
    phase = window_phase((NIGHTLY,), ZONES, _utc("2026-11-01 22:15"), 200)
    assert (phase.is_closed, phase.until) == (True, None)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"name": "Nightly!"}, "name"),
        ({"start": "24:00"}, "start"),
        ({"start": "9:00"}, "start"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": 24 * 60 + 1}, "minutes"),
        ({"minutes": None}, "minutes"),
        ({"minutes_needed": -1}, "minutes_needed"),
        ({"until": "2026-02-30"}, "until"),
        ({"days": (Weekday.MON,)}, "days"),
        ({"month_day": 3}, "month_day"),
        ({"begins": "2026-01-01T00:00"}, "begins"),
        ({"repeat": Repeat.WEEKLY}, "days"),
        ({"repeat": Repeat.MONTHLY}, "month_day"),
        ({"repeat": Repeat.MONTHLY, "month_day": 32}, "month_day"),
        ({"repeat": Repeat.MONTHLY, "nth": Nth.LAST}, "days"),
        ({"repeat": None}, "start"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused_by_the_field(
    wrong: dict[str, Any], path: str
) -> None:
    """Each problem has the name of its field."""
    with pytest.raises(InvalidValue) as refused:
        evolve(NIGHTLY, **wrong)
    assert path in {problem.path for problem in refused.value.problems}


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    """By the wall clock."""
    with pytest.raises(InvalidValue, match="ends: expected a time after 2026-12-23T18:00"):
        evolve(HOLIDAYS, ends="2026-12-23T18:00")


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("ends", {"ends": "9999-12-31T23:59"}),
        ("begins", {"begins": "0001-01-01T00:00"}),
    ],
)
def test_a_freeze_for_ever_is_refused(path: str, change: dict[str, Any]) -> None:
    """Such a time has no instant in every zone: the declaration says so, and not the control plane at each poll."""
    with pytest.raises(InvalidValue) as refused:
        evolve(HOLIDAYS, **change)

    assert [problem.path for problem in refused.value.problems] == [path]
    assert "a year from 1970 to 2999" in str(refused.value)


def test_a_rule_without_end_is_written_without_one() -> None:
    """A last date beyond the years is refused too."""
    with pytest.raises(InvalidValue, match="until: expected a year from 1970 to 2999"):
        evolve(NIGHTLY, until="9999-12-31")
