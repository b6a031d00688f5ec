"""The single mutator: order, batches, and that nobody hears of anything before it is durable."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest
from anyio.abc import TaskGroup

from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.kernel.mutator import EngineFault, QueueFull, SingleMutator, WriteFailed
from tests.engines.ledger import Disk, HeldUpDisk, Ledger

pytestmark = pytest.mark.anyio

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)


class MutatorBench:
    """A mutator around a ledger, and everything that came of what was posted."""

    def __init__(
        self,
        ledger: Ledger | None = None,
        disk: Disk | None = None,
        *,
        queue_length_max: int = 100,
        batch_length_max: int = 100,
        carry_out: Callable[[str], None] | None = None,
    ) -> None:
        self.ledger = ledger or Ledger()
        self.disk = disk or Disk()
        self.clock = FakeClock(START)
        self.done: list[str] = []
        self.answers: dict[str, str | Exception] = {}
        self.mutator = SingleMutator[str, str, str, str](
            self.ledger,
            self.disk.write,
            carry_out or self.done.append,
            self.clock,
            queue_length_max=queue_length_max,
            batch_length_max=batch_length_max,
        )

    async def ask(self, post: Callable[[str], Awaitable[str]], word: str) -> None:
        """Post `word` and note what came of it."""
        try:
            self.answers[word] = await post(word)
        except Exception as error:
            self.answers[word] = error

    async def line_up(self, tasks: TaskGroup, *words: str) -> None:
        """Have somebody post each word, and wait until they all wait."""
        for word in words:
            tasks.start_soon(self.ask, self.mutator.post, word)
        await anyio.wait_all_tasks_blocked()

    async def run_until_empty(self, tasks: TaskGroup) -> None:
        """Handle what was posted; what is posted later is refused."""
        self.mutator.close()
        tasks.start_soon(self.mutator.run)


@asynccontextmanager
async def open_desk(desk: MutatorBench) -> AsyncIterator[TaskGroup]:
    """Run the desk's mutator while the context is open."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.mutator.run)
            yield tasks
            desk.mutator.close()


@asynccontextmanager
async def closed_afterwards(desk: MutatorBench) -> AsyncIterator[TaskGroup]:
    """First things are posted, then the desk's mutator runs until they are handled."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            yield tasks
            await desk.run_until_empty(tasks)


async def test_inputs_of_several_posters_are_handled_in_the_order_they_came() -> None:
    """Inputs are handled in the order in which they were posted."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "c", "a", "b")

    assert desk.ledger.entries == ["c", "a", "b"]


async def test_a_poster_gets_the_reply_to_its_own_input() -> None:
    """Each poster is answered with what its own input came to."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b")

    assert desk.answers == {"a": "a is 1", "b": "b is 2"}


async def test_inputs_that_wait_together_are_written_in_one_transaction() -> None:
    """What was posted while the mutator was busy becomes durable with one write."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b", "c")

    assert desk.disk.transactions == [("a", "b", "c")]


async def test_more_inputs_than_a_batch_holds_are_written_in_several_transactions() -> None:
    """A batch takes no more inputs than it may, and the next one takes the rest."""
    desk = MutatorBench(batch_length_max=2)
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b", "c")

    assert desk.disk.transactions == [("a", "b"), ("c",)]


async def test_an_input_that_changes_nothing_is_answered_without_a_write() -> None:
    """An input without writes costs no transaction."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "ask")

    assert (desk.answers, desk.disk.transactions) == ({"ask": "ask is 1"}, [])


async def test_a_write_under_way_holds_back_replies_and_actions() -> None:
    """Nobody is answered, and nothing is carried out, before the write is over."""
    disk = HeldUpDisk()
    desk = MutatorBench(disk=disk)
    async with open_desk(desk) as tasks:
        await desk.line_up(tasks, "a")
        assert await disk.begun()
        await anyio.wait_all_tasks_blocked()

        assert (desk.answers, desk.done) == ({}, [])
        disk.let_go()
    assert (desk.answers, desk.done) == ({"a": "a is 1"}, ["after a"])


async def test_actions_of_a_batch_are_carried_out_in_the_order_of_its_inputs() -> None:
    """After the write, actions are carried out in the order in which they were decided."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "b", "a")

    assert desk.done == ["after b", "after a"]


async def test_time_that_passed_between_inputs_is_told_to_the_engine() -> None:
    """The engine is told the clock's time at which each input is handled."""
    desk = MutatorBench()
    async with open_desk(desk):
        await desk.mutator.post("a")
        desk.clock.advance(60)
        await desk.mutator.post("b")

    assert [(at - START).total_seconds() for at in desk.ledger.told_at] == [0, 60]


