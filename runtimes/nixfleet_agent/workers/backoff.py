"""Waits between retries: longer after each failure, and partly random. Sans I/O."""

import random
from collections.abc import Callable, Generator

from nixfleet_agent.workers.steps import Wait, Wakeup

FIRST_SECONDS = 1.0
LAST_SECONDS = 60.0
RETRY_AFTER_SECONDS_MAX = LAST_SECONDS
"""The longest `Retry-After` that is honoured: no answer silences a host for longer than none would. An overloaded
control plane asks for a few seconds; one that lies asks for the longest, and would be obeyed after it is healed."""


class Backoff:
    """Doubles the wait after each failure, up to a minute, and waits a random part of it.

    chance: returns a random number from 0 up to 1. Hosts that lost their control plane at the same moment must not
    return at the same moment. companions: all the waits for the same thing, to which this one adds itself: when one
    of them succeeds after a failure, the others retry at once.
    """

    def __init__(
        self,
        chance: Callable[[], float] = random.random,
        companions: list["Backoff"] | None = None,
    ) -> None:
        self._chance = chance
        self._seconds = FIRST_SECONDS
        self._hurry = Wakeup()
        self._companions = [] if companions is None else companions
        self._companions.append(self)

    def reset(self) -> None:
        """Note a success: the next wait is short again, and the companions' waits end."""
        if self._seconds != FIRST_SECONDS:
            self._seconds = FIRST_SECONDS
            for companion in self._companions:
                companion.hurry()

    def hurry(self) -> None:
        """End the waits under way, except those that the control plane asked for."""
        self._hurry.set()

    def next_seconds(self, at_least_seconds: float | None = None) -> float:
        """Return how long to wait before the next try: half to all of the current wait, which then doubles.

        at_least_seconds: what the control plane asked for, if it did; honoured up to RETRY_AFTER_SECONDS_MAX.
        """
        seconds = self._seconds * (0.5 + self._chance() / 2)
        self._seconds = min(self._seconds * 2, LAST_SECONDS)
        return max(seconds, min(at_least_seconds or 0.0, RETRY_AFTER_SECONDS_MAX))

    def pause(
        self, at_least_seconds: float | None = None, *, was_answered: bool = False
    ) -> Generator[Wait, object, None]:
        """Wait before the next try, as long as `next_seconds` says.

        was_answered: what failed was not that an answer came, so a companion's success is no news and ends no wait.
        """
        seconds = self.next_seconds(at_least_seconds)
        self._hurry.clear()
        can_hurry = at_least_seconds is None and not was_answered
        yield from Wait(seconds, self._hurry if can_hurry else None)
