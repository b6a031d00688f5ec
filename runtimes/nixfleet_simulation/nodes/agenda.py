"""Virtual time: a queue of callbacks, in order of time.

Time is a whole number of microseconds. Callbacks that are due at the same moment run in the order they were added.
A callback of a lifetime that is over (a process that has died) does not run.
"""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from nixfleet_simulation.scenario.scenario import START

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class NodeLifetime:
    """One run of a process, from its start to its end."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


class Timeline(Protocol):
    """Virtual time as one process has it."""

    @property
    def now(self) -> int:
        """Microseconds since the start."""
        ...

    def after(
        self, delay: int, life: NodeLifetime | None, happen: Callable[..., None], *arguments: object
    ) -> None:
        """Call `happen(*arguments)` in `delay` microseconds, unless `life` is over by then."""
        ...


_Due: TypeAlias = tuple[int, int, NodeLifetime | None, Callable[..., None], tuple[object, ...]]


class Agenda:
    """The queue of virtual time. now: microseconds since the start. events: the number of callbacks that ran.

    starts_at: the time of a correct clock at the start.
    """

    def __init__(self, starts_at: datetime = START) -> None:
        self.now = 0
        self.starts_at = starts_at
        self.events = 0
        self._due: list[_Due] = []
        self._put_down = 0

    @property
    def time(self) -> datetime:
        """The time of a correct clock."""
        return self.starts_at + timedelta(microseconds=self.now)

    def after(
        self, delay: int, life: NodeLifetime | None, happen: Callable[..., None], *arguments: object
    ) -> None:
        """Call `happen(*arguments)` in `delay` microseconds, unless `life` is over by then."""
        self._put_down += 1
        heapq.heappush(self._due, (self.now + delay, self._put_down, life, happen, arguments))

    def run_until(self, moment: int) -> None:
        """Run every callback that is due up to `moment`."""
        due = self._due
        while due and due[0][0] <= moment:
            self.now, _, life, happen, arguments = heapq.heappop(due)
            if life is None or not life.is_over:
                self.events += 1
                happen(*arguments)
        self.now = moment