async def test_a_poisonous_input_fails_alone() -> None:
    """An input on which the engine raises fails by name and cause; the rest of its batch goes through."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "poison", "b")

    fault = desk.answers.pop("poison")
    assert isinstance(fault, EngineFault)
    assert (fault.input, repr(fault.__cause__)) == (
        "poison",
        "RuntimeError('cannot digest poison')",
    )
    assert desk.answers == {"a": "a is 1", "b": "b is 2"}
    assert desk.disk.transactions == [("a", "b")]


async def test_a_poisonous_input_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the input on which the engine raised, with the traceback."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "poison")

    (record,) = caplog.records
    assert record.getMessage() == "the engine failed on an input: 'poison'"
    assert record.exc_info is not None


async def test_a_write_that_fails_leaves_the_engine_as_before() -> None:
    """After a failed write the engine is as it was after the last good one."""
    desk = MutatorBench(disk=Disk(has_no_room_for=["b"]))
    async with open_desk(desk) as tasks:
        await desk.line_up(tasks, "a")
        await desk.line_up(tasks, "b")

        assert desk.ledger.entries == ["a"]


async def test_a_write_that_fails_is_told_to_the_poster_with_its_cause() -> None:
    """The poster of what could not be written gets WriteFailed, which says why."""
    desk = MutatorBench(disk=Disk(has_no_room_for=["a"]))
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a")

    failed = desk.answers["a"]
    assert isinstance(failed, WriteFailed)
    assert isinstance(failed.__cause__, OSError)
    assert str(failed) == "could not be made durable: no room for a"


async def test_a_write_that_fails_has_no_actions() -> None:
    """What did not become durable has no consequences."""
    desk = MutatorBench(disk=Disk(has_no_room_for=["a"]))
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a")

    assert desk.done == []


async def test_a_batch_that_fails_is_tried_again_one_by_one() -> None:
    """After a failed batch only the input at fault fails; the others become durable, in order."""
    desk = MutatorBench(disk=Disk(has_no_room_for=["b"]))
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b", "c")

    assert isinstance(desk.answers.pop("b"), WriteFailed)
    assert desk.answers == {"a": "a is 1", "c": "c is 2"}
    assert desk.disk.transactions == [("a",), ("c",)]


async def test_a_disk_that_takes_nothing_fails_every_poster() -> None:
    """When no write goes through, each poster is told so, about its own input."""
    desk = MutatorBench(disk=Disk(has_no_room_for=["a", "b"]))
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b")

    assert {word: str(answer) for word, answer in desk.answers.items()} == {
        "a": "could not be made durable: no room for a",
        "b": "could not be made durable: no room for b",
    }


async def test_a_disk_that_has_room_again_takes_the_next_input() -> None:
    """A failed write stops nothing: the next input is handled as ever."""
    desk = MutatorBench(disk=Disk(has_no_room_for=["a"]))
    async with open_desk(desk) as tasks:
        await desk.line_up(tasks, "a")
        desk.disk.has_no_room_for.clear()

        assert await desk.mutator.post("b") == "b is 1"


async def test_an_action_that_raises_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An action that raises is logged; every poster of the batch is answered and the next one too."""

    def refuse(action: str) -> None:
        raise RuntimeError(f"cannot do {action}")

    desk = MutatorBench(carry_out=refuse)
    async with open_desk(desk) as tasks:
        await desk.line_up(tasks, "a", "b")
        await desk.line_up(tasks, "c")

    assert desk.answers == {"a": "a is 1", "b": "b is 2", "c": "c is 3"}
    assert caplog.messages[0] == "an action failed after its input was made durable: 'after a'"


async def test_an_urgent_input_goes_ahead_of_those_that_wait() -> None:
    """An urgent input is handled before everything that waits already."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b")
        tasks.start_soon(desk.ask, desk.mutator.post_urgent, "stop")
        await anyio.wait_all_tasks_blocked()

    assert desk.ledger.entries == ["stop", "a", "b"]


async def test_an_urgent_input_finds_an_idle_mutator_awake() -> None:
    """An urgent input is handled at once when nothing else waits."""
    desk = MutatorBench()
    async with open_desk(desk):
        await anyio.wait_all_tasks_blocked()

        assert await desk.mutator.post_urgent("stop") == "stop is 1"


async def test_an_urgent_input_needs_no_room_in_the_queue() -> None:
    """With a full queue an urgent input is accepted at once, and handled first."""
    desk = MutatorBench(queue_length_max=1)
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a")
        tasks.start_soon(desk.ask, desk.mutator.post_urgent, "stop")
        await anyio.wait_all_tasks_blocked()

    assert desk.ledger.entries == ["stop", "a"]


async def test_a_full_queue_refuses_who_does_not_want_to_wait() -> None:
    """`post_if_room` refuses an input when as many as may wait already, and says how many."""
    desk = MutatorBench(queue_length_max=2)
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b")
        with pytest.raises(QueueFull, match="2 inputs are waiting") as refusal:
            await desk.mutator.post_if_room("c")

    assert refusal.value.length_max == 2
    assert desk.ledger.entries == ["a", "b"]


async def test_a_queue_with_room_takes_who_does_not_want_to_wait() -> None:
    """`post_if_room` is a post like any other while there is room."""
    desk = MutatorBench(queue_length_max=1)
    async with open_desk(desk):
        assert await desk.mutator.post_if_room("a") == "a is 1"


async def test_a_full_queue_lets_a_poster_wait_for_room() -> None:
    """`post` waits until the queue has room, and is then handled in its turn."""
    desk = MutatorBench(queue_length_max=1)
    async with anyio.create_task_group() as tasks:
        await desk.line_up(tasks, "a", "b")
        async with open_desk(desk):
            await anyio.wait_all_tasks_blocked()

    assert desk.answers == {"a": "a is 1", "b": "b is 2"}
