"""Waiting longer each time something fails, and not in step with everybody else."""

import random

from nixfleet_runtime.clock import Clock

FIRST_SECONDS = 1.0
LAST_SECONDS = 60.0


class Backoff:
    """Doubles the wait after each failure, up to a minute, and takes a random part of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds = FIRST_SECONDS

    def reset(self) -> None:
        """The last try worked."""
        self._seconds = FIRST_SECONDS

    async def wait(self, at_least_seconds: float | None = None) -> None:
        """Wait before the next try; longer, if the other side asked for it."""
        seconds = max(self._seconds * random.uniform(0.5, 1.0), at_least_seconds or 0.0)
        self._seconds = min(self._seconds * 2, LAST_SECONDS)
        await self._clock.sleep(seconds)
