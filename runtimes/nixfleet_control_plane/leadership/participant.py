"""One control plane's part in a shared store, while its process lives: follows, leads, follows again.

Carries out what `decision` orders; this room's `await`s are here and in `warm_state`. One object for each store, so one
process can lead on some and follow on others.
Source: docs/spec/leadership.md.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, TypeAlias

import anyio
from attrs import frozen

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.leadership.decision import (
    CaughtUp,
    Drained,
    Ended,
    Fenced,
    Following,
    HandingOver,
    Happening,
    Leadership,
    Leading,
    LogLost,
    Looked,
    NotRenewed,
    NotTaken,
    Order,
    Rang,
    Renew,
    Renewed,
    Replaced,
    SessionBroke,
    StopAsked,
    Take,
    Taken,
    TakingOver,
    TermEnded,
    TimePassed,
    decide,
    may_answer,
    next_due,
)
from nixfleet_control_plane.leadership.lease import LeaseSeen, LeaseTerms
from nixfleet_control_plane.leadership.shared_store import LogForked, SharedStore, TakenStore
from nixfleet_control_plane.leadership.warm_state import WarmState, loaded_warm
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.store import OwnedInTurn, Snapshot, Store
from nixfleet_runtime.kernel.mutator import MutatorClosed
from nixfleet_runtime.kernel.write_failures import OwnershipLost, Unreachable, WritingEnded

TAKE_SECONDS_MAX: Final = 10.0
"""How long a take may last: it waits for a commit of the holder that is under way."""
ANNOUNCEMENTS_APART_SECONDS: Final = 0.02
"""Followers are told of commits at most so often."""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_log = logging.getLogger(__name__)


def since_boot() -> float:
    """Return the seconds of a clock that never goes back, and that goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


@frozen
class Term:
    """What a leader begins with. state: after the last row of the log. store: each commit renews the lease.

    is_current: whether no other process can have taken the lease by now; what is in memory is answered only then.
    """

    epoch: int
    state: State
    store: Store
    is_current: Callable[[], bool]


Lead: TypeAlias = Callable[[Term], AbstractAsyncContextManager[None]]
"""Serves while the context is open. Leaving it refuses new requests and answers those that were accepted.

Raises `WritingEnded` when the store refuses a commit.
"""


