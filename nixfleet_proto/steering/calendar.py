"""Windows and freezes: when hosts may begin. Frozen data; the arithmetic is in the planner.

Times of an entry are those on a wall clock in its zone, as text, since no instant is meant: `22:00` comes every day,
and in a spring night it may not come at all.
Source: docs/spec/holds.md, Calendar.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import WordEnum, at_least, at_most, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.policy import Selector

_WALL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
_NAME = re.compile(r"[a-z0-9_-]+")
_MINUTES_OF_A_DAY: Final = 24 * 60
YEARS: Final = (1970, 2999)
"""The first and the last year of an entry. Times near the ends of what can be written have no instant in some zones."""
MINUTES_NEEDED_MAX: Final = 366 * _MINUTES_OF_A_DAY


class CalendarKind(WordEnum):
    """ALLOW: hosts begin while one of these is active. DENY: no host begins while it is active."""

    ALLOW = "allow"
    DENY = "deny"


class Repeat(WordEnum):
    """How often an entry comes. A month without the day has none."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"

    @property
    def minutes(self) -> int:
        """The least number of minutes from one beginning to the next, on a clock that is never set."""
        days = {Repeat.DAILY: 1, Repeat.WEEKLY: 7, Repeat.MONTHLY: 28}
        return days[self] * _MINUTES_OF_A_DAY


class Weekday(WordEnum):
    """The days of the week, in the order of `datetime.date.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class Nth(WordEnum):
    """Which of the equal weekdays of a month."""

    FIRST = "first"
    SECOND = "second"
    THIRD = "third"
    FOURTH = "fourth"
    LAST = "last"


@frozen
@checked
class CalendarEntry:
    """A window (`allow`) or a freeze (`deny`) of the hosts that `selector` selects.

    With `repeat`: it begins at `start` on the days meant, up to the date `until`, and lasts `minutes` of elapsed time.
    `days` for WEEKLY; `month_day`, or `nth` and one of `days`, for MONTHLY. Without: it lasts from `begins` to `ends`.
    minutes_needed: how long before the end of a window, or the beginning of a freeze, hosts no longer begin; `None`:
    the activation deadline of the policy, if there is one.
    """

    name: str
    kind: CalendarKind
    selector: Selector
    zone: str
    reason: str = ""
    repeat: Repeat | None = None
    start: str | None = None
    minutes: int | None = None
    days: tuple[Weekday, ...] = ()
    month_day: int | None = None
    nth: Nth | None = None
    until: str | None = None
    begins: str | None = None
    ends: str | None = None
    minutes_needed: int | None = None

    def _contradictions(self) -> Iterator[ValueProblem]:
        if not _NAME.fullmatch(self.name):
            yield ValueProblem("name", "a name of [a-z0-9_-]+", repr(self.name))
        if self.minutes_needed is not None:
            yield from at_least("minutes_needed", self.minutes_needed, 0)
            yield from at_most("minutes_needed", self.minutes_needed, MINUTES_NEEDED_MAX)
        if self.repeat is None:
            yield from self._range_problems()
        else:
            yield from self._repeat_problems(self.repeat)

    def _range_problems(self) -> Iterator[ValueProblem]:
        yield from _absent(
            "for an entry without repeat",
            start=self.start,
            minutes=self.minutes,
            days=self.days or None,
            month_day=self.month_day,
            nth=self.nth,
            until=self.until,
        )
        begins, ends = wall_time(self.begins), wall_time(self.ends)
        for path, text, value in (("begins", self.begins, begins), ("ends", self.ends, ends)):
            if value is None:
                yield ValueProblem(path, "a date and a time, YYYY-MM-DDTHH:MM", repr(text))
            else:
                yield from _year_problems(path, value.year, text)
        if begins is not None and ends is not None and ends <= begins:
            yield ValueProblem("ends", f"a time after {self.begins}", repr(self.ends))

    def _repeat_problems(self, repeat: Repeat) -> Iterator[ValueProblem]:
        yield from _absent("for an entry that repeats", begins=self.begins, ends=self.ends)
        if clock_time(self.start) is None:
            yield ValueProblem("start", "a time of day, HH:MM", repr(self.start))
        if self.minutes is None:
            yield ValueProblem("minutes", "a number of minutes", "None")
        else:
            yield from at_least("minutes", self.minutes, 1)
            yield from at_most("minutes", self.minutes, repeat.minutes)
        last = None if self.until is None else calendar_date(self.until)
        if self.until is not None and last is None:
            yield ValueProblem("until", "a date, YYYY-MM-DD", repr(self.until))
        if last is not None:
            yield from _year_problems("until", last.year, self.until)
        if repeat is not Repeat.MONTHLY:
            yield from _absent(f"for {repeat}", month_day=self.month_day, nth=self.nth)
        if repeat is Repeat.DAILY:
            yield from _absent("for daily", days=self.days or None)
        elif repeat is Repeat.WEEKLY and not self.days:
            yield ValueProblem("days", "days of the week", "none")
        elif repeat is Repeat.MONTHLY:
            yield from self._monthly_problems()

    def _monthly_problems(self) -> Iterator[ValueProblem]:
        if self.nth is not None:
            yield from _absent("beside nth", month_day=self.month_day)
            if len(self.days) != 1:
                found = ", ".join(self.days) or "none"
                yield ValueProblem("days", "one day of the week, which nth is about", found)
        elif self.month_day is None:
            yield ValueProblem("month_day", "a day of the month, or nth and a day", "neither")
        else:
            yield from _absent("beside month_day", days=self.days or None)
            yield from at_least("month_day", self.month_day, 1)
            yield from at_most("month_day", self.month_day, 31)


def clock_time(text: str | None) -> time | None:
    """Return the time of day that `text`, `HH:MM`, stands for; `None`: it is none."""
    at = _wall("2000-01-01T" + text) if text is not None else None
    return None if at is None else at.time()


def calendar_date(text: str | None) -> date | None:
    """Return the date that `text`, `YYYY-MM-DD`, stands for; `None`: it is none."""
    at = _wall(text + "T00:00") if text is not None else None
    return None if at is None else at.date()


def _year_problems(path: str, year: int, text: str | None) -> Iterator[ValueProblem]:
    first, last = YEARS
    if not first <= year <= last:
        yield ValueProblem(path, f"a year from {first} to {last}", repr(text))


def wall_time(text: str | None) -> datetime | None:
    """Return what `text`, `YYYY-MM-DDTHH:MM`, is on a wall clock, without a zone; `None`: it is no such time."""
    return None if text is None else _wall(text)


def _wall(text: str) -> datetime | None:
    if not _WALL.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _absent(where: str, **values: object) -> Iterator[ValueProblem]:
    for path, value in values.items():
        if value is not None:
            yield ValueProblem(path, f"none {where}", str(value))
