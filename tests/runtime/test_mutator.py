"""The single mutator where it goes beyond `MutatorContract`: batches, what it logs, and texts of errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest
from anyio.abc import TaskGroup

from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.kernel.mutator import EngineFault, QueueFull, SingleMutator, WriteFailed
from nixfleet_runtime.kernel.write_failures import NotCurrent
from tests.engines.ledger import Disk, Ledger

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
        is_current: Callable[[], bool] = lambda: True,
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
            is_current=is_current,
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


async def test_nothing_is_answered_from_memory_that_may_be_old() -> None:
    """Another process may have written since; what is written is answered, for the write shows that none has."""
    desk = MutatorBench(is_current=lambda: False)
    async with open_desk(desk):
        await desk.ask(desk.mutator.post, "ask")
        await desk.ask(desk.mutator.post, "a")

    refused = desk.answers["ask"]
    assert isinstance(refused, WriteFailed)
    assert isinstance(refused.__cause__, NotCurrent)
    assert "another process may have written since" in str(refused)
    assert desk.disk.transactions == [("a",)]
    assert not isinstance(desk.answers["a"], Exception)


async def test_an_input_that_changes_nothing_is_answered_without_a_write() -> None:
    """An input without writes costs no transaction."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "ask")

    assert (desk.answers, desk.disk.transactions) == ({"ask": "ask is 1"}, [])


async def test_a_poisonous_input_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the input on which the engine raised, with the traceback; so does the poster's error."""
    desk = MutatorBench()
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "poison", "b")

    fault = desk.answers["poison"]
    assert isinstance(fault, EngineFault)
    assert fault.input == "poison"
    assert desk.disk.transactions == [("a", "b")]
    (record,) = caplog.records
    assert record.getMessage() == "the engine failed on an input: 'poison'"
    assert record.exc_info is not None


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


async def test_a_full_queue_refuses_who_does_not_want_to_wait() -> None:
    """`post_if_room` refuses an input when as many as may wait already, and says how many."""
    desk = MutatorBench(queue_length_max=2)
    async with closed_afterwards(desk) as tasks:
        await desk.line_up(tasks, "a", "b")
        with pytest.raises(QueueFull, match="2 inputs are waiting") as refusal:
            await desk.mutator.post_if_room("c")

    assert refusal.value.length_max == 2
    assert desk.ledger.entries == ["a", "b"]


async def test_a_full_queue_lets_a_poster_wait_for_room() -> None:
    """`post` waits until the queue has room, and is then handled in its turn."""
    desk = MutatorBench(queue_length_max=1)
    async with anyio.create_task_group() as tasks:
        await desk.line_up(tasks, "a", "b")
        async with open_desk(desk):
            await anyio.wait_all_tasks_blocked()

    assert desk.answers == {"a": "a is 1", "b": "b is 2"}
