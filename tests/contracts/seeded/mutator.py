"""Kernels with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeAlias

import anyio
from attrs import evolve

from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.engine import Commit, Engine
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, SingleMutator, _Entry
from nixfleet_runtime.kernel.write_failures import Unreachable, WritingEnded
from nixfleet_testing.contracts.mutator import Mutator, MutatorContract

Kernel: TypeAlias = SingleMutator[str, str, str, str]
Entry: TypeAlias = _Entry[str, str]
Decided: TypeAlias = Commit[str, str, str]
WordEngine: TypeAlias = Engine[str, str, str, str]


class SeededContract(MutatorContract):
    """Tries `kernel`, and is soon tired of waiting."""

    kernel: type[Kernel]
    patience_seconds = 0.5

    def make_mutator(
        self,
        engine: WordEngine,
        write: Callable[[Sequence[str]], Awaitable[None]],
        carry_out: Callable[[str], None],
        clock: Clock,
        *,
        queue_length_max: int,
        write_seconds_max: float,
    ) -> Mutator:
        return self.kernel(
            engine,
            write,
            carry_out,
            clock,
            queue_length_max=queue_length_max,
            write_seconds_max=write_seconds_max,
        )


class AnswersFirst(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        handled = [(entry, commit) for entry in batch if (commit := self._handle(entry))]
        for entry, commit in handled:
            entry.answer(commit.reply)
            assert entry.turn is not None
            entry.turn.set()
        await self._write([w for _, c in handled for w in c.writes])
        self._engine.settle()
        for _, commit in handled:
            for action in commit.actions:
                self._start(action)


class TestAnswersBeforeTheWrite(SeededContract):
    """Acknowledges what is not durable yet."""

    says = "a poster was answered before its write was over"
    kernel = AnswersFirst


class ActsFirst(Kernel):
    def _handle(self, entry: Entry) -> Decided | None:
        commit = super()._handle(entry)
        if commit is None:
            return None
        for action in commit.actions:
            self._start(action)
        return evolve(commit, actions=())


class TestActsBeforeTheWrite(SeededContract):
    """Carries out, or sends, what is not durable yet."""

    says = "an action was carried out before the write was over"
    kernel = ActsFirst


class DropsTheBatch(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            if entry.input.startswith("poison"):
                for each in batch:
                    fault = EngineFault(each.input)
                    fault.__cause__ = RuntimeError(f"cannot digest {entry.input}")
                    each.fail(fault)
                return
        await super()._settle(batch)


class TestDropsABatchWhenOneInputFails(SeededContract):
    """Fails everything that was posted together with a poisonous input."""

    says = "inputs were dropped with a poisonous one"
    kernel = DropsTheBatch


class FailsTheBatch(Kernel):
    async def _retry_singly(self, entries: Sequence[Entry], error: Exception) -> None:
        for entry in entries:
            await super()._retry_singly([entry], error)


class TestDropsABatchWhenOneWriteFails(SeededContract):
    """Does not try the others again when a write fails because of one."""

    says = "inputs were dropped with one that failed"
    kernel = FailsTheBatch


class ReOrders(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        await super()._settle(sorted(batch, key=lambda entry: entry.input))


class TestReordersABatch(SeededContract):
    """Handles what waits in an order of its own."""

    says = "the engine was given the inputs in another order"
    kernel = ReOrders


class ReOrdersWrites(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        write = self._write
        self._write = lambda writes: write(sorted(writes))
        await super()._settle(batch)
        self._write = write


class TestReordersWrites(SeededContract):
    """Sorts the writes of a batch before it hands them to the store."""

    says = "the writes were re-ordered"
    kernel = ReOrdersWrites


class LosesWithPosters(Kernel):
    def _handle(self, entry: Entry) -> Decided | None:
        return super()._handle(entry) if entry in self._awaited else None


class TestLosesAnInputWithItsPoster(SeededContract):
    """Does not handle what nobody waits for any more."""

    says = "an input was lost with its poster"
    kernel = LosesWithPosters


class GivesUpAtOnce(Kernel):
    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_told_to_stop)
            await super().run()
            tasks.cancel_scope.cancel()

    async def _until_told_to_stop(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._abandon()


class TestGivesUpOnWhatIsBeingWritten(SeededContract):
    """Says that it is closed to those whose inputs are being written, and the write succeeds."""

    says = "what is durable was not answered"
    kernel = GivesUpAtOnce


class LeavesWaiting(Kernel):
    def _abandon(self) -> None:
        self.close()
        self._receiver.close()


class TestLeavesPostersWaiting(SeededContract):
    """Ends without a word to those who wait."""

    says = "posters were left waiting when the kernel ended"
    kernel = LeavesWaiting


class NeverTakesBack:
    """An engine that keeps what was not written."""

    def __init__(self, engine: WordEngine) -> None:
        self._engine = engine

    def handle(self, input: str, now: datetime) -> Decided:
        return self._engine.handle(input, now)

    def settle(self) -> None:
        self._engine.settle()

    def roll_back(self) -> None:
        pass


class ForgetsToTakeBack(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        engine, self._engine = self._engine, NeverTakesBack(self._engine)
        await super()._settle(batch)
        self._engine = engine


class TestForgetsToTakeBack(SeededContract):
    """Leaves an engine whose write failed as if it had succeeded."""

    says = "the engine kept what was never written"
    kernel = ForgetsToTakeBack


class ForgetsToSettle(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        engine, self._engine = self._engine, NeverSettles(self._engine)
        await super()._settle(batch)
        self._engine = engine


class NeverSettles(NeverTakesBack):
    """An engine that takes back more than what failed."""

    def settle(self) -> None:
        pass

    def roll_back(self) -> None:
        self._engine.roll_back()


class TestForgetsToSettle(SeededContract):
    """Has a failed write take back what was durable before it."""

    says = "`settle` was not called after each write"
    kernel = ForgetsToSettle


class SwallowsFailures(Kernel):
    async def _settle(self, batch: Sequence[Entry]) -> None:
        write = self._write
        self._write = lambda writes: _unless_it_fails(write, writes)
        await super()._settle(batch)
        self._write = write


async def _unless_it_fails(
    write: Callable[[Sequence[str]], Awaitable[None]], writes: Sequence[str]
) -> None:
    with suppress(OSError):
        await write(writes)


class TestSwallowsAFailedWrite(SeededContract):
    """Goes on when the disk is full."""

    says = "the engine kept what was never written"
    kernel = SwallowsFailures


class AnswersOthers(Kernel):
    _last = ""

    def _handle(self, entry: Entry) -> Decided | None:
        commit = super()._handle(entry)
        if commit is None:
            return None
        reply, self._last = self._last or commit.reply, commit.reply
        return evolve(commit, reply=reply)


class TestAnswersTheWrongPoster(SeededContract):
    """Gives each poster the reply to the input before."""

    says = "a poster got the reply to another's input"
    kernel = AnswersOthers


class DecidesDuringWrites(Kernel):
    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as writing:
                while batch := await self._next_batch():
                    writing.start_soon(self._settle, batch)
        finally:
            self._abandon()


class TestDecidesWhileItWrites(SeededContract):
    """Has the engine go on, and a second write begin, while one is under way."""

    says = "the engine decided on while a write was under way"
    kernel = DecidesDuringWrites


class HasNoUrgency(Kernel):
    async def post_urgent(self, input: str) -> str:
        return await self.post(input)


class TestHasStopsWait(SeededContract):
    """Puts an operator's stop behind what it is to stop."""

    says = "the urgent input had to wait"
    kernel = HasNoUrgency


