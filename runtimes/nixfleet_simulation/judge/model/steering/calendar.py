"""A second implementation of windows and freezes: by looks at the days around one moment.

A time on a wall clock is turned into an instant by trying the offsets that the zone has around it, from UTC to the
wall alone: no use is made of how the product, or a library, takes times that come twice or not at all.
Source: docs/spec/holds.md, Calendar; IANA time-zone data.
"""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

from nixfleet_proto.policy import Selector
from nixfleet_proto.steering.calendar import CalendarEntry

DAY: Final = timedelta(days=1)
DAYS_OF_THE_WEEK: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NTH: Final = ("first", "second", "third", "fourth")


@frozen
class Time:
    """One occurrence of an entry. needed: how long before its edge no host begins any more."""

    begins: datetime
    ends: datetime
    needed: timedelta


def is_closed(
    entries: Sequence[CalendarEntry], channel: str, host: str, minutes_needed: int, now: datetime
) -> bool:
    """Return whether `host` may not begin at `now`. minutes_needed: of entries that say nothing themselves."""
    mine = [entry for entry in entries if _selects(entry.selector, channel, host)]
    denied = [entry for entry in mine if entry.kind.value == "deny"]
    allowed = [entry for entry in mine if entry.kind.value == "allow"]
    if any(_zone(entry.zone) is None for entry in mine):
        return True
    for time in _times(denied, minutes_needed, now):
        if time.begins - time.needed <= now < time.ends:
            return True
    return bool(allowed) and not _is_open(tuple(_times(allowed, minutes_needed, now)), now)


def _is_open(times: Sequence[Time], now: datetime) -> bool:
    """Return whether a window is open long enough; those that overlap or touch are one."""
    ends, needed = now, timedelta(0)
    while True:
        later = [time for time in times if time.begins <= max(ends, now) and time.ends > ends]
        if not later:
            return ends - needed > now
        ends, needed = max((time.ends, time.needed) for time in later)


def _selects(selector: Selector, channel: str, host: str) -> bool:
    """Return whether a selector means the host, which has one tag: its channel's name."""
    parts = [
        *([True] if selector.all else []),
        *([host in selector.hosts] if selector.hosts else []),
        *([channel == selector.channel] if selector.channel else []),
        *([{*selector.tags} == {channel}] if selector.tags else []),
        *([channel in selector.tags_any] if selector.tags_any else []),
    ]
    return bool(parts) and all(parts)


def _times(entries: Sequence[CalendarEntry], minutes_needed: int, now: datetime) -> Iterator[Time]:
    for entry in entries:
        own = minutes_needed if entry.minutes_needed is None else entry.minutes_needed
        needed = timedelta(minutes=own)
        if entry.begins is not None and entry.ends is not None:
            yield Time(_instant(entry.begins, entry.zone), _instant(entry.ends, entry.zone), needed)
            continue
        lasts = timedelta(minutes=entry.minutes or 0)
        first = (now - lasts - 3 * DAY).date()
        for number in range((lasts + needed) // DAY + 7):
            day = first + number * DAY
            if _comes_on(entry, day):
                begins = _instant(f"{day.isoformat()}T{entry.start}", entry.zone)
                yield Time(begins, begins + lasts, needed)


def _comes_on(entry: CalendarEntry, day: date) -> bool:
    if entry.until is not None and day.isoformat() > entry.until:
        return False
    weekday = DAYS_OF_THE_WEEK[day.weekday()]
    days = [each.value for each in entry.days]
    nth = None if entry.nth is None else entry.nth.value
    match None if entry.repeat is None else entry.repeat.value:
        case "daily":
            return True
        case "weekly":
            return weekday in days
        case "monthly" if nth is None:
            return day.day == entry.month_day
        case "monthly" if weekday not in days:
            return False
        case "monthly" if nth == "last":
            return day.day + 7 > monthrange(day.year, day.month)[1]
        case "monthly":
            return NTH[(day.day - 1) // 7 :][:1] == (nth,)
        case _:
            raise AssertionError(entry)


@cache
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@cache
def _instant(wall: str, name: str) -> datetime:
    """Return the first instant at which clocks show `wall`; in a gap, as much later as the gap is long."""
    zone, shown = ZoneInfo(name), datetime.fromisoformat(wall)
    as_utc = shown.replace(tzinfo=UTC)
    offsets = [
        (as_utc + hours * timedelta(hours=1)).astimezone(zone).utcoffset() or timedelta(0)
        for hours in range(-26, 27)
    ]
    tried = sorted({as_utc - offset for offset in offsets})
    good = [each for each in tried if each.astimezone(zone).replace(tzinfo=None) == shown]
    # In a gap the clock still has the offset of before: the lesser one, which gives the later instant.
    return good[0] if good else tried[-1]
