"""The single mutator in virtual time: the order of `nixfleet_runtime.kernel.mutator`, step by step, without tasks.

Inputs wait in a queue, urgent ones go ahead; a batch is handled in order and written as one; only then are
its posters answered and its actions carried out. A write that fails takes everything back, and the inputs are
tried again one by one. A test holds this and the production mutator against each other.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

from attrs import define, frozen

from nixfleet_runtime.kernel.engine import Commit, Engine
from nixfleet_simulation.nodes.agenda import NodeLifetime, Timeline
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.scenario.acts import Boundary

InputT = TypeVar("InputT")
WriteT = TypeVar("WriteT")
ReplyT = TypeVar("ReplyT")
ActionT = TypeVar("ActionT")

BATCH_LENGTH_MAX = 512
THINKING = 300
"""Microseconds from the first input to the batch: others come meanwhile."""

Write: TypeAlias = Callable[
    [
        NodeLifetime,
        tuple[WriteT, ...],
        Callable[[], None],
        Callable[[], None],
        Callable[[Exception], None],
    ],
    None,
]


class TimeSource(Protocol):
    """Where a mutator has the time from."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...


@define(eq=False)
class Entry(Generic[InputT, ReplyT]):
    """An input, and who waits for what."""

    input: InputT
    then: Callable[[ReplyT], None]
    failed: Callable[[Exception], None]


@frozen
class Handled(Generic[InputT, WriteT, ReplyT, ActionT]):
    """An input that the engine handled at `at`, by its clock, and its commit."""

    input: InputT
    commit: Commit[WriteT, ReplyT, ActionT]
    at: datetime


Batch: TypeAlias = list[Entry[InputT, ReplyT]]


@frozen
class Shell(Generic[InputT, WriteT, ReplyT, ActionT]):
    """The shell of a mutator. keep: called with a batch that is durable. raised: called when the engine raised."""

    agenda: Timeline
    life: NodeLifetime
    clock: TimeSource
    write: Write[WriteT]
    carry_out: Callable[[ActionT], None]
    boundaries: CrashBoundaries
    keep: Callable[[Sequence[Handled[InputT, WriteT, ReplyT, ActionT]]], None]
    raised: Callable[[InputT, Exception], None]


class Mutator(Generic[InputT, WriteT, ReplyT, ActionT]):
    """One queue around one engine."""

    def __init__(
        self,
        engine: Engine[InputT, WriteT, ReplyT, ActionT],
        shell: Shell[InputT, WriteT, ReplyT, ActionT],
    ) -> None:
        self._engine = engine
        self._shell = shell
        self._queue: deque[Entry[InputT, ReplyT]] = deque()
        self._urgent: deque[Entry[InputT, ReplyT]] = deque()
        self._left: deque[Batch[InputT, ReplyT]] = deque()
        self._is_busy = False

    def post(
        self,
        input: InputT,
        then: Callable[[ReplyT], None],
        failed: Callable[[Exception], None],
        *,
        is_urgent: bool = False,
    ) -> None:
        """Post `input`; `then` gets the reply once its commit is durable."""
        (self._urgent if is_urgent else self._queue).append(Entry(input, then, failed))
        self._wake()

    @property
    def is_idle(self) -> bool:
        """Whether every input is answered."""
        return not (self._is_busy or self._queue or self._urgent)

    def _wake(self) -> None:
        if not self._is_busy and (self._queue or self._urgent):
            self._is_busy = True
            self._shell.agenda.after(THINKING, self._shell.life, self._begin)

    def _begin(self) -> None:
        batch = list(self._urgent)
        self._urgent.clear()
        while self._queue and len(batch) < BATCH_LENGTH_MAX:
            batch.append(self._queue.popleft())
        self._left.append(batch)
        self._settle_next()

    def _settle_next(self) -> None:
        if not self._left:
            self._is_busy = False
            self._wake()
            return
        batch = self._left.popleft()
        taken: Batch[InputT, ReplyT] = []
        handled: list[Handled[InputT, WriteT, ReplyT, ActionT]] = []
        for entry in batch:
            now = self._shell.clock.now()
            try:
                commit = self._engine.handle(entry.input, now)
            except Exception as error:
                self._shell.raised(entry.input, error)
                entry.failed(error)
            else:
                taken.append(entry)
                handled.append(Handled(entry.input, commit, now))
        writes = tuple(write for each in handled for write in each.commit.writes)
        if not writes:
            self._shell.keep(handled)
            self._finish(taken, handled)
            return
        boundaries, life = self._shell.boundaries, self._shell.life
        if boundaries.cross(Boundary.BEFORE_WRITE):
            return
        self._shell.write(
            life,
            writes,
            partial(self._shell.keep, handled),
            partial(self._written, taken, handled),
            partial(self._fail, taken),
        )
        boundaries.cross(Boundary.DURING_WRITE)

    def _written(
        self,
        batch: Batch[InputT, ReplyT],
        handled: Sequence[Handled[InputT, WriteT, ReplyT, ActionT]],
    ) -> None:
        if not self._shell.boundaries.cross(Boundary.AFTER_WRITE):
            self._finish(batch, handled)

    def _finish(
        self,
        batch: Batch[InputT, ReplyT],
        handled: Sequence[Handled[InputT, WriteT, ReplyT, ActionT]],
    ) -> None:
        self._engine.settle()
        for entry, each in zip(batch, handled, strict=True):
            entry.then(each.commit.reply)
            # Where nothing was written, nothing can be half done.
            writes = bool(each.commit.writes)
            if writes and self._shell.boundaries.cross(Boundary.AFTER_ANSWERS):
                return
            for action in each.commit.actions:
                self._shell.carry_out(action)
            if self._shell.life.is_over:
                return
        self._settle_next()

    def _fail(self, batch: Batch[InputT, ReplyT], error: Exception) -> None:
        self._engine.roll_back()
        if len(batch) == 1:
            batch[0].failed(error)
        else:
            # In front of nothing: a batch is settled to its end before the next one begins.
            self._left.extend([entry] for entry in batch)
        if not self._shell.life.is_over:
            self._settle_next()
