"""The kernel of both sides: many tasks post inputs, one task handles them, and commits are durable before replies.

Invariants. One task calls the engine. Inputs are handled in the order in which they were posted; urgent ones go ahead
of those that wait. A batch is written in one transaction; only then are its posters answered and its actions carried
out. If the write fails, the engine rolls back and the inputs are retried one by one, so that only the faulty one fails.
They are not retried if no write can succeed now (`Unreachable`), and `run` ends with the error if none can succeed any
more (`WritingEnded`). A batch that writes nothing is answered only while what is in memory is known to be current.
An accepted input is handled even if its poster was cancelled or the mutator is closing. Every poster gets an outcome,
however `run` ends.
Source: docs/spec/runtimes.md, The kernel both sides share.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.engine import Commit, Engine
from nixfleet_runtime.kernel.write_failures import (
    NotCurrent,
    OutcomeUnknown,
    Unreachable,
    WriteOverdue,
    WritingEnded,
)

InputT = TypeVar("InputT")
WriteT = TypeVar("WriteT")
ReplyT = TypeVar("ReplyT")
ActionT = TypeVar("ActionT")

WRITE_SECONDS_MAX: Final = 60.0
"""A disk that takes longer for one commit is not slow, it hangs."""
_logger = logging.getLogger(__name__)


class MutatorClosed(NixfleetError):
    """The mutator is closed. The input was not handled, or `run` was interrupted while handling it."""


class QueueFull(NixfleetError):
    """`length_max` inputs are waiting; this one was not accepted. Try again later."""

    def __init__(self, length_max: int) -> None:
        super().__init__(length_max)
        self.length_max = length_max

    def __str__(self) -> str:
        return f"the queue is full: {self.length_max} inputs are waiting, which is the limit"


class EngineFault(NixfleetError):
    """The engine raised an exception on `input`: a bug. The input changed nothing; other inputs were not affected."""

    def __init__(self, input: object) -> None:
        super().__init__(input)
        self.input = input

    def __str__(self) -> str:
        return f"the engine failed on {self.input!r}: {self.__cause__!r}"


class WriteFailed(NixfleetError):
    """The commit for the input was not confirmed. `__cause__` says why.

    Nothing happened, unless the cause is `OutcomeUnknown`: then a start of the service finds out.
    """

    def __str__(self) -> str:
        is_unconfirmed = isinstance(self.__cause__, OutcomeUnknown | NotCurrent)
        what = "be confirmed" if is_unconfirmed else "be made durable"
        return f"could not {what}: {self.__cause__}"


class _Entry(Generic[InputT, ReplyT]):
    """An input and its outcome. turn: the event that is set when its batch has been settled."""

    __slots__ = ("_error", "_reply", "input", "turn")

    def __init__(self, input: InputT) -> None:
        self.input = input
        self.turn: anyio.Event | None = None
        self._reply: tuple[ReplyT, ...] = ()
        self._error: Exception | None = None

    @property
    def is_settled(self) -> bool:
        return bool(self._reply) or self._error is not None

    def answer(self, reply: ReplyT) -> None:
        self._reply = (reply,)

    def fail(self, error: Exception) -> None:
        """Make `error` the outcome, unless there is one already."""
        if not self.is_settled:
            self._error = error

    def outcome(self) -> ReplyT:
        if self._error is not None:
            raise self._error
        return self._reply[0]


class SingleMutator(Generic[InputT, WriteT, ReplyT, ActionT]):
    """One bounded queue and one task, `run`, around an engine.

    write: makes writes durable in one transaction, or raises; what its errors mean is in `write_failures`. A
    cancellation must end it at once, and is only used to end the mutator. carry_out: starts one after-commit action;
    must not block. on_batch: called with the number of inputs of each batch. write_seconds_max: how long one write may
    take, in real time. is_current: whether no other process can have written since; a write that succeeds shows it too.
    """

    def __init__(
        self,
        engine: Engine[InputT, WriteT, ReplyT, ActionT],
        write: Callable[[Sequence[WriteT]], Awaitable[None]],
        carry_out: Callable[[ActionT], None],
        clock: Clock,
        *,
        queue_length_max: int = 4096,
        batch_length_max: int = 512,
        on_batch: Callable[[int], None] = lambda _: None,
        write_seconds_max: float = WRITE_SECONDS_MAX,
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        self._engine = engine
        self._is_current = is_current
        self._write = write
        self._carry_out = carry_out
        self._clock = clock
        self._queue_length_max = queue_length_max
        self._batch_length_max = batch_length_max
        self._on_batch = on_batch
        self._write_seconds_max = write_seconds_max
        self._write_under_way: anyio.CancelScope | None = None
        # `None` in the queue only wakes `run`, to handle urgent inputs.
        self._sender: MemoryObjectSendStream[_Entry[InputT, ReplyT] | None]
        self._sender, self._receiver = anyio.create_memory_object_stream[
            _Entry[InputT, ReplyT] | None
        ](queue_length_max)
        self._urgent: deque[_Entry[InputT, ReplyT]] = deque()
        # All entries whose poster waits for an answer, queued or being handled.
        self._awaited: set[_Entry[InputT, ReplyT]] = set()
        # The event of the next batch: one event for all waiting entries costs less than one each.
        self._next_turn = anyio.Event()
        self._closed = False

    @property
    def queue_length(self) -> int:
        """The number of waiting inputs."""
        return self._receiver.statistics().current_buffer_used + len(self._urgent)

    async def post(self, input: InputT) -> ReplyT:
        """Return the engine's reply to `input`, once its commit is durable. Waits for room in the queue.

        Raises: MutatorClosed, EngineFault, WriteFailed.
        """
        entry = self._entered(input)
        try:
            try:
                await self._sender.send(entry)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                # Closed while waiting for room.
                raise _not_accepted(input) from None
            return await self._answer_to(entry)
        finally:
            self._awaited.discard(entry)

    async def post_if_room(self, input: InputT) -> ReplyT:
        """As `post`, but never waits for room. Also raises: QueueFull."""
        entry = self._entered(input)
        try:
            try:
                self._sender.send_nowait(entry)
            except anyio.WouldBlock:
                raise QueueFull(self._queue_length_max) from None
            return await self._answer_to(entry)
        finally:
            self._awaited.discard(entry)

    async def post_urgent(self, input: InputT) -> ReplyT:
        """As `post`, ahead of all waiting inputs: for operators' commands."""
        entry = self._entered(input)
        try:
            self._urgent.append(entry)
            # With a full queue `run` is awake, and takes the urgent inputs before each batch.
            with suppress(anyio.WouldBlock):
                self._sender.send_nowait(None)
            return await self._answer_to(entry)
        finally:
            self._awaited.discard(entry)

    def limit_writes(self, seconds: float) -> None:
        """Let no write take longer than `seconds` from now on, in real time: also the one that is under way."""
        self._write_seconds_max = min(self._write_seconds_max, seconds)
        if self._write_under_way is not None:
            ends_at = anyio.current_time() + self._write_seconds_max
            self._write_under_way.deadline = min(self._write_under_way.deadline, ends_at)

    def close(self) -> None:
        """Refuse new inputs. `run` returns once the accepted ones have been answered."""
        if not self._closed:
            self._closed = True
            self._sender.close()

    async def run(self) -> None:
        """Handle inputs until `close`. Call it once. Raises: WritingEnded, once every poster has an outcome."""
        try:
            while batch := await self._next_batch():
                # Shielded: a cancellation must not separate the write from its answers.
                with anyio.CancelScope(shield=True):
                    await self._take_turn(batch)
                self._on_batch(len(batch))
        finally:
            self._abandon()

    async def _take_turn(self, batch: Sequence[_Entry[InputT, ReplyT]]) -> None:
        turn, self._next_turn = self._next_turn, anyio.Event()
        for entry in batch:
            entry.turn = turn
        try:
            await self._settle(batch)
        finally:
            turn.set()

    async def _answer_to(self, entry: _Entry[InputT, ReplyT]) -> ReplyT:
        # An entry that did not fit into a batch waits for the next one.
        while not entry.is_settled:
            await (entry.turn or self._next_turn).wait()
        return entry.outcome()

    async def _next_batch(self) -> list[_Entry[InputT, ReplyT]]:
        """Wait for one input, then take the others that are queued. Empty: closed and drained."""
        batch: list[_Entry[InputT, ReplyT]] = []
        while not batch:
            try:
                first = await self._receiver.receive()
            except anyio.EndOfStream:
                return self._take_urgent()
            batch = self._take_urgent()
            if first is not None:
                batch.append(first)
            self._drain_into(batch)
        return batch

    def _drain_into(self, batch: list[_Entry[InputT, ReplyT]]) -> None:
        while len(batch) < self._batch_length_max:
            try:
                entry = self._receiver.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                return
            if entry is not None:
                batch.append(entry)

    def _take_urgent(self) -> list[_Entry[InputT, ReplyT]]:
        urgent = list(self._urgent)
        self._urgent.clear()
        return urgent

    async def _settle(self, batch: Sequence[_Entry[InputT, ReplyT]]) -> None:
        handled = [(entry, commit) for entry in batch if (commit := self._handle(entry))]
        writes = [write for _, commit in handled for write in commit.writes]
        entries = [entry for entry, _ in handled]
        try:
            if writes:
                await self._written(writes)
            elif not self._is_current():
                raise NotCurrent
        except WritingEnded as error:
            self._engine.roll_back()
            _fail(entries, error)
            raise
        except (Unreachable, NotCurrent) as error:
            self._engine.roll_back()
            _fail(entries, error)
            return
        except Exception as error:
            self._engine.roll_back()
            await self._retry_singly(entries, error)
            return
        self._engine.settle()
        for entry, commit in handled:
            entry.answer(commit.reply)
            for action in commit.actions:
                self._start(action)

    async def _written(self, writes: Sequence[WriteT]) -> None:
        with anyio.move_on_after(self._write_seconds_max) as limit:
            self._write_under_way = limit
            try:
                await self._write(writes)
            finally:
                self._write_under_way = None
        if limit.cancelled_caught:
            raise WriteOverdue(self._write_seconds_max)

    def _start(self, action: ActionT) -> None:
        try:
            self._carry_out(action)
        except Exception:
            # Its commit is durable and other actions follow, so the failure can only be logged.
            _logger.exception("an action failed after its input was made durable: %r", action)

    def _handle(self, entry: _Entry[InputT, ReplyT]) -> Commit[WriteT, ReplyT, ActionT] | None:
        try:
            return self._engine.handle(entry.input, self._clock.now())
        except Exception as error:
            _logger.exception("the engine failed on an input: %r", entry.input)
            fault = EngineFault(entry.input)
            fault.__cause__ = error
            entry.fail(fault)
            return None

    async def _retry_singly(
        self, entries: Sequence[_Entry[InputT, ReplyT]], error: Exception
    ) -> None:
        if len(entries) == 1:
            _fail(entries, error)
            return
        for entry in entries:
            await self._settle([entry])

    def _abandon(self) -> None:
        """Fail every entry that still waits, because `run` ends and will not answer it."""
        self.close()
        for entry in self._awaited:
            entry.fail(MutatorClosed(f"closed before {entry.input!r} was answered"))
        self._next_turn.set()
        self._receiver.close()

    def _entered(self, input: InputT) -> _Entry[InputT, ReplyT]:
        """Return a new entry in `_awaited`; the caller removes it. Raises: MutatorClosed."""
        if self._closed:
            raise _not_accepted(input)
        entry: _Entry[InputT, ReplyT] = _Entry(input)
        self._awaited.add(entry)
        return entry


def _fail(entries: Sequence[_Entry[InputT, ReplyT]], error: Exception) -> None:
    for entry in entries:
        failed = WriteFailed()
        failed.__cause__ = error
        entry.fail(failed)


def _not_accepted(input: object) -> MutatorClosed:
    return MutatorClosed(f"closed; {input!r} was not accepted")
