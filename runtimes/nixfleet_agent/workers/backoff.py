"""Waiting longer each time something fails, and not in step with everybody else."""

import random
from collections.abc import Callable

import anyio

from nixfleet_runtime.kernel.clock import Clock

FIRST_SECONDS = 1.0
LAST_SECONDS = 60.0
ASKED_SECONDS_MAX = 600.0
"""What the other side may ask for. More would let one bad answer silence a host for good."""


class Backoff:
    """Doubles the wait after each failure, up to a minute, and takes a random part of it.

    chance: what is random about it, from 0 up to 1; a fleet that lost its control plane at one moment must not
    come back at one moment. companions: those who wait for the same thing, this one included once it is made: when
    one of them gets through after a failure, the others need not wait any longer.
    """

    def __init__(
        self,
        clock: Clock,
        chance: Callable[[], float] = random.random,
        companions: list["Backoff"] | None = None,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._seconds = FIRST_SECONDS
        self._waiting: anyio.CancelScope | None = None
        self._companions = [] if companions is None else companions
        self._companions.append(self)

    def reset(self) -> None:
        """The last try worked."""
        if self._seconds != FIRST_SECONDS:
            self._seconds = FIRST_SECONDS
            for companion in self._companions:
                companion.hurry()

    def hurry(self) -> None:
        """Wait no longer, unless the other side asked for it."""
        if self._waiting is not None:
            self._waiting.cancel()

    def next_seconds(self, at_least_seconds: float | None = None) -> float:
        """Return how long to wait before the next try: half to all of the present wait, which then doubles.

        at_least_seconds: what the other side asked for, if it did; honoured up to ten minutes.
        """
        seconds = self._seconds * (0.5 + self._chance() / 2)
        self._seconds = min(self._seconds * 2, LAST_SECONDS)
        return max(seconds, min(at_least_seconds or 0.0, ASKED_SECONDS_MAX))

    async def wait(self, at_least_seconds: float | None = None) -> None:
        """Wait before the next try, as `next_seconds` says."""
        seconds = self.next_seconds(at_least_seconds)
        with anyio.CancelScope() as waiting:
            self._waiting = waiting if at_least_seconds is None else None
            await self._clock.sleep(seconds)
        self._waiting = None
