"""Waiting longer each time something fails, and not in step with everybody else."""

import random
from collections.abc import Callable

from nixfleet_runtime.clock import Clock

FIRST_SECONDS = 1.0
LAST_SECONDS = 60.0
ASKED_SECONDS_MAX = 600.0
"""What the other side may ask for. More would let one bad answer silence a host for good."""


class Backoff:
    """Doubles the wait after each failure, up to a minute, and takes a random part of it.

    chance: what is random about it, from 0 up to 1; a fleet that lost its control plane at one moment must not
    come back at one moment.
    """

    def __init__(self, clock: Clock, chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._seconds = FIRST_SECONDS

    def reset(self) -> None:
        """The last try worked."""
        self._seconds = FIRST_SECONDS

    def next_seconds(self, at_least_seconds: float | None = None) -> float:
        """Return how long to wait before the next try: half to all of the present wait, which then doubles.

        at_least_seconds: what the other side asked for, if it did; honoured up to ten minutes.
        """
        seconds = self._seconds * (0.5 + self._chance() / 2)
        self._seconds = min(self._seconds * 2, LAST_SECONDS)
        return max(seconds, min(at_least_seconds or 0.0, ASKED_SECONDS_MAX))

    async def wait(self, at_least_seconds: float | None = None) -> None:
        """Wait before the next try, as `next_seconds` says."""
        await self._clock.sleep(self.next_seconds(at_least_seconds))
