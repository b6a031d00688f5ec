"""The end of the single mutator: closed, cancelled or broken. What `MutatorContract` says is not repeated here."""

import asyncio

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from nixfleet_runtime.kernel.mutator import MutatorClosed, WriteFailed
from nixfleet_runtime.kernel.write_failures import WriteOverdue
from tests.engines.ledger import Disk, ForgetfulLedger, HeldUpDisk, SpoiltLedger, StumblingDisk
from tests.runtime.test_mutator import MutatorBench, closed_afterwards, open_desk

pytestmark = pytest.mark.anyio
SHORT_SECONDS = 0.01
LONG_SECONDS = 3600.0


@pytest.mark.parametrize("way", ["post", "post_if_room", "post_urgent"])
async def test_a_closed_mutator_refuses_an_input_by_name(way: str) -> None:
    """After `close` no way of posting accepts an input, and the refusal names it."""
    desk = MutatorBench()
    async with open_desk(desk):
        desk.mutator.close()

        with pytest.raises(MutatorClosed, match="'a' was not accepted"):
            await getattr(desk.mutator, way)("a")
    assert desk.ledger.entries == []


async def test_closing_answers_what_was_accepted() -> None:
    """What was posted before `close`, urgent or not, is handled and answered."""
    desk = MutatorBench(batch_length_max=1)
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b")
        tasks.start_soon(desk.ask, desk.mutator.post_urgent, "stop")
        await anyio.wait_all_tasks_blocked()

    assert desk.answers == {"stop": "stop is 1", "a": "a is 2", "b": "b is 3"}


@pytest.mark.parametrize("steps", range(8))
async def test_closing_in_the_moment_of_a_post_answers_or_refuses_it(steps: int) -> None:
    """A post that the closing finds at any step of its way is answered, or refused by name."""
    desk = MutatorBench()
    async with open_desk(desk) as tasks:
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(desk.ask, desk.mutator.post, "a")
        await _let_others_run(steps)
        desk.mutator.close()

    assert str(desk.answers["a"]) in ("a is 1", "closed; 'a' was not accepted")


async def test_a_write_under_way_ends_by_a_limit_that_is_set_meanwhile() -> None:
    """With the error of a write that is overdue; a limit of before that is shorter stays."""
    disk = HeldUpDisk()
    desk = MutatorBench(disk=disk)
    with pytest.raises(ExceptionGroup) as ended:
        await _limit_a_write_under_way(desk, disk)
    disk.let_go()
    assert ended.group_contains(WriteOverdue, match=r"within 0\.01 s")
    assert isinstance(desk.answers["a"], WriteFailed)


async def _limit_a_write_under_way(desk: MutatorBench, disk: HeldUpDisk) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.mutator.run)
        await desk.line_up(tasks, "a")
        assert await disk.begun()
        desk.mutator.limit_writes(SHORT_SECONDS)
        desk.mutator.limit_writes(LONG_SECONDS)


async def test_closing_twice_is_as_good_as_once() -> None:
    """A second `close` does nothing."""
    desk = MutatorBench()
    async with open_desk(desk):
        desk.mutator.close()
        desk.mutator.close()


async def test_an_input_whose_poster_is_cancelled_before_there_is_room_is_not_handled() -> None:
    """A poster that is cancelled while it waits for room takes its input with it."""
    desk = MutatorBench(queue_length_max=1)
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a")
        async with anyio.create_task_group() as posters:
            await desk.line_up(posters, "b")
            posters.cancel_scope.cancel()

    assert desk.ledger.entries == ["a"]


async def test_cancelling_the_run_leaves_no_poster_waiting() -> None:
    """Whoever waits when `run` is cancelled is told that the mutator is closed."""
    disk = HeldUpDisk()
    desk = MutatorBench(disk=disk, queue_length_max=1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as posters:
            running = await _start(desk, posters)
            await desk.line_up(posters, "a")
            assert await disk.begun()
            await desk.line_up(posters, "queued", "without room")
            posters.start_soon(desk.ask, desk.mutator.post_urgent, "urgent")
            await anyio.wait_all_tasks_blocked()
            running.cancel()
            disk.let_go()

    assert desk.answers.pop("a") == "a is 1"
    assert {word: type(answer) for word, answer in desk.answers.items()} == {
        "queued": MutatorClosed,
        "without room": MutatorClosed,
        "urgent": MutatorClosed,
    }


async def test_cancelling_the_run_during_a_write_that_fails_still_tries_its_batch_again() -> None:
    """A batch that is under way is seen through, one by one if need be, though the run is cancelled."""
    disk = HeldUpDisk(has_no_room_for=["b"])
    desk = MutatorBench(disk=disk, queue_length_max=3)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as posters:
            await desk.line_up(posters, "a", "b", "c")
            running = await _start(desk, posters)
            assert await disk.begun()
            running.cancel()
            disk.let_go()

    assert isinstance(desk.answers.pop("b"), WriteFailed)
    assert desk.answers == {"a": "a is 1", "c": "c is 2"}
    assert disk.transactions == [("a",), ("c",)]


async def test_cancelling_the_run_refuses_later_posts_by_name() -> None:
    """A mutator whose `run` was cancelled is closed."""
    desk = MutatorBench()
    async with anyio.create_task_group() as tasks:
        (await _start(desk, tasks)).cancel()

    with pytest.raises(MutatorClosed, match="'a' was not accepted"):
        await desk.mutator.post("a")


@pytest.mark.parametrize("steps", range(8))
async def test_cancelling_the_task_of_the_run_as_an_input_arrives_leaves_no_poster_waiting(
    steps: int,
) -> None:
    """A post that the end of the task finds at any step of its way is answered, or told of the end."""
    desk = MutatorBench()
    run = asyncio.create_task(desk.mutator.run())
    await anyio.wait_all_tasks_blocked()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as posters:
            posters.start_soon(desk.ask, desk.mutator.post, "a")
            await _let_others_run(steps)
            run.cancel()
    await asyncio.wait([run])

    answer = desk.answers["a"]
    assert answer == "a is 1" or isinstance(answer, MutatorClosed)


async def test_an_engine_that_cannot_take_back_ends_the_run_and_leaves_no_poster_waiting() -> None:
    """When the engine cannot be trusted any more the run raises, and everybody who waits is told."""
    desk = MutatorBench(SpoiltLedger(), Disk(has_no_room_for=["a"]))
    async with anyio.create_task_group() as posters:
        await desk.line_up(posters, "a", "b")
        with pytest.raises(RuntimeError, match="nothing can be taken back"):
            await desk.mutator.run()

    assert {word: str(answer) for word, answer in desk.answers.items()} == {
        "a": "closed before 'a' was answered",
        "b": "closed before 'b' was answered",
    }


async def test_a_run_that_breaks_down_leaves_the_answers_that_were_given() -> None:
    """An input that became durable before the engine broke down is answered with its reply."""
    desk = MutatorBench(ForgetfulLedger(), StumblingDisk())
    with anyio.fail_after(10):
        async with anyio.create_task_group() as posters:
            await desk.line_up(posters, "a", "ask")
            with pytest.raises(RuntimeError, match="cannot settle again"):
                await desk.mutator.run()

    assert {word: str(answer) for word, answer in desk.answers.items()} == {
        "a": "a is 1",
        "ask": "closed before 'ask' was answered",
    }


async def _start(desk: MutatorBench, tasks: TaskGroup) -> anyio.CancelScope:
    """Run the desk's mutator, and return what cancels it alone."""
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await desk.mutator.run()

    tasks.start_soon(run)
    await anyio.wait_all_tasks_blocked()
    return scope


async def _let_others_run(steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
