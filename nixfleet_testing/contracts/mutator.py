"""The contract of a kernel: it takes inputs from many tasks, gives them to one engine, and makes its writes durable.

Subclass `MutatorContract`, return your kernel, and run pytest. `nixfleet_runtime.kernel.mutator` is ours; yours
may batch otherwise or run elsewhere, but these promises are what both engines and all their posters rely
on.
Source: docs/spec/runtimes.md, The kernel both sides share.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

import anyio
import pytest

from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.engine import Engine
from nixfleet_runtime.kernel.mutator import (
    WRITE_SECONDS_MAX,
    EngineFault,
    MutatorClosed,
    QueueFull,
    WriteFailed,
)
from nixfleet_runtime.kernel.write_failures import (
    OutcomeUnknown,
    OwnershipLost,
    Unreachable,
    WritingEnded,
)
from nixfleet_testing.contracts.event_loop import ASYNCIO, in_event_loop, in_loop_of, let_others_run
from nixfleet_testing.contracts.mutator_at_work import REFUSED_ACTION, START, Mutator, MutatorBench

__all__ = ["Mutator", "MutatorContract"]

WAYS = ("post", "post_if_room", "post_urgent")
FROZEN_SECONDS = 0.05


class MutatorContract(ABC):
    """What every kernel must do. Subclass it as `class TestMyMutator(MutatorContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your kernel runs in: "asyncio" or "trio"."""

    patience_seconds: float = 5.0
    """How much real time a test may take, before it says what did not happen."""

    @abstractmethod
    def make_mutator(
        self,
        engine: Engine[str, str, str, str],
        write: Callable[[Sequence[str]], Awaitable[None]],
        carry_out: Callable[[str], None],
        clock: Clock,
        *,
        queue_length_max: int,
        write_seconds_max: float,
    ) -> Mutator:
        """Return a kernel around `engine`. It is not running yet."""

    # Order, and one at a time.

    @in_event_loop
    async def test_inputs_are_handled_and_written_in_the_order_they_came(self) -> None:
        """The engine decides in the order of posting, and the disk gets the writes in that order."""
        desk = await self._handled("c", "a", "d", "b")
        desk.require(
            "the engine was given the inputs in another order", list("cadb"), desk.ledger.words
        )
        desk.require("the writes were re-ordered", list("cadb"), desk.disk.written)
        desk.require("the actions were re-ordered", [f"after {w}" for w in "cadb"], desk.done)

    @in_event_loop
    async def test_each_poster_gets_the_reply_to_its_own_input(self) -> None:
        """No poster gets the reply to another poster's input."""
        desk = await self._handled("a", "b", "c")
        expected = {word: f"{word} is number {n}" for n, word in enumerate("abc", start=1)}
        desk.require("a poster got the reply to another's input", expected, desk.answers)

    @pytest.mark.parametrize("way", WAYS)
    def test_each_way_of_posting_brings_the_reply_of_an_idle_kernel(self, way: str) -> None:
        """A kernel that has nothing to do wakes up for each of them."""

        @in_loop_of(self)
        async def post() -> None:
            desk = self._desk()
            async with desk.running():
                await let_others_run()
                await desk.ask(getattr(desk.mutator, way), "a")
            desk.require(f"`{way}` was not answered", {"a": "a is number 1"}, desk.answers)

        post()

    @in_event_loop
    async def test_the_engine_gets_the_time_of_the_clock(self) -> None:
        """Each input is handled at the clock's time."""
        desk = self._desk()
        async with desk.running():
            await desk.mutator.post("a")
            desk.clock.advance(60)
            await desk.mutator.post("b")
        seconds = [(at - START).total_seconds() for at in desk.ledger.handled_at]
        desk.require("the engine did not get the clock's time", [0.0, 60.0], seconds)

    @in_event_loop
    async def test_the_engine_decides_nothing_while_a_write_is_under_way(self) -> None:
        """A decision taken during a write would be undone together with it, without notice."""
        desk = self._desk()
        async with desk.writing("a") as tasks:
            await desk.line_up(tasks, "b")
            seen = list(desk.ledger.words)
            desk.disk.let_go()
        desk.require("the engine decided on while a write was under way", ["a"], seen)

    @in_event_loop
    async def test_an_urgent_input_goes_ahead_of_those_that_wait(self) -> None:
        """An operator's stop does not wait behind what it is to stop, nor for room in the queue."""
        desk = self._desk(queue_length_max=2)
        async with desk.posted("a", "b") as tasks:
            tasks.start_soon(desk.ask, desk.mutator.post_urgent, "stop")
            await let_others_run()
        desk.require("the urgent input had to wait", ["stop", "a", "b"], desk.ledger.words)

    @in_event_loop
    async def test_a_full_queue_refuses_who_will_not_wait(self) -> None:
        """`post_if_room` says at once that there is no room."""
        desk = self._desk(queue_length_max=2)
        async with desk.posted("a", "b") as tasks:
            tasks.start_soon(desk.ask, desk.mutator.post_if_room, "c")
            await let_others_run()
            answer = desk.answers.get("c")
        assert isinstance(answer, QueueFull), (
            f"`post_if_room` on a full queue: expected QueueFull, found {answer!r}"
        )

    # Durable first.

    @in_event_loop
    async def test_no_poster_is_answered_before_the_write_has_ended(self) -> None:
        """A reply promises that what it says is durable."""
        desk = self._desk()
        async with desk.writing("a"):
            await let_others_run()
            answers = dict(desk.answers)
            desk.disk.let_go()
        desk.require("a poster was answered before its write was over", {}, answers)
        desk.require("the poster was not answered", {"a": "a is number 1"}, desk.answers)

    @in_event_loop
    async def test_nothing_is_carried_out_before_the_write_is_over(self) -> None:
        """What follows from an input waits until the input cannot be lost any more."""
        desk = self._desk()
        async with desk.writing("a"):
            await let_others_run()
            done = list(desk.done)
            desk.disk.let_go()
        desk.require("an action was carried out before the write was over", [], done)
        desk.require("the action was not carried out, once", ["after a"], desk.done)

    @in_event_loop
    async def test_the_engine_knows_what_is_durable(self) -> None:
        """After each write `settle` is called, so that a later failure undoes no more than its own batch."""
        desk = await self._handled("a", "b")
        desk.require("`settle` was not called after each write", ["a", "b"], desk.ledger.settled)

    @in_event_loop
    async def test_an_input_that_changes_nothing_is_answered(self) -> None:
        """A question needs no write."""
        desk = await self._handled("ask")
        desk.require("a question was not answered", {"ask": "ask is number 1"}, desk.answers)

    # What fails.

    @in_event_loop
    async def test_a_poisonous_input_fails_alone(self) -> None:
        """An input on which the engine raises fails by name; those posted with it go through."""
        desk = await self._handled("a", "poison", "b")
        fault = desk.answers.pop("poison", None)
        assert isinstance(fault, EngineFault), f"its poster got {fault!r} instead of an EngineFault"
        assert isinstance(fault.__cause__, RuntimeError), (
            f"an EngineFault must have what the engine raised as its cause, found {fault.__cause__!r}"
        )
        desk.require("inputs were dropped with a poisonous one", ["a", "b"], desk.disk.written)
        expected = {"a": "a is number 1", "b": "b is number 2"}
        desk.require("posters were not answered because of another's input", expected, desk.answers)

    @in_event_loop
    async def test_a_write_that_fails_is_taken_back_and_said(self) -> None:
        """The engine is as before, nothing follows, and the poster knows."""
        desk = self._desk()
        async with desk.running():
            desk.disk.refused = {"b"}
            await desk.ask(desk.mutator.post, "a")
            await desk.ask(desk.mutator.post, "b")
        desk.require("the engine kept what was never written", ["a"], desk.ledger.words)
        desk.require("something followed from a failed write", ["after a"], desk.done)
        answer = desk.answers.get("b")
        assert isinstance(answer, WriteFailed), f"its poster got {answer!r} instead of WriteFailed"
        assert isinstance(answer.__cause__, OSError), (
            f"WriteFailed must have what the disk said as its cause, found {answer.__cause__!r}"
        )

    @in_event_loop
    async def test_a_write_that_fails_affects_no_other_poster(self) -> None:
        """Of inputs that were posted together only the one that cannot be written fails."""
        desk = self._desk()
        async with desk.posted("a", "b", "c"):
            desk.disk.refused = {"b"}
        failed = desk.answers.pop("b", None)
        assert isinstance(failed, WriteFailed), f"its poster got {failed!r} instead of WriteFailed"
        desk.require("inputs were dropped with one that failed", ["a", "c"], desk.disk.written)
        desk.require("the engine and the disk disagree", ["a", "c"], desk.ledger.words)
        expected = {"a": "a is number 1", "c": "c is number 2"}
        desk.require(
            "a poster got a wrong answer after another poster's write failed",
            expected,
            desk.answers,
        )

    @in_event_loop
    async def test_a_disk_that_has_room_again_takes_the_next_input(self) -> None:
        """A failed write ends nothing."""
        desk = self._desk()
        async with desk.running():
            desk.disk.refused = {"a"}
            await desk.ask(desk.mutator.post, "a")
            desk.disk.refused = set()
            await desk.ask(desk.mutator.post, "b")
        desk.require("the input after a failed write was lost", ["b"], desk.disk.written)

    @in_event_loop
    async def test_an_action_that_fails_stops_nothing(self) -> None:
        """What it follows from is durable and answered, and the other actions are carried out all the same."""
        word = REFUSED_ACTION.removeprefix("after ")
        desk = await self._handled(word, "a")
        expected = {word: f"{word} is number 1", "a": "a is number 2"}
        desk.require("an action failed, and posters were not answered", expected, desk.answers)
        desk.require(
            "an action failed, and others were not begun", [REFUSED_ACTION, "after a"], desk.done
        )

    @in_event_loop
    async def test_a_store_that_cannot_be_reached_is_not_asked_for_each_input(self) -> None:
        """After Unreachable nothing was written and nothing would be: the batch fails as it is, and nothing ends."""
        desk = self._desk()
        async with desk.posted("a", "b", "c"):
            desk.disk.fails = Unreachable("the store", "connection refused")
        kinds = {word: type(answer) for word, answer in desk.answers.items()}
        expected = dict.fromkeys("abc", WriteFailed)
        desk.require("posters were not told that nothing was written", expected, kinds)
        desk.require("the engine kept what was never written", [], desk.ledger.words)
        assert desk.disk.tried <= len("abc"), (
            f"a store that cannot be reached was asked {desk.disk.tried} times for three inputs: "
            "do not try the inputs of a batch one by one"
        )

    @pytest.mark.parametrize(
        "ends", [OwnershipLost("db", "me", "another"), OutcomeUnknown("db", "no answer")], ids=repr
    )
    def test_a_kernel_that_can_write_no_more_ends_by_name(self, ends: WritingEnded) -> None:
        """It takes back, answers every poster, and raises what the store raised."""

        @in_loop_of(self)
        async def lose() -> None:
            desk = self._desk()
            desk.disk.fails = ends
            error = await desk.run_to_its_end("a", "b")
            assert error is ends, (
                f"the store can be written no more ({ends}): expected the kernel to end with that, found {error!r}"
            )
            desk.require("the engine kept what was not confirmed", [], desk.ledger.words)
            desk.require("something followed from it", [], desk.done)
            answer = desk.answers.get("a")
            assert isinstance(answer, WriteFailed), f"its poster got {answer!r}, not WriteFailed"
            assert isinstance(desk.answers.get("b"), WriteFailed | MutatorClosed), (
                f"a poster was left without an answer: {desk.answers.get('b')!r}"
            )
            desk.require("the store was asked again", 1, desk.disk.tried)

        lose()

    @in_event_loop
    async def test_a_write_that_does_not_end_ends_the_kernel(self) -> None:
        """A frozen disk must not leave posters waiting for ever: whether it wrote is not known, and that is said."""
        desk = self._desk(write_seconds_max=FROZEN_SECONDS)
        desk.disk.hold_up()
        error = await desk.run_to_its_end("a")
        assert isinstance(error, OutcomeUnknown), (
            f"a write did not end within its {FROZEN_SECONDS:g} s: expected the kernel to end with OutcomeUnknown, "
            f"found {error!r}"
        )
        answer = desk.answers.get("a")
        assert isinstance(answer, WriteFailed), (
            f"a writer froze, and its poster got {answer!r} instead of WriteFailed"
        )

    # Coming to an end.

    @in_event_loop
    async def test_an_accepted_input_outlives_its_poster(self) -> None:
        """A poster who is cancelled takes nothing back: the input is handled all the same."""
        desk = self._desk()
        async with desk.writing("a"):
            async with anyio.create_task_group() as posters:
                await desk.line_up(posters, "b")
                posters.cancel_scope.cancel()
            desk.disk.let_go()
        desk.require("an input was lost with its poster", ["a", "b"], desk.disk.written)

    @in_event_loop
    async def test_cancelling_the_run_does_not_cut_off_what_is_being_written(self) -> None:
        """What became durable is answered and carried out, even if the kernel is cancelled in between."""
        desk = self._desk()
        await desk.be_cancelled_while_writing("a")
        desk.require("a write was begun and not finished", ["a"], desk.disk.written)
        desk.require("what is durable was not answered", "a is number 1", desk.answers.get("a"))
        desk.require("what is durable had no consequence", ["after a"], desk.done)

    @in_event_loop
    async def test_cancelling_the_run_leaves_no_poster_waiting(self) -> None:
        """Posters that still wait get MutatorClosed."""
        desk = self._desk()
        await desk.be_cancelled_while_writing("a", "b", "c")
        kinds = {word: type(desk.answers.get(word)) for word in ("b", "c")}
        expected = dict.fromkeys(("b", "c"), MutatorClosed)
        desk.require("posters were left waiting when the kernel ended", expected, kinds)

    @in_event_loop
    async def test_closing_answers_what_was_accepted(self) -> None:
        """What was posted before `close` is handled, and then `run` returns."""
        desk = self._desk()
        async with desk.posted("a", "b"):
            desk.mutator.close()
        desk.require("accepted inputs were dropped on closing", ["a", "b"], desk.disk.written)

    @in_event_loop
    async def test_closing_refuses_who_still_waits_for_room(self) -> None:
        """A poster that waits for room in a full queue was not accepted, and gets MutatorClosed."""
        desk = self._desk(queue_length_max=1)
        async with desk.posted("a", "b"):
            pass
        answer = desk.answers.get("b")
        assert isinstance(answer, MutatorClosed), (
            f"closed while somebody waited for room: expected MutatorClosed, found {answer!r}"
        )
        desk.require("the accepted input was dropped", ["a"], desk.disk.written)

    @pytest.mark.parametrize("way", WAYS)
    def test_a_closed_kernel_refuses_by_name(self, way: str) -> None:
        """After `close` no input is accepted, and posting raises MutatorClosed."""

        @in_loop_of(self)
        async def post_to_closed() -> None:
            desk = self._desk()
            async with desk.running() as tasks:
                desk.mutator.close()
                tasks.start_soon(desk.ask, getattr(desk.mutator, way), "late")
            answer = desk.answers.get("late")
            assert isinstance(answer, MutatorClosed), (
                f"`{way}` after `close`: expected MutatorClosed, found {answer!r}"
            )

        post_to_closed()

    def _desk(
        self, queue_length_max: int = 100, write_seconds_max: float = WRITE_SECONDS_MAX
    ) -> MutatorBench:
        desk = MutatorBench(self.patience_seconds)
        desk.mutator = self.make_mutator(
            desk.ledger,
            desk.disk.write,
            desk.carry_out,
            desk.clock,
            queue_length_max=queue_length_max,
            write_seconds_max=write_seconds_max,
        )
        return desk

    async def _handled(self, *words: str) -> MutatorBench:
        """Return a desk whose kernel has handled these words, which all waited for it."""
        desk = self._desk()
        async with desk.posted(*words):
            pass
        return desk
