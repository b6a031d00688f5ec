"""Clocks with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

from datetime import UTC, datetime, timedelta, timezone

import anyio

from nixfleet_runtime.kernel.clock import Clock, FakeClock, ScaledClock, SystemClock
from nixfleet_testing.contracts.clock import ClockContract

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)


class Naive(SystemClock):
    def now(self) -> datetime:
        return super().now().replace(tzinfo=None)


class TestTellsNaiveTime(ClockContract):
    """Has times without a time zone."""

    says = "is naive"

    def make_clock(self) -> Clock:
        return Naive()


class Local(SystemClock):
    def now(self) -> datetime:
        return super().now().astimezone(timezone(timedelta(hours=2)))


class TestTellsLocalTime(ClockContract):
    """Has the time of where the machine stands."""

    says = "is not in UTC"

    def make_clock(self) -> Clock:
        return Local()


class Wavering(SystemClock):
    def __init__(self) -> None:
        self._asked = 0

    def now(self) -> datetime:
        self._asked += 1
        return super().now() - timedelta(seconds=self._asked % 2)


class TestGoesBack(ClockContract):
    """Says an earlier time when it is asked again."""

    says = "the clock said"

    def make_clock(self) -> Clock:
        return Wavering()


class Hasty(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 2)


class TestWakesEarly(ClockContract):
    """Wakes who sleeps after half of the time."""

    says = "it woke after"

    def make_clock(self) -> Clock:
        return Hasty()


class SleepsInRealTime(ScaledClock):
    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(seconds, 0))


class TestSleepsInAnotherTimeThanItTells(ClockContract):
    """Tells time a thousand times as fast as it sleeps."""

    says = "`sleep` and `now` must tell the same time"
    unit_seconds = 10.0
    patience_seconds = 0.2

    def make_clock(self) -> Clock:
        return SleepsInRealTime(1_000)


class StandingStill(ClockContract):
    """What the clocks below have in common."""

    unit_seconds = 60.0
    patience_seconds = 0.2

    def let_pass(self, clock: Clock, seconds: float) -> None:
        assert isinstance(clock, FakeClock)
        clock.advance(seconds)


class WakesEverybody(FakeClock):
    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for _, _, woken in self._sleepers:
            woken.set()


class TestWakesEverybodyAtOnce(StandingStill):
    """Wakes all sleepers whenever time passes."""

    says = "woken with the others after"

    def make_clock(self) -> Clock:
        return WakesEverybody(START)


class Shielded(FakeClock):
    async def sleep(self, seconds: float) -> None:
        with anyio.CancelScope(shield=True):
            await super().sleep(seconds)


class TestCannotBeCancelled(StandingStill):
    """Sleeps on when the service that sleeps is told to stop."""

    says = "a cancelled sleep went on"

    def make_clock(self) -> Clock:
        return Shielded(START)


class ForgetsSleepers(FakeClock):
    async def sleep(self, seconds: float) -> None:
        try:
            await super().sleep(seconds)
        except anyio.get_cancelled_exc_class():
            self._sleepers.clear()
            raise


class TestForgetsTheOthersOnCancellation(StandingStill):
    """Forgets everybody who sleeps when one of them is cancelled."""

    says = "has not returned, though the clock says"

    def make_clock(self) -> Clock:
        return ForgetsSleepers(START)


class WaitsForNothing(FakeClock):
    async def sleep(self, seconds: float) -> None:
        await super().sleep(max(seconds, 1e-6))


class TestWaitsForWhatIsDue(StandingStill):
    """Has somebody wait, for no time, until time passes."""

    says = "it must return at once"

    def make_clock(self) -> Clock:
        return WaitsForNothing(START)
