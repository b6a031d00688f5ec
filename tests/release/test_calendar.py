"""Windows and freezes: how they are declared, what they become, what is refused and what is warned of."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nixfleet_proto.codec import DecodeError, decode_fleet, encode_fleet
from nixfleet_proto.fleet import FleetResolved, Meta, Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Nth, Repeat, Weekday
from nixfleet_release import CheckedFleet, DeclarationError, Fleet
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.calendar_cautions import OpensTooLate, StartsInGap, WindowsOverlap
from nixfleet_release.check.rules.calendar import ZONES
from nixfleet_state_machine.planner.holds.words import entry_words

Checked = Callable[[str], CheckedFleet]

META = Meta(signed_at=datetime(2026, 5, 16, 1, tzinfo=UTC))
FLEET = """
[channels.stable]
policy = "steady"
[policies.steady]
[hosts.web-01]
channel = "stable"
tags = ["eu"]
[hosts.web-02]
channel = "stable"
"""
NIGHTLY = """
[[calendar]]
name = "nightly"
kind = "allow"
zone = "Europe/Berlin"
repeat = "weekly"
days = ["mon", "thu"]
start = 22:00:00
minutes = 480
until = 2027-06-30
reason = "people sleep"
minutes_needed = 45
"""
HOLIDAYS = """
[[calendar]]
name = "holidays"
kind = "deny"
selector = "tags:eu"
zone = "Europe/Berlin"
begins = 2026-12-23T18:00:00
ends = "2027-01-04 06:00"
"""


def _resolved(checked: Checked, calendar: str) -> FleetResolved:
    declared = checked(FLEET + calendar)
    closures = {name: f"closure-{name}" for name in declared.declaration.hosts}
    return resolve(declared, closures, META, channel_ref="a1b2c3")


def _problems(checked: Checked, calendar: str) -> dict[str, str]:
    with pytest.raises(DeclarationError) as refused:
        checked(FLEET + calendar)
    return {problem.path: str(problem) for problem in refused.value.problems}


def test_a_calendar_is_resolved_signed_and_read_again(checked: Checked) -> None:
    """Every field that is declared is in the fleet, in camel case; a selector has become a plain one."""
    fleet = _resolved(checked, NIGHTLY + HOLIDAYS)
    holidays, nightly = decode_fleet(encode_fleet(fleet)).calendar

    assert nightly == CalendarEntry(
        "nightly",
        CalendarKind.ALLOW,
        Selector(all=True),
        "Europe/Berlin",
        "people sleep",
        repeat=Repeat.WEEKLY,
        days=(Weekday.MON, Weekday.THU),
        start="22:00",
        minutes=480,
        until="2027-06-30",
        minutes_needed=45,
    )
    assert (holidays.selector, holidays.begins, holidays.ends) == (
        Selector(tags=("eu",)),
        "2026-12-23T18:00",
        "2027-01-04T06:00",
    )
    assert b'"minutesNeeded":45' in encode_fleet(fleet)


def test_a_fleet_without_a_calendar_has_the_bytes_that_it_had(checked: Checked) -> None:
    """What is not said is not written."""
    assert b"calendar" not in encode_fleet(_resolved(checked, ""))


def test_a_monthly_rule_is_by_the_day_or_by_the_nth_weekday(checked: Checked) -> None:
    """The second Tuesday, and the 31st."""
    monthly = NIGHTLY.replace('"weekly"', '"monthly"')
    nth = monthly.replace('["mon", "thu"]', '["tue"]\nnth = "second"')
    (by_nth,) = _resolved(checked, nth).calendar
    by_day_rule = monthly.replace('days = ["mon", "thu"]', "month_day = 31")
    (by_day,) = _resolved(checked, by_day_rule).calendar

    assert (by_nth.nth, by_nth.days, by_day.month_day) == (Nth.SECOND, (Weekday.TUE,), 31)
    assert entry_words(by_nth) == (
        "allows all, each second tue of a month at 22:00 for 480 min (Europe/Berlin), until 2027-06-30, "
        "45 min needed, people sleep"
    )


@pytest.mark.parametrize(
    ("calendar", "path", "said"),
    [
        (NIGHTLY.replace("Berlin", "Berlln"), "zone", "did you mean Europe/Berlin?"),
        (NIGHTLY.replace("480", "0"), "minutes", "expected 1 or more, found 0"),
        (NIGHTLY.replace("480", "20000"), "minutes", "expected 10080 or less"),
        (NIGHTLY.replace("22:00:00", '"25:00"'), "start", "expected a time of day, HH:MM"),
        (NIGHTLY.replace("22:00:00", "22:00:30"), "start", "without seconds and offset"),
        (NIGHTLY.replace('"mon"', '"monday"'), "days", "no such day"),
        (NIGHTLY.replace('days = ["mon", "thu"]', ""), "days", "expected days of the week"),
        (NIGHTLY.replace("= 45", "= 480"), "minutes_needed", "less than 480"),
        (NIGHTLY.replace("= 45", "= -1"), "minutes_needed", "expected 0 or more"),
        (NIGHTLY.replace('"weekly"', '"yearly"'), "repeat", "unknown value"),
        (NIGHTLY.replace("2027-06-30", '"soon"'), "until", "expected a date, YYYY-MM-DD"),
        (HOLIDAYS.replace("tags:eu", "tags:eu & hosts:web-02"), "selector", "at least one host"),
        (HOLIDAYS.replace("2027-01-04", "2026-01-04"), "ends", "a time after 2026-12-23T18:00"),
        (HOLIDAYS.replace('"deny"', '"forbid"'), "kind", "unknown value"),
    ],
)
def test_what_is_wrong_with_an_entry_is_refused_by_its_path(
    checked: Checked, calendar: str, path: str, said: str
) -> None:
    """Each mistake is one problem, with what is expected."""
    problems = _problems(checked, calendar)
    assert said in problems[f"calendar[0].{path}"]


def test_a_name_that_is_used_twice_is_refused(checked: Checked) -> None:
    """A hold is named after its entry."""
    assert "used twice" in _problems(checked, NIGHTLY + NIGHTLY)["calendar[1].name"]


def test_freezes_that_leave_no_minute_of_a_month_are_refused(checked: Checked) -> None:
    """Two freezes of half a day each leave a channel no time to begin in."""
    day = HOLIDAYS.replace('selector = "tags:eu"\n', "").split("begins")[0]
    rule = 'repeat = "daily"\nstart = "{}"\nminutes = 720\n'
    both = day + rule.format("00:00") + day.replace("holidays", "nights") + rule.format("12:00")

    assert "leave no minute of a month" in _problems(checked, both)["calendar[1]"]


def test_freezes_that_leave_some_hosts_no_minute_of_a_month_are_refused(checked: Checked) -> None:
    """The others of the channel may begin, and these never: who they are is said."""
    day = HOLIDAYS.split("begins")[0]
    rule = 'repeat = "daily"\nstart = "{}"\nminutes = 720\n'
    both = day + rule.format("00:00") + day.replace("holidays", "nights") + rule.format("12:00")

    assert (
        "freezes of web-01 of channel stable leave no minute"
        in (_problems(checked, both)["calendar[1]"])
    )


SHORT = NIGHTLY.replace("minutes = 480", "minutes = 30").replace("minutes_needed = 45\n", "")
ACTIVATES = FLEET.replace(
    "[policies.steady]",
    '[policies.steady]\ndeadlines.activation = { minutes = 30, then = "fail" }',
)


@pytest.mark.parametrize(
    ("selector", "who"),
    [("", "channel stable"), ('selector = "tags:eu"\n', "web-01 of channel stable")],
)
def test_a_window_that_is_shorter_than_the_activation_deadline_is_refused(
    checked: Checked, selector: str, who: str
) -> None:
    """No host could begin in it, whomever it selects."""
    with pytest.raises(DeclarationError) as refused:
        checked(ACTIVATES + SHORT + selector)
    (problem,) = refused.value.problems

    assert problem.path == "calendar[0].minutes"
    assert f"leaves {who} no minute to begin in" in str(problem)
    checked(ACTIVATES + SHORT.replace("minutes = 30", "minutes = 31") + selector)
    checked(ACTIVATES + SHORT + "minutes_needed = 10\n" + selector)
    checked(FLEET + SHORT + selector)


def test_a_single_window_that_is_shorter_than_the_activation_deadline_is_refused(
    checked: Checked,
) -> None:
    """One that comes once is looked at where it is."""
    once = HOLIDAYS.replace('"deny"', '"allow"').replace("2027-01-04 06:00", "2026-12-23 18:20")
    with pytest.raises(DeclarationError, match=r"calendar\[0\]"):
        checked(ACTIVATES + once)


def test_short_windows_that_touch_are_one_window(checked: Checked) -> None:
    """Together they are long enough."""
    second = SHORT.replace("nightly", "later").replace("22:00:00", "22:30:00")
    checked(ACTIVATES + SHORT + second)


def test_a_start_in_the_gap_of_a_spring_night_is_warned_of(checked: Checked) -> None:
    """In 2027 the clocks of Berlin are put forward at 02:00 on a Sunday."""
    daily = NIGHTLY.replace('repeat = "weekly"\ndays = ["mon", "thu"]', 'repeat = "daily"')
    warnings = checked(FLEET + daily.replace("22:00:00", "02:30:00")).warnings

    assert StartsInGap("calendar[0].start", "2027-03-28", "03:30", "Europe/Berlin") in warnings


def test_a_range_that_begins_in_the_gap_of_a_spring_night_is_warned_of(checked: Checked) -> None:
    """In whatever year that is; it begins as much later."""
    night = "2029-03-25"
    gap = HOLIDAYS.replace("2026-12-23T18:00", f"{night}T02:15")
    warnings = checked(FLEET + gap.replace("2027-01-04 06:00", f"{night} 03:00")).warnings

    assert StartsInGap("calendar[0].begins", night, "03:15", "Europe/Berlin") in warnings


def test_windows_that_overlap_are_warned_of(checked: Checked) -> None:
    """Of the same hosts, and open at once."""
    other = NIGHTLY.replace("nightly", "late").replace("22:00:00", "23:00:00")
    (warning,) = (
        it for it in checked(FLEET + NIGHTLY + other).warnings if isinstance(it, WindowsOverlap)
    )
    assert (warning.path, warning.name, warning.other) == ("calendar[1]", "nightly", "late")
    assert "overlap, from 2026-12-31 22:00Z on" in str(warning)


def test_windows_that_open_after_what_is_signed_expires_are_warned_of() -> None:
    """Only where the time of the check is known."""
    fleet = (
        Fleet()
        .policy("steady")
        .channel("stable", policy="steady")
        .host("web-01", channel="stable")
        .window("nightly", zone="UTC", repeat=Repeat.DAILY, start="22:00", minutes=60)
    )
    now = datetime(2026, 5, 16, 1, tzinfo=UTC)
    warnings = fleet.check(now=now).warnings
    late = OpensTooLate("calendar[0]", "channel stable", datetime(2026, 5, 16, 22, tzinfo=UTC), 180)

    assert late in warnings
    assert "sign it again until then" in str(late)
    assert not any(isinstance(it, OpensTooLate) for it in fleet.check().warnings)


def test_windows_of_some_hosts_that_open_too_late_are_warned_of(checked: Checked) -> None:
    """Who they are is said; the others of the channel wait for nothing."""
    some = NIGHTLY.replace("until = 2027-06-30\n", "") + 'selector = "tags:eu"\n'
    now = datetime(2026, 5, 16, 1, tzinfo=UTC)
    fleet = (
        Fleet()
        .policy("steady")
        .channel("stable", policy="steady")
        .host("web-01", channel="stable", tags=("eu",))
        .host("web-02", channel="stable")
        .window(
            "nightly",
            selector="tags:eu",
            zone="UTC",
            repeat=Repeat.DAILY,
            start="22:00",
            minutes=60,
        )
    )
    (late,) = (it for it in fleet.check(now=now).warnings if isinstance(it, OpensTooLate))
    assert (late.path, late.who) == ("calendar[0]", "web-01 of channel stable")
    checked(FLEET + some)


def test_a_calendar_that_contradicts_itself_is_not_decoded(checked: Checked) -> None:
    """Bad data is refused with its path, whoever signed it."""
    data = encode_fleet(_resolved(checked, NIGHTLY)).replace(b'"minutes":480', b'"minutes":0')
    with pytest.raises(DecodeError, match=r"calendar\[0\].minutes"):
        decode_fleet(data)


@pytest.mark.parametrize("name", ["../etc/passwd", "Europe", "", "/etc/localtime"])
def test_what_names_no_zone_is_none(name: str) -> None:
    """A path, a directory and nothing."""
    assert "Europe/Berlin" in ZONES
    assert name not in ZONES
