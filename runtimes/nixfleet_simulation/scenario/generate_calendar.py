"""Draws windows, freezes and holds with an end, in a night in which some clocks are set.

Only some seeds have any of it, so that the others give the histories that they always gave.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from nixfleet_proto.policy import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Nth, Repeat, Weekday
from nixfleet_simulation.scenario.acts import Act
from nixfleet_simulation.scenario.randomness import Random, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout
from nixfleet_simulation.scenario.steering_acts import (
    ChangeCalendar,
    FreezeFor,
    HoldPlace,
    HoldUntil,
)

CALENDAR_EVERY: Final = 7
"""One seed in this many has a calendar."""

NIGHTS: Final = (
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Pacific/Auckland", datetime(2026, 4, 4, 14, tzinfo=UTC)),
    ("Pacific/Auckland", datetime(2026, 9, 26, 14, tzinfo=UTC)),
)
"""When clocks are set, and where: forward over an hour or half of one, and back."""
OTHER_ZONES: Final = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")
NO_ZONE: Final = "Moon/Tycho"
_HOLDS: Final = (120.0, 900.0, 3600.0)


def has_calendar(seed: int) -> bool:
    """Return whether the fleet of `seed` has a calendar."""
    return seed % CALENDAR_EVERY == CALENDAR_EVERY - 1


def start_of(seed: int, seconds: float) -> datetime:
    """Return when the history begins, so that the clocks of a zone are set in the middle of it."""
    rng = stream(seed, "night")
    _, night = rng.choice(NIGHTS)
    return night - timedelta(seconds=int(rng.uniform(0.2, 0.8) * min(seconds, 86_400)))


def calendar_of(
    seed: int, channels: tuple[ChannelLayout, ...], seconds: float
) -> tuple[CalendarEntry, ...]:
    """Return the calendar that the fleet has first."""
    rng = stream(seed, "calendar", "first")
    return _calendar(rng, channels, start_of(seed, seconds), seconds, "first")


def calendar_acts(
    seed: int, seconds: float
) -> Callable[[Random, tuple[ChannelLayout, ...], float], Act]:
    """Return what draws an act about holds and calendars."""
    starts_at = start_of(seed, seconds)

    def draw_one(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
        channel = rng.choice(channels)
        what = rng.choice(("hold", "hold", "freeze", "calendar"))
        if what == "hold":
            released = rng.choice((0.0, 0.0, rng.uniform(30, 600)))
            place, host = rng.choice(tuple(HoldPlace)), rng.choice(channel.hosts)
            lasts = rng.choice(_HOLDS) * rng.uniform(0.5, 1.5)
            return HoldUntil(at, channel.name, place, host, lasts, released)
        if what == "freeze":
            return FreezeFor(at, channel.name, _known_zone(rng), rng.choice((2, 10, 45)))
        now = starts_at + timedelta(seconds=at)
        left = max(seconds - at, 600.0)
        return ChangeCalendar(at, _calendar(rng, channels, now, left, f"at-{int(at)}"))

    return draw_one


def _calendar(
    rng: Random,
    channels: tuple[ChannelLayout, ...],
    now: datetime,
    seconds: float,
    name: str,
) -> tuple[CalendarEntry, ...]:
    entries: list[CalendarEntry] = []
    for number in range(rng.choice((0, 1, 2, 2, 3))):
        channel = rng.choice(channels)
        kind = rng.choice((CalendarKind.ALLOW, CalendarKind.ALLOW, CalendarKind.DENY))
        entries.append(_entry(rng, channel, kind, now, seconds, f"{name}-{number}"))
    return tuple(entries)


def _entry(
    rng: Random,
    channel: ChannelLayout,
    kind: CalendarKind,
    now: datetime,
    seconds: float,
    name: str,
) -> CalendarEntry:
    zone = NO_ZONE if rng.random() < 0.02 else _known_zone(rng)
    # By minutes, somewhere around the time that is simulated.
    at = now + timedelta(seconds=int(rng.uniform(-0.3, 1.0) * seconds))
    wall = at.astimezone(UTC if zone == NO_ZONE else ZoneInfo(zone))
    needed = rng.choice((None, None, 0, 5))
    selector = _selector(rng, channel)
    minutes = rng.choice((10, 30, 60, 90))
    if kind is CalendarKind.DENY and rng.random() < 0.4:
        ends = (wall.replace(tzinfo=None) + timedelta(minutes=minutes)).isoformat("T", "minutes")
        begins = wall.replace(tzinfo=None).isoformat("T", "minutes")
        return CalendarEntry(
            name, kind, selector, zone, begins=begins, ends=ends, minutes_needed=needed
        )
    repeat, day = rng.choice(tuple(Repeat)), tuple(Weekday)[wall.weekday()]
    by_weekday = repeat is Repeat.MONTHLY and rng.random() < 0.5
    return CalendarEntry(
        name,
        kind,
        selector,
        zone,
        repeat=repeat,
        # The hour that comes twice, or never, in many of these nights.
        start=rng.choice((f"{wall:%H:%M}", f"{wall:%H:%M}", "02:00", "02:30", "01:30")),
        minutes=minutes,
        days=(day,) if repeat is Repeat.WEEKLY or by_weekday else (),
        month_day=wall.day if repeat is Repeat.MONTHLY and not by_weekday else None,
        nth=_nth(rng, wall) if by_weekday else None,
        until=rng.choice((None, None, f"{wall:%Y-%m-%d}")),
        minutes_needed=needed,
    )


def _nth(rng: Random, wall: datetime) -> Nth:
    """Return which of its weekdays of the month the day is, in one of two ways if it is the last."""
    is_last = (wall + timedelta(days=7)).month != wall.month
    number = (wall.day - 1) // 7
    ways = [*tuple(Nth)[number : number + 1], *([Nth.LAST] if is_last else [])]
    return rng.choice([way for way in ways if way is not Nth.LAST or is_last])


def _selector(rng: Random, channel: ChannelLayout) -> Selector:
    host = rng.choice(channel.hosts)
    return rng.choice(
        (
            Selector(all=True),
            Selector(channel=channel.name),
            Selector(tags=(channel.name,)),
            Selector(hosts=(host,)),
            Selector(hosts=(host,), channel=channel.name),
        )
    )


def _known_zone(rng: Random) -> str:
    zones = [zone for zone, _ in NIGHTS]
    return rng.choice((*zones, *OTHER_ZONES))
