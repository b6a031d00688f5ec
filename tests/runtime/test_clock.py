"""Each kind of clock where it goes beyond `ClockContract`: what it shows, and in which order it wakes."""

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from nixfleet_runtime.kernel.clock import Clock, FakeClock, ScaledClock, SystemClock

pytestmark = pytest.mark.anyio

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)


class Sleepers:
    """Notes who woke, in order."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.woken: list[str] = []

    async def sleep(self, name: str, seconds: float) -> None:
        await self.clock.sleep(seconds)
        self.woken.append(name)


def test_a_fake_clock_stands_still_until_it_is_advanced() -> None:
    """A fake clock shows its start until somebody advances it, and then just so much later."""
    clock = FakeClock(START)
    before = clock.now()
    clock.advance(1.5)

    assert (before, clock.now()) == (START, START + timedelta(seconds=1.5))


async def test_advancing_a_fake_clock_far_wakes_sleepers_in_the_order_of_their_times() -> None:
    """Sleepers wake in the order in which their times come; of one time, first come first."""
    clock = FakeClock(START)
    sleepers = Sleepers(clock)
    async with anyio.create_task_group() as tasks:
        for name, seconds in (("late", 30), ("early", 10), ("early too", 10), ("between", 20)):
            tasks.start_soon(sleepers.sleep, name, seconds)
        await anyio.wait_all_tasks_blocked()
        clock.advance(30)

    assert sleepers.woken == ["early", "early too", "between", "late"]


async def test_sleeping_on_a_fake_clock_counts_from_when_it_begins() -> None:
    """Seconds that passed before a sleep began do not shorten it."""
    clock = FakeClock(START)
    sleepers = Sleepers(clock)
    clock.advance(60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleepers.sleep, "late", 10)
        await anyio.wait_all_tasks_blocked()
        clock.advance(9)
        await anyio.wait_all_tasks_blocked()

        assert sleepers.woken == []
        clock.advance(1)
    assert sleepers.woken == ["late"]


def test_a_scaled_clock_begins_at_its_start_and_runs_ahead_of_the_machine() -> None:
    """A scaled clock shows its start and so many times the real time since."""
    before = datetime.now(UTC)
    clock = ScaledClock(1_000_000, START)
    shown = clock.now()
    real_max = datetime.now(UTC) - before

    assert START <= shown <= START + real_max * 1_000_000


def test_a_scaled_clock_without_a_start_begins_now() -> None:
    """A scaled clock that is given no start begins at the machine's time."""
    before = datetime.now(UTC)
    shown = ScaledClock(1).now()

    assert before <= shown <= datetime.now(UTC)


def test_scaled_clocks_that_began_together_agree() -> None:
    """Of two clocks with one speed and one beginning, the one made later is not behind."""
    earlier = ScaledClock(1_000, START, START)
    shown = earlier.now()
    later = ScaledClock(1_000, START, START)

    assert shown <= later.now() <= earlier.now()


async def test_a_scaled_clock_sleeps_as_much_less_as_it_is_faster() -> None:
    """An hour of a clock that is a million times as fast passes at once."""
    clock = ScaledClock(1_000_000, START)
    with anyio.fail_after(10):
        await clock.sleep(3600)

    assert clock.now() >= START + timedelta(hours=1)


@pytest.mark.parametrize("speed", [0, -1])
def test_a_scaled_clock_that_would_not_run_forwards_is_refused(speed: float) -> None:
    """A speed that is not above 0 is refused, by number."""
    with pytest.raises(ValueError, match=f"speed must be above 0, found {speed}"):
        ScaledClock(speed)


def test_the_system_clock_shows_aware_time_in_utc() -> None:
    """The machine's time comes with its offset, which is none."""
    before = datetime.now(UTC)
    shown = SystemClock().now()

    assert before <= shown <= datetime.now(UTC)
    assert shown.utcoffset() == timedelta(0)
