"""Numbers of hosts and times, as the sentences of a screen have them."""

from datetime import UTC, datetime


def hosts_words(count: int) -> str:
    """Return `1 host`, `1,552 hosts`."""
    return f"{count:,} host" if count == 1 else f"{count:,} hosts"


def minute(at: datetime) -> str:
    """Return a time to the minute, with its zone: `2026-05-16 14:05 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def shown_time(at: datetime) -> str:
    """Return a time to the second, in UTC: `2026-05-16 01:00:00Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def percent_of(done: int, total: int) -> int:
    """Return how many of a hundred are done, rounded down: 100 only when all are, and of none."""
    return done * 100 // total if total else 100
