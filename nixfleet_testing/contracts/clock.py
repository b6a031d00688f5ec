"""The contract of a clock. Subclass `ClockContract`, return a clock, and run pytest.

Times are counted in `unit_seconds`: choose the shortest wait that your clock measures well, so that the tests are
quick. For a clock that does not move by itself, override `let_pass` too.
"""

from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from typing import ClassVar

import anyio
import pytest

from nixfleet_runtime.kernel.clock import Clock
from nixfleet_testing.contracts.event_loop import (
    ASYNCIO,
    ends_within,
    in_event_loop,
    in_loop_of,
    let_others_run,
)


class Sleeper:
    """Somebody who sleeps on a clock, and notes when they woke by that clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.seconds = seconds
        self.began_at = clock.now()
        self.woke_at: datetime | None = None
        self.is_done = anyio.Event()
        self._clock = clock

    async def sleep(self) -> None:
        """Sleep, once."""
        try:
            await self._clock.sleep(self.seconds)
            self.woke_at = self._clock.now()
        finally:
            self.is_done.set()

    @property
    def slept_seconds(self) -> float:
        """How long it was, by the clock itself."""
        assert self.woke_at is not None, "it has not woken"
        return (self.woke_at - self.began_at).total_seconds()

    @property
    def passed_seconds(self) -> float:
        """How much time the clock says has passed since it began."""
        return (self._clock.now() - self.began_at).total_seconds()

    @property
    def woke_early(self) -> bool:
        """Whether it woke before its time. A hundredth is forgiven: a machine's clock is adjusted as it runs."""
        return self.slept_seconds < self.seconds * 0.99


class ClockContract(ABC):
    """What every `Clock` must do. Subclass it as `class TestMyClock(ClockContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your clock runs in: "asyncio" or "trio"."""

    unit_seconds: float = 0.01
    patience_seconds: float = 5.0
    """How much real time a unit may take at most, before a test says that it never passes."""

    @abstractmethod
    def make_clock(self) -> Clock:
        """Return a clock."""

    def let_pass(self, clock: Clock, seconds: float) -> None:
        """Advance the clock's time by `seconds`. Override it for a clock that does not advance by itself."""

    def test_time_is_aware_and_in_utc(self) -> None:
        """`now` can be compared with every other time here, and written down."""
        now = self.make_clock().now()
        assert now.tzinfo is not None, f"{now!r} is naive: it cannot be compared with an aware time"
        assert now.utcoffset() == timedelta(0), f"{now!r} is not in UTC"

    def test_time_does_not_go_back(self) -> None:
        """Asked again, a clock does not say an earlier time, whether or not time was let pass."""
        clock = self.make_clock()
        before = clock.now()
        for _ in range(100):
            self.let_pass(clock, self.unit_seconds)
            now = clock.now()
            assert now >= before, f"the clock said {before}, then {now}"
            before = now

    @in_event_loop
    async def test_a_sleep_lasts_as_long_as_was_asked(self) -> None:
        """No sleeper wakes early, by the clock's own time."""
        (sleeper,) = await self._wake(self.make_clock(), 3)
        assert not sleeper.woke_early, (
            f"asked to sleep {sleeper.seconds:g} s, it woke after {sleeper.slept_seconds:g} s of its own time"
        )

    @in_event_loop
    async def test_sleepers_wake_each_when_their_own_time_has_come(self) -> None:
        """The longest sleeper is not woken together with the others; two sleepers may have the same time."""
        for sleeper in await self._wake(self.make_clock(), 4, 1, 2, 1):
            assert not sleeper.woke_early, (
                f"woken with the others after {sleeper.slept_seconds:g} s, asked to sleep {sleeper.seconds:g} s"
            )

    @in_event_loop
    async def test_a_cancelled_sleep_ends_at_once(self) -> None:
        """A sleep can be cancelled: a service that stops does not wait for its timers."""
        clock = self.make_clock()
        sleeper = Sleeper(clock, self.unit_seconds * 1_000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleeper.sleep)
            await let_others_run()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                ended = await ends_within(self.patience_seconds / 5, sleeper.is_done.wait)
                # A sleep that cannot be cancelled would keep this test from ending, too.
                self.let_pass(clock, sleeper.seconds)
                assert ended, (
                    "a cancelled sleep went on: do not shield it, and do not catch the cancellation"
                )
        assert sleeper.woke_at is None, "a cancelled sleep returned as if its time had come"

    @in_event_loop
    async def test_a_cancelled_sleep_leaves_the_others_alone(self) -> None:
        """Others who sleep wake when their time has come."""
        clock = self.make_clock()
        other = Sleeper(clock, self.unit_seconds * 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.sleep)
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(Sleeper(clock, self.unit_seconds).sleep)
                await let_others_run()
                cancelled.cancel_scope.cancel()
            self.let_pass(clock, self.unit_seconds)
            await let_others_run()
            self.let_pass(clock, self.unit_seconds)
            await self._require_woken(other)
        assert not other.woke_early, (
            f"woken after {other.slept_seconds:g} s in place of one that was cancelled"
        )

    @pytest.mark.parametrize("seconds", [0.0, -1.0])
    def test_a_sleep_of_no_time_ends_at_once(self, seconds: float) -> None:
        """What is due already does not wait, and no time need pass for it."""

        @in_loop_of(self)
        async def sleep() -> None:
            clock = self.make_clock()
            try:
                ended = await ends_within(self.patience_seconds, lambda: clock.sleep(seconds))
            except Exception as error:
                raise AssertionError(
                    f"sleep({seconds:g}) raised {error!r}: what is due already is no error"
                ) from error
            assert ended, f"sleep({seconds:g}) waits; it must return at once"

        sleep()

    async def _wake(self, clock: Clock, *units: int) -> list[Sleeper]:
        """Start a sleeper for each number of units, and return them when all have woken."""
        sleepers = [Sleeper(clock, self.unit_seconds * count) for count in units]
        async with anyio.create_task_group() as tasks:
            for sleeper in sleepers:
                tasks.start_soon(sleeper.sleep)
            for _ in range(max(units)):
                await let_others_run()
                self.let_pass(clock, self.unit_seconds)
            for sleeper in sleepers:
                await self._require_woken(sleeper)
        return sleepers

    async def _require_woken(self, sleeper: Sleeper) -> None:
        """Its time has passed, so it must wake, if not in this moment."""
        assert await ends_within(self.patience_seconds, sleeper.is_done.wait), (
            f"sleep({sleeper.seconds:g}) has not returned, though the clock says that "
            f"{sleeper.passed_seconds:g} s have passed: `sleep` and `now` must tell the same time"
        )