class AlwaysWaits(Kernel):
    async def post_if_room(self, input: str) -> str:
        return await self.post(input)


class TestNeverRefuses(SeededContract):
    """Has those wait who asked not to."""

    says = "expected QueueFull"
    kernel = AlwaysWaits


class ForgetsWaiting(Kernel):
    async def post(self, input: str) -> str:
        try:
            return await super().post(input)
        except MutatorClosed:
            return ""


class TestAcceptsWhoHadNoRoom(SeededContract):
    """Answers those for whom there was no room when it was closed."""

    says = "closed while somebody waited for room: expected MutatorClosed"
    kernel = ForgetsWaiting


class SleepsOn(Kernel):
    async def post_urgent(self, input: str) -> str:
        entry = self._entered(input)
        self._urgent.append(entry)
        return await self._answer_to(entry)


class TestSleepsThroughUrgentInputs(SeededContract):
    """Does not wake up for an operator's stop when it has nothing else to do."""

    says = "`post_urgent` was not answered"
    kernel = SleepsOn


class DiesOfActions(Kernel):
    def _start(self, action: str) -> None:
        self._carry_out(action)


class TestDiesOfAnAction(SeededContract):
    """Ends when an action raises, after its input was made durable."""

    says = "cannot do after boom"
    kernel = DiesOfActions


class HidesCauses(Kernel):
    async def post(self, input: str) -> str:
        try:
            return await super().post(input)
        except EngineFault:
            raise EngineFault(input) from None


class TestHidesTheCause(SeededContract):
    """Says that the engine failed, and not on what."""

    says = "must have what the engine raised as its cause"
    kernel = HidesCauses


class ReturnsNothing(Kernel):
    async def post(self, input: str) -> str:
        return "" if self._closed else await super().post(input)


class TestSwallowsWhatComesAfterTheClose(SeededContract):
    """Answers a post that it did not take."""

    says = "expected MutatorClosed"
    kernel = ReturnsNothing


class DropsOnClose(Kernel):
    def close(self) -> None:
        self._drain_into([])
        super().close()


class TestDropsWhatWasAcceptedOnClose(SeededContract):
    """Forgets what waits when it is closed."""

    says = "accepted inputs were dropped on closing"
    kernel = DropsOnClose


class TriesOneByOne(Kernel):
    async def _written(self, writes: Sequence[str]) -> None:
        try:
            await super()._written(writes)
        except Unreachable as error:
            raise OSError(str(error)) from error


class TestTriesAStoreThatIsGoneForEachInput(SeededContract):
    """Tries the inputs of a batch one by one on a connection that is dead."""

    says = "a store that cannot be reached was asked 4 times"
    kernel = TriesOneByOne


class GoesOnWithout(Kernel):
    async def _written(self, writes: Sequence[str]) -> None:
        try:
            await super()._written(writes)
        except WritingEnded as error:
            raise OSError(str(error)) from error


class TestGoesOnAfterItLostTheStore(SeededContract):
    """Takes a store that another process owns for a disk without room."""

    says = "expected the kernel to end with that, found None"
    kernel = GoesOnWithout


class WaitsForEver(Kernel):
    async def _written(self, writes: Sequence[str]) -> None:
        await self._write(writes)


class TestWaitsForAFrozenWriter(SeededContract):
    """Has no limit on how long a write may take."""

    says = "expected the kernel to end with OutcomeUnknown, found None"
    kernel = WaitsForEver
