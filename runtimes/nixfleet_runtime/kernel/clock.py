"""Clocks: the only source of time. Shells read them; engines take the time as an argument.

`FakeClock` is for tests, `ScaledClock` for demonstrations that run faster than real time.
"""

import heapq
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio
import anyio.lowlevel


class Clock(Protocol):
    """A source of time. `now` may go backwards if the system's clock is set back."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of this clock's time have passed."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed; at once if `seconds` is 0 or negative."""
        await anyio.sleep(max(0.0, seconds))


class ScaledClock:
    """A clock that runs `speed` times as fast as the machine's, and reads `start` when the machine's reads
    `real_start`.

    Both default to now. Two clocks with the same three arguments agree, even in different processes.
    """

    def __init__(
        self, speed: float, start: datetime | None = None, real_start: datetime | None = None
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be above 0, found {speed}")
        self.speed = speed
        self._real_start = real_start or datetime.now(UTC)
        self._start = start or self._real_start

    def now(self) -> datetime:
        """Return the scaled time, aware, in UTC."""
        return self._start + (datetime.now(UTC) - self._real_start) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of scaled time have passed."""
        await anyio.sleep(max(0.0, seconds / self.speed))


class FakeClock:
    """A clock that advances only through `advance`, which wakes the sleepers that are due."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, anyio.Event]] = []
        self._posted = 0

    def now(self) -> datetime:
        """Return the current fake time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance by `seconds`, and wake the sleepers that are due."""
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()

    async def sleep(self, seconds: float) -> None:
        """Return once `advance` has moved the clock by `seconds`."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        self._posted += 1
        heapq.heappush(
            self._sleepers, (self._now + timedelta(seconds=seconds), self._posted, woken)
        )
        await woken.wait()
