"""Calendar arithmetic: when an entry is active, and when a window is open. Pure; zones and the time are arguments.

An entry begins at its time on the wall clock and lasts elapsed minutes. Where the clock is put forward over its start,
the start moves on by as much; where the clock shows it twice, it is the first (RFC 5545, 3.3.5; PEP 495, fold=0).
A range ends at its time on the wall clock. Where that would be over by its beginning, because the clock is put forward
over it, the range lasts as long as its times are apart: no entry is empty.
Rejected: a library for recurrence rules, since of RFC 5545 three rules are needed, and a window must say what it is in
one line of a file that a person reads.
Source: docs/spec/holds.md, Calendar.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from heapq import merge
from typing import Final, NamedTuple, TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.steering.calendar import (
    CalendarEntry,
    Nth,
    Repeat,
    Weekday,
    calendar_date,
    clock_time,
    wall_time,
)

Zones: TypeAlias = Mapping[str, tzinfo]
"""Time zones by their IANA names. A runtime loads them; nothing here does."""

HORIZON: Final = timedelta(days=400)
"""How far ahead is looked: any rule that ever comes again does so within a year and a month.

Longer than any `minutes_needed` by more than a day, so that a phase without an end within it goes on for a day.
"""
_DAY: Final = timedelta(days=1)
_WEEKDAYS: Final = tuple(Weekday)


class Span(NamedTuple):
    """From `begins` until before `ends`, in UTC. entry: which of those given is over at the end."""

    begins: datetime
    ends: datetime
    entry: CalendarEntry


@frozen
class Phase:
    """Whether hosts are kept from beginning. until: when that changes next; `None`: not within the horizon.

    entry: the one by whose zone and reason it is explained.
    """

    is_closed: bool
    until: datetime | None
    entry: CalendarEntry


def instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the instant, in UTC, at which clocks in `zone` show `wall`, as described above."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def spans(entry: CalendarEntry, zones: Zones, after: datetime) -> Iterator[Span]:
    """Yield the spans of an entry that end after `after`, in order. Those of an entry without `until` do not end.

    Raises: KeyError, for a zone that is not in `zones`.
    """
    zone = zones[entry.zone]
    for begins, ends in _walls(entry, zone, after):
        if ends > after:
            yield Span(begins, ends, entry)


def joined(found: Iterable[Span], horizon: datetime) -> Iterator[Span]:
    """Yield the spans, which come in order of their beginnings, with those joined that overlap or touch.

    One that does not end before `horizon` ends there: an endless chain is not followed further.
    """
    current: Span | None = None
    for span in found:
        if current is None:
            current = span
        elif span.begins <= current.ends:
            current = current if span.ends <= current.ends else span._replace(begins=current.begins)
        else:
            yield current
            current = span
        if current.ends >= horizon or span.begins >= horizon:
            break
    if current is not None:
        yield current


def freeze_phase(entry: CalendarEntry, zones: Zones, now: datetime, minutes_needed: int) -> Phase:
    """Return whether a `deny` entry keeps hosts from beginning at `now`: in its spans, and so long before each.

    minutes_needed: for an entry that says nothing itself. Raises: KeyError.
    """
    early = timedelta(minutes=_needed(entry, minutes_needed))
    widened = (
        Span(_minus(span.begins, early), span.ends, entry) for span in spans(entry, zones, now)
    )
    for span in joined(widened, now + HORIZON):
        if span.begins > now:
            return Phase(False, span.begins, entry)
        return Phase(True, None if span.ends >= now + HORIZON else span.ends, entry)
    return Phase(False, None, entry)


def window_phase(
    entries: Sequence[CalendarEntry], zones: Zones, now: datetime, minutes_needed: int
) -> Phase:
    """Return whether `allow` entries, at least one, keep hosts from beginning at `now`: none of them is active.

    Hosts no longer begin so long before the end of a window, unless another one goes on.
    minutes_needed: for entries that say nothing themselves. Raises: KeyError.
    """
    horizon = now + HORIZON
    found = merge(*(spans(entry, zones, now) for entry in entries), key=_begins)
    for span in joined(found, horizon):
        closes = span.ends - timedelta(minutes=_needed(span.entry, minutes_needed))
        if closes <= max(now, span.begins):
            continue  # Too short for a host to begin in, or as good as over.
        if span.begins > now:
            return Phase(True, span.begins, span.entry)
        return Phase(False, None if span.ends >= horizon else closes, span.entry)
    return Phase(True, None, entries[0])


def _begins(span: Span) -> datetime:
    return span.begins


def _needed(entry: CalendarEntry, default: int) -> int:
    return default if entry.minutes_needed is None else entry.minutes_needed


def _minus(at: datetime, by: timedelta) -> datetime:
    return at - by if at - datetime.min.replace(tzinfo=UTC) > by else at


def wall_times(entry: CalendarEntry, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the times on the wall clock at which an entry begins, from two days before `after` on; a range has one."""
    if entry.repeat is None:
        begins = wall_time(entry.begins)
        assert begins is not None, entry
        yield begins
        return
    start, last = clock_time(entry.start), calendar_date(entry.until)
    assert start is not None, entry
    # Two days for the clocks' differences.
    for day in _days(entry, entry.repeat, after.astimezone(zone).date() - 2 * _DAY):
        if last is not None and day > last:
            return
        yield datetime.combine(day, start)


def _walls(
    entry: CalendarEntry, zone: tzinfo, after: datetime
) -> Iterator[tuple[datetime, datetime]]:
    # A span that still goes on began at most so long ago.
    lasts = timedelta(minutes=entry.minutes or 0)
    for wall in wall_times(entry, after - lasts, zone):
        begins = instant(wall, zone)
        if entry.repeat is not None:
            yield begins, begins + lasts
            continue
        wall_end = wall_time(entry.ends)
        assert wall_end is not None, entry
        ends = instant(wall_end, zone)
        yield begins, ends if ends > begins else begins + (wall_end - wall)


def _days(entry: CalendarEntry, repeat: Repeat, first: date) -> Iterator[date]:
    match repeat:
        case Repeat.DAILY:
            yield from _each_day(first)
        case Repeat.WEEKLY:
            yield from (day for day in _each_day(first) if _WEEKDAYS[day.weekday()] in entry.days)
        case Repeat.MONTHLY:
            year, month = first.year, first.month
            while True:
                day = _day_of(entry, year, month)
                if day is not None and day >= first:
                    yield day
                year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        case _:
            assert_never(repeat)


def _each_day(first: date) -> Iterator[date]:
    while True:
        yield first
        first += _DAY


def _day_of(entry: CalendarEntry, year: int, month: int) -> date | None:
    """Return the day on which a monthly entry comes in a month; `None`: the month has no such day."""
    days_in_month = monthrange(year, month)[1]
    if entry.nth is None:
        assert entry.month_day is not None, entry
        has_day = entry.month_day <= days_in_month
        return date(year, month, entry.month_day) if has_day else None
    wanted = _WEEKDAYS.index(entry.days[0])
    if entry.nth is Nth.LAST:
        last = date(year, month, days_in_month)
        return last - (last.weekday() - wanted) % 7 * _DAY
    first = date(year, month, 1)
    weeks = tuple(Nth).index(entry.nth)
    return first + ((wanted - first.weekday()) % 7 + 7 * weeks) * _DAY
