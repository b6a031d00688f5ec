"""A calendar by another method: it walks the minutes and looks at a clock. Shares no code with the one it checks.

Source: docs/spec/holds.md, Calendar.
"""

from calendar import monthcalendar
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from nixfleet_proto.steering.calendar import CalendarEntry

MINUTE = timedelta(minutes=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NTH = ("first", "second", "third", "fourth")


def shown(at: datetime, zone: tzinfo) -> datetime:
    """Return what a clock on the wall shows, without its zone."""
    return at.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def is_day_of(entry: CalendarEntry, day: datetime) -> bool:
    """Whether a rule comes on the day."""
    repeat, days = entry.repeat, [str(each) for each in entry.days]
    last = entry.until
    if last is not None and day.strftime("%Y-%m-%d") > last:
        return False
    if repeat == "daily":
        return True
    if repeat == "weekly":
        return DAYS[day.weekday()] in days
    nth = entry.nth
    if nth is None:
        return day.day == entry.month_day
    column = DAYS.index(days[0])
    all_such = [week[column] for week in monthcalendar(day.year, day.month) if week[column]]
    wanted = all_such[-1] if nth == "last" else all_such[NTH.index(nth)]
    return day.day == wanted


class Watch:
    """Looks at the clock of one zone, minute after minute, and notes when the clock comes to a wall time.

    A time that is left out when the clock is put forward comes as much later as it would have come; of a time that is
    shown twice, only the first counts. Minutes are counted from `begin`.
    """

    def __init__(self, zone: tzinfo, begin: datetime, count: int) -> None:
        self.begin = begin
        self.count = count
        self.came: dict[datetime, int] = {}
        """The minute at which each time on the wall came first."""
        before: datetime | None = None
        for number in range(count):
            wall = shown(begin + number * MINUTE, zone)
            if before is not None:
                # What was left out comes while the clock, had it not been set, would show it.
                left_out, late = before + MINUTE, 0
                while left_out < wall:
                    self.came.setdefault(left_out, number + late)
                    left_out, late = left_out + MINUTE, late + 1
            self.came.setdefault(wall, number)
            before = wall


def active_minutes(entry: CalendarEntry, watch: Watch) -> list[bool]:
    """Return for each minute that was watched whether the entry is active."""
    found = [False] * watch.count
    if entry.repeat is None:
        walls = [datetime.fromisoformat(each or "") for each in (entry.begins, entry.ends)]
        begins, ends = watch.came.get(walls[0], 0), watch.came.get(walls[1], watch.count)
        if ends <= begins:
            ends = begins + (walls[1] - walls[0]) // MINUTE
        return [begins <= number < ends for number in range(watch.count)]
    hour, minute = (int(part) for part in (entry.start or "").split(":"))
    for wall, begins in watch.came.items():
        if (wall.hour, wall.minute) == (hour, minute) and is_day_of(entry, wall):
            for number in range(begins, min(begins + (entry.minutes or 0), watch.count)):
                found[number] = True
    return found


def frozen_minutes(entry: CalendarEntry, needed: int, watch: Watch) -> list[bool]:
    """Return for each minute whether a freeze keeps hosts from beginning: as many minutes before it too."""
    active = active_minutes(entry, watch)
    found, left = [False] * watch.count, 0
    for number in reversed(range(watch.count)):
        left = needed + 1 if active[number] else max(left - 1, 0)
        found[number] = left > 0
    return found


def open_minutes(entries: Sequence[CalendarEntry], needed: int, watch: Watch) -> list[bool]:
    """Return for each minute whether windows let hosts begin: more minutes are left than are needed."""
    together = [
        any(each) for each in zip(*(active_minutes(it, watch) for it in entries), strict=True)
    ]
    found, left = [False] * watch.count, 0
    for number in reversed(range(watch.count)):
        left = left + 1 if together[number] else 0
        found[number] = left > needed
    return found