class Participant:
    """A control plane on a store that others share. url: where this one is reached. lead: serves during a term.

    on_look: called each time before the store is looked at: a sign of life of one that follows.
    """

    def __init__(
        self,
        shared: SharedStore,
        url: str,
        lead: Lead,
        *,
        now: Callable[[], float] = since_boot,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self._shared = shared
        self._on_look = on_look
        self._url = url
        self._lead = lead
        self._now = now
        self._terms = LeaseTerms(shared.lease_seconds)
        self._leadership: Leadership = Following()
        self._seen: LeaseSeen | None = None
        self._moved = anyio.Event()
        self._looks_at_once = False
        self._committed = anyio.Event()
        self._problem: str | None = None
        self.terms_begun = 0

    @property
    def leadership(self) -> Leadership:
        """Where it stands."""
        return self._leadership

    @property
    def epoch(self) -> int:
        """The epoch that it leads under, or else that it saw last."""
        match self._leadership:
            case Leading() | Fenced():
                return self._leadership.epoch
            case HandingOver():
                return self._leadership.leading.epoch
            case _:
                return 0 if self._seen is None else self._seen.epoch

    @property
    def leader_url(self) -> str:
        """The URL of who leads, if this one follows and knows it; otherwise empty."""
        match self._leadership:
            case Following() if self._seen is not None and not self._seen.is_free:
                return self._seen.url
            case _:
                return ""

    def may_answer(self) -> bool:
        """Return whether what is in this process's memory is what the store has."""
        return may_answer(self._leadership, self._now(), self._terms)

    def ask_stop(self) -> None:
        """Have `run` end: a leader hands over first."""
        self._happen(StopAsked())

    async def run(self) -> None:
        """Take part until `ask_stop`.

        Raises: DamagedRow, DecodeError, TransitionError: the log cannot be read; what `lead` raises.
        """
        self._shared.when_broken(self._note_break)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._answer_the_door)
            tasks.start_soon(self._hear)
            while not isinstance(self._leadership, Ended):
                warm = await self._followed()
                if warm is not None:
                    await self._serve(*warm)
            tasks.cancel_scope.cancel()

    def _happen(self, happening: Happening) -> tuple[Order, ...]:
        before = self._leadership
        self._leadership, orders = decide(before, happening, self._now(), self._terms)
        if self._leadership != before:
            _log_change(before, self._leadership, happening)
            # A commit only lets the lease end later: nothing has to be woken for it.
            if not isinstance(happening, Renewed):
                self._move()
        return orders

    def _note_break(self) -> None:
        self._happen(SessionBroke())

    def _move(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    # Following.

    async def _followed(self) -> tuple[WarmState, TakenStore] | None:
        """Follow the log until the lease is taken. `None`: asked to stop."""
        warm: WarmState | None = None
        while isinstance(self._leadership, Following | TakingOver):
            due = self._due()
            self._looks_at_once = False
            self._on_look()
            try:
                if warm is None:
                    warm = await loaded_warm(self._shared)
                taken = await self._looked(warm)
                self._note(None)
                if taken is not None:
                    return warm, taken
            except LogForked as error:
                _log.warning("the log is read anew: %s", error)
                warm = None
                self._happen(LogLost())
                continue
            except (Unreachable, TimeoutError) as error:
                self._note(str(error) or "the store did not answer in time")
                self._happen(NotTaken())
            await self._until(due)
        return None

    async def _looked(self, warm: WarmState) -> TakenStore | None:
        """Look once at the lease and the log, and take the lease if it is free."""
        with anyio.fail_after(self._terms.seconds):
            self._seen = seen = await self._shared.look()
        if seen.head_seq != warm.head.seq:
            await warm.catch_up(self._shared)
        orders = (*self._happen(CaughtUp()), *self._happen(Looked(seen)))
        for order in orders:
            if isinstance(order, Take):
                return await self._taken(order)
        return None

    async def _taken(self, order: Take) -> TakenStore | None:
        sent_at = self._now()
        with anyio.fail_after(TAKE_SECONDS_MAX):
            taken = await self._shared.take(order.seen, self._url)
        if taken is None:
            self._happen(NotTaken())
            return None
        self._happen(Taken(taken.epoch, sent_at))
        return taken

    async def _answer_the_door(self) -> None:
        while True:
            try:
                await self._shared.rung()
                self._look_at_once(Rang())
            except Unreachable:
                await anyio.sleep(self._terms.look_seconds)

    async def _hear(self) -> None:
        while True:
            try:
                await self._shared.grown()
                self._look_at_once(TimePassed())
            except Unreachable:
                await anyio.sleep(self._terms.look_seconds)

    def _look_at_once(self, happening: Happening) -> None:
        if isinstance(self._leadership, Following):
            self._looks_at_once = True
            self._happen(happening)
            self._move()

    def _due(self) -> float | None:
        return next_due(self._leadership, self._now(), self._terms)

    async def _until(self, due: float | None) -> None:
        """Wait until `due`, or a change. Never less than a moment, whatever is due."""
        if self._looks_at_once or isinstance(self._leadership, Ended):
            return
        moved = self._moved
        seconds = None if due is None else max(0.001, due - self._now())
        with anyio.move_on_after(seconds):
            await moved.wait()

    # Leading.

    async def _serve(self, warm: WarmState, taken: TakenStore) -> None:
        """Lead until another one does, or until asked to stop; then hand over."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_lease)
                tasks.start_soon(self._announce)
                await self._lead_with(await self._complete(warm, taken), taken)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            _log.warning("leads no more: %s", _end_of_writing(group))
            self._happen(Replaced())
        if isinstance(self._leadership, HandingOver):
            self._happen(Drained())
            await self._hand_over()
        else:
            await self._shared.leave()
            self._happen(TermEnded())

    async def _lead_with(self, state: State, taken: TakenStore) -> None:
        if not isinstance(self._leadership, Leading):
            return
        self.terms_begun += 1
        epoch = taken.epoch

        def is_current() -> bool:
            return self.epoch == epoch and self.may_answer()

        store = _RenewingStore(taken.store, epoch, self._now, self._note_commit)
        async with self._lead(Term(epoch, state, store, is_current)):
            while isinstance(self._leadership, Leading):
                await self._moved.wait()

    async def _complete(self, warm: WarmState, taken: TakenStore) -> State:
        """Return the state at the end of the log, for good: no other process can append to it any more."""
        while True:
            try:
                if warm.head != taken.head:
                    await warm.catch_up(self._shared)
                if warm.head == taken.head:
                    return warm.state
                _log.warning("the log is read anew: it ends otherwise than it was followed")
                warm = await loaded_warm(self._shared)
            except LogForked as error:
                _log.warning("the log is read anew: %s", error)
                warm = await loaded_warm(self._shared)
            except (Unreachable, TimeoutError) as error:
                self._note(str(error) or "the store did not answer in time")
                await anyio.sleep(self._terms.look_seconds)

    async def _keep_lease(self) -> None:
        while isinstance(self._leadership, Leading | HandingOver):
            if any(isinstance(order, Renew) for order in self._happen(TimePassed())):
                self._happen(await self._renewal())
            else:
                await self._until(self._due())

    async def _renewal(self) -> Happening:
        sent_at = self._now()
        try:
            with anyio.fail_after(self._terms.seconds):
                await self._shared.renew()
        except OwnershipLost as error:
            _log.warning("leads no more: %s", error)
            return Replaced()
        except (Unreachable, TimeoutError) as error:
            self._note(str(error) or f"no answer to a renewal within {self._terms.seconds:g} s")
            return NotRenewed()
        self._note(None)
        return Renewed(sent_at)

    def _note_commit(self, sent_at: float) -> None:
        self._happen(Renewed(sent_at))
        self._committed.set()

    async def _announce(self) -> None:
        while True:
            await self._committed.wait()
            self._committed = anyio.Event()
            with suppress(Unreachable):  # Followers look by themselves.
                await self._shared.announce()
            await anyio.sleep(ANNOUNCEMENTS_APART_SECONDS)

    async def _hand_over(self) -> None:
        try:
            with anyio.fail_after(self._terms.seconds):
                await self._shared.hand_over()
        except (Unreachable, TimeoutError) as error:
            _log.warning("the lease was not handed over, and runs out by itself: %s", error)

    def _note(self, problem: str | None) -> None:
        """Log a problem of the store once, when it begins or changes, and when it ends."""
        if problem != self._problem:
            if problem is None:
                _log.info("the store can be reached again")
            else:
                _log.warning("%s", problem)
        self._problem = problem


class _RenewingStore:
    """A `Store` whose commits renew the lease. note: called with the time at which one that succeeded was begun."""

    def __init__(
        self, store: Store, epoch: int, now: Callable[[], float], note: Callable[[float], None]
    ) -> None:
        self._store = store
        self._taken_epoch = epoch
        self._now = now
        self._note = note

    @property
    def epoch(self) -> int:
        """As `OwnedInTurn.epoch`: a store raises it when it finds out about a lost answer."""
        return self._store.epoch if isinstance(self._store, OwnedInTurn) else self._taken_epoch

    async def load(self) -> Snapshot:
        """As `Store.load`."""
        return await self._store.load()

    async def commit(self, writes: Sequence[Write]) -> None:
        """As `Store.commit`."""
        begun_at = self._now()
        await self._store.commit(writes)
        self._note(begun_at)

    async def close(self) -> None:
        """As `Store.close`."""
        await self._store.close()


def _end_of_writing(group: BaseExceptionGroup[BaseException]) -> WritingEnded:
    """Return why writing ended. Raises: `group`, if anything else happened than what follows from that."""
    ended, others = group.split((WritingEnded, MutatorClosed))
    written, _ = group.split(WritingEnded)
    if others is not None or written is None or ended is None:
        raise group
    cause: BaseException = written
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    assert isinstance(cause, WritingEnded), cause
    return cause


def _log_change(before: Leadership, after: Leadership, happening: Happening) -> None:
    match after:
        case Leading() if not isinstance(before, Leading):
            _log.info("leads, under epoch %d", after.epoch)
        case HandingOver() if not isinstance(before, HandingOver):
            _log.info("hands over: answers what it has accepted")
        case Fenced():
            _log.warning("another control plane leads: what is in memory is dropped")
        case Following() if isinstance(happening, Looked):
            seen = happening.seen
            known = before.seen if isinstance(before, Following) else None
            if known is None or known.epoch != seen.epoch:
                _log.info("standby of %s, epoch %d", seen.url or "none", seen.epoch)
        case _:
            pass
