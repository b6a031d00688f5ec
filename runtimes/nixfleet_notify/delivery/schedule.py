"""When to try again: later after each failure, up to ten hours, and partly random. Pure.

Source: docs/spec/notifications.md, Retries; the waits are those that Standard Webhooks recommends, with two more.
"""

from datetime import datetime, timedelta
from typing import Final

WAITS_SECONDS: Final = (5, 30, 300, 1800, 7200, 18_000, 36_000)
WAIT_MAX: Final = timedelta(seconds=WAITS_SECONDS[-1])
ATTEMPTS_MAX: Final = 12
"""After so many attempts a message is a dead letter: of a hook that fails alone, after about three days."""
REFUSALS_MAX: Final = 3
"""After so many answers that refuse the message itself it is one too."""


def retry_at(
    now: datetime, failures: int, chance: float, at_least_seconds: float = 0.0
) -> datetime:
    """Return when to try again.

    failures: how many in a row, from 1. chance: 0 up to 1; half of the wait is random, so that hooks that failed
    together do not return together. at_least_seconds: what the receiver asked for; honoured up to WAIT_MAX.
    """
    wait_seconds = WAITS_SECONDS[min(failures, len(WAITS_SECONDS)) - 1] * (0.5 + chance / 2)
    asked_seconds = min(at_least_seconds, WAIT_MAX.total_seconds())
    return now + timedelta(seconds=max(wait_seconds, asked_seconds))
