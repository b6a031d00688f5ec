"""Waiting longer each time, not in step with others, and no longer than it helps."""

from datetime import UTC, datetime

import anyio
import pytest

from nixfleet_agent.workers.backoff import ASKED_SECONDS_MAX, LAST_SECONDS, Backoff
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_testing.contracts.event_loop import let_others_run

pytestmark = pytest.mark.anyio

T0 = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)


def backoff(chance: float = 0.0, companions: list[Backoff] | None = None) -> Backoff:
    return Backoff(FakeClock(T0), lambda: chance, companions)


@pytest.mark.parametrize(
    ("chance", "seconds"),
    [
        (0.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        (1.0, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
    ],
)
def test_the_wait_doubles_up_to_a_minute_and_half_of_it_is_chance(
    chance: float, seconds: list[float]
) -> None:
    """Between half and all of one second at first, of one minute at last."""
    waiting = backoff(chance)
    assert [waiting.next_seconds() for _ in seconds] == seconds
    assert LAST_SECONDS == 60.0


def test_after_a_success_it_begins_anew() -> None:
    """What failed long ago does not make the next failure wait longer."""
    waiting = backoff()
    for _ in range(5):
        waiting.next_seconds()
    waiting.reset()
    assert waiting.next_seconds() == 0.5


def test_what_was_asked_for_is_honoured_within_reason() -> None:
    """Longer than its own wait, it counts; a day would let one answer silence a host."""
    waiting = backoff()
    assert waiting.next_seconds(at_least_seconds=30.0) == 30.0
    assert waiting.next_seconds(at_least_seconds=86_400.0) == ASKED_SECONDS_MAX
    assert waiting.next_seconds(at_least_seconds=0.1) == 2.0


@pytest.mark.parametrize(("asked", "still_waits"), [(None, False), (30.0, True)])
async def test_who_gets_through_gets_the_others_through(
    asked: float | None, still_waits: bool
) -> None:
    """Unless they were asked to wait: then they do."""
    companions: list[Backoff] = []
    first, second = backoff(0.0, companions), backoff(0.0, companions)
    first.next_seconds()
    ended = anyio.Event()

    async def wait() -> None:
        await second.wait(asked)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await let_others_run()
        assert not ended.is_set()
        first.reset()
        await let_others_run()
        assert ended.is_set() is not still_waits
        tasks.cancel_scope.cancel()
