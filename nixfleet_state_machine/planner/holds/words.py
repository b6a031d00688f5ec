"""A calendar entry in one line, for people."""

from collections.abc import Iterator
from typing import assert_never

from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Repeat
from nixfleet_state_machine.scopes.selector import summary


def entry_words(entry: CalendarEntry, who: str | None = None) -> str:
    """Return what an entry does, for whom and when: `allows all, daily at 22:00 for 480 min (Europe/Berlin)`.

    who: whom it selects, in words; `None`: as its selector says.
    """
    does = "allows" if entry.kind is CalendarKind.ALLOW else "freezes"
    whom = summary(entry.selector) if who is None else who
    return f"{does} {whom}, {', '.join(_parts(entry))}"


def _parts(entry: CalendarEntry) -> Iterator[str]:
    if entry.repeat is None:
        yield f"from {entry.begins} to {entry.ends} ({entry.zone})"
    else:
        yield f"{_days(entry, entry.repeat)} at {entry.start} for {entry.minutes} min ({entry.zone})"
    if entry.until is not None:
        yield f"until {entry.until}"
    if entry.minutes_needed is not None:
        yield f"{entry.minutes_needed} min needed"
    if entry.reason:
        yield entry.reason


def _days(entry: CalendarEntry, repeat: Repeat) -> str:
    match repeat:
        case Repeat.DAILY:
            return "daily"
        case Repeat.WEEKLY:
            return f"each {', '.join(entry.days)}"
        case Repeat.MONTHLY:
            if entry.nth is not None:
                return f"each {entry.nth} {entry.days[0]} of a month"
            return f"on day {entry.month_day} of each month"
        case _:
            assert_never(repeat)
