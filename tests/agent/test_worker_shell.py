"""The shell: carries steps out on an event loop, throws failures into workers, and begins again those that fail."""

from collections.abc import Generator
from datetime import UTC, datetime

import anyio
import pytest

from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.shell import run_worker, supervised, wait
from nixfleet_agent.workers.steps import Wait, Wakeup
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.kernel.mutator import MutatorClosed
from nixfleet_testing.contracts.event_loop import let_others_run
from tests.agent.steps import carried_out

pytestmark = pytest.mark.anyio

Work = Generator[Wait, object, str]


async def test_a_failure_is_thrown_into_the_worker_at_the_step_that_failed() -> None:
    """A worker handles it as any caller would, and goes on."""

    def work() -> Work:
        try:
            yield from Wait(1)
        except OSError as error:
            return f"found {error}"
        return "found nothing"

    async def fail(_: Wait) -> None:
        await anyio.lowlevel.checkpoint()
        raise OSError("the disk")

    assert await run_worker(work(), fail) == "found the disk"


async def test_a_worker_that_is_cancelled_is_closed() -> None:
    """What it holds is released before the cancellation is over."""
    closed: list[str] = []

    def work() -> Work:
        try:
            yield from Wait(None, Wakeup())
        finally:
            closed.append("closed")
        return ""

    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_worker(work(), lambda step: wait(step, FakeClock(datetime.now(UTC))))
    assert closed == ["closed"]


@pytest.mark.parametrize("seconds", [None, 5.0])
async def test_a_wait_ends_with_its_wakeup_or_with_its_time(seconds: float | None) -> None:
    """Whichever comes first."""
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    ended: list[int] = []

    async def wait_for(number: int, wakeup: Wakeup) -> None:
        await wait(Wait(seconds, wakeup), clock)
        ended.append(number)

    woken, never = Wakeup(), Wakeup()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for, 1, woken)
        tasks.start_soon(wait_for, 2, never)
        tasks.start_soon(wait_for, 3, Wakeup(is_set=True))
        await let_others_run()
        assert ended == [3]
        woken.set()
        await let_others_run()
        assert ended == [3, 1]
        clock.advance(5.0)
        await let_others_run()
        assert ended == ([3, 1] if seconds is None else [3, 1, 2])
        tasks.cancel_scope.cancel()


def failing(*errors: Exception) -> Generator[Wait, object, None]:
    """Return a supervised worker that fails so often, and then ends."""
    left = list(errors)

    def begin() -> Generator[Wait, object, None]:
        yield from ()
        if left:
            raise left.pop(0)

    return supervised("the worker", begin, Backoff(lambda: 0.0))


def test_a_worker_that_fails_is_named_and_begins_again_after_a_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Longer each time, until it ends by itself."""
    waited: list[float | None] = []
    carried_out(failing(OSError("a"), ValueError("b")), lambda step: waited.append(step.seconds))

    assert waited == [0.5, 1.0]
    assert caplog.text.count("the worker failed and begins again") == 2


def test_a_worker_does_not_begin_again_when_the_mutator_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The agent is stopping."""
    waited: list[float | None] = []
    carried_out(failing(MutatorClosed()), lambda step: waited.append(step.seconds))

    assert waited == []
    assert caplog.text == ""
