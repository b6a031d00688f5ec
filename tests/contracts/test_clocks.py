"""Our clocks keep the contract of a clock."""

from datetime import UTC, datetime

from nixfleet_runtime.kernel.clock import Clock, FakeClock, ScaledClock, SystemClock
from nixfleet_testing.contracts.clock import ClockContract


class TestSystemClock(ClockContract):
    """The machine's own clock."""

    def make_clock(self) -> SystemClock:
        """Return the machine's clock."""
        return SystemClock()


class TestScaledClock(ClockContract):
    """The clock of demonstrations: one of its units is ten of its seconds, a hundredth of a real one."""

    unit_seconds = 10.0

    def make_clock(self) -> ScaledClock:
        """Return a clock that is a thousand times as fast as the machine's."""
        return ScaledClock(1_000)


class TestFakeClock(ClockContract):
    """The clock of tests, which stands still by itself."""

    unit_seconds = 60.0

    def make_clock(self) -> FakeClock:
        """Return a clock that a test sets."""
        return FakeClock(datetime(2026, 5, 16, 1, 0, tzinfo=UTC))

    def let_pass(self, clock: Clock, seconds: float) -> None:
        """Advance it."""
        assert isinstance(clock, FakeClock), clock
        clock.advance(seconds)


class TestSystemClockUnderTrio(TestSystemClock):
    """The same under trio."""

    backend = "trio"


class TestFakeClockUnderTrio(TestFakeClock):
    """The same under trio."""

    backend = "trio"
