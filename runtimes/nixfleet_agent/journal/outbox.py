"""Turns journal rows into batches, and answers into inputs for the engine. Sans I/O; used by the sender.

Source: docs/spec/wire.md, POST /v1/agent/events; docs/spec/runtimes.md, Journal.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from attrs import frozen

from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.messages.inputs import (
    EventRejected,
    EventsAcknowledged,
    Input,
    ReplayAsked,
    RolloutDisowned,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    Postponed,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeTopologyDeclared,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefusal,
    EventRefused,
    EventsOutcome,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
)


@frozen
class Sent:
    """The consequences of an answer. inputs: for the engine. moved: whether to send on without a wait."""

    inputs: tuple[Input, ...]
    moved: bool


def rows_by_rollout(rows: Iterable[JournalRow]) -> tuple[tuple[JournalRow, ...], ...]:
    """Return `rows` by rollout, in order: a rollout that is stuck must not block the others."""
    by_rollout: dict[str, list[JournalRow]] = {}
    for row in rows:
        by_rollout.setdefault(row.rollout_id, []).append(row)
    return tuple(map(tuple, by_rollout.values()))


def envelopes_of(hostname: str, rows: Iterable[JournalRow]) -> tuple[AgentEventEnvelope, ...]:
    """Return the envelopes to send for `rows`."""
    return tuple(AgentEventEnvelope(hostname, row.rollout_id, row.fact) for row in rows)


def may_linger(fact: AgentEvent) -> bool:
    """Return whether no rollout waits for `fact`: it tells how a state is, and changes none."""
    match fact:
        case (
            ActivationStarted()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
        ):
            return True
        case (
            DispatchAck()
            | ActivationCompleted()
            | ActivationFailed()
            | ActivationDeferred()
            | Failed()
            | RollbackComplete()
            | Converged()
            | Regressed()
            | Recalled()
            | Postponed()
        ):
            return False
        case _:
            assert_never(fact)


class Sending:
    """The sender's memory from one read of the journal to the next."""

    def __init__(self) -> None:
        # Rollouts that the control plane does not know, or whose next row is early: they wait while others have rows.
        self._waiting: set[RolloutId] = set()
        self._waiting_before = 0
        # By rollout, the fact that cannot be true yet by the control plane's clock.
        self._early: dict[RolloutId, int] = {}
        # By rollout, the highest number that was ever accepted or refused, which a replay does not take back. Waits
        # become short again only when it rises: a control plane that asks again and again makes them longer.
        self._settled: dict[RolloutId, int] = {}
        self._progressed = False
        # Rollouts of which a replay was asked since then: another one did not help.
        self._replayed: set[RolloutId] = set()

    def left_out(self) -> frozenset[RolloutId]:
        """Return the rollouts to leave out of the next read of the journal."""
        self._waiting_before = len(self._waiting)
        self._progressed = False
        return frozenset(self._waiting)

    @property
    def has_left_out(self) -> bool:
        """Whether rows were left out that still must be sent."""
        return bool(self._waiting)

    @property
    def has_progressed(self) -> bool:
        """Whether, since the last read, a fact was settled that never was before."""
        return self._progressed

    def must_wait(self) -> bool:
        """Return whether to wait before the next read, after one without progress.

        True when no other rollout has rows, or no answer comes: the next read then leaves out nothing.
        """
        if len(self._waiting) > self._waiting_before:
            return False
        self._waiting.clear()
        return True

    def sendable(self, rows: tuple[JournalRow, ...]) -> tuple[JournalRow, ...]:
        """Return which of one rollout's `rows` to send together: what comes before an early fact goes without it."""
        early = self._early.get(rows[0].rollout_id)
        before = tuple(row for row in rows if early is None or row.fact.seq < early)
        return before or rows

    def after_answer(self, rows: Sequence[JournalRow], outcome: EventsOutcome) -> Sent:
        """Return what follows from the answer to the rows of one rollout. The answer is within its bounds."""
        accepted = rows[: outcome.accepted]
        acknowledged: tuple[Input, ...] = ()
        if accepted:
            acknowledged = (EventsAcknowledged(tuple(row.row_id for row in accepted)),)
            self._settle(accepted[-1])
        if outcome.stopped_by is None:
            return Sent(acknowledged, moved=True)
        stopped = self._stopped(rows[outcome.accepted], outcome.stopped_by)
        # A replay takes back what was accepted with it.
        is_replay = isinstance(outcome.stopped_by, ReplayFrom)
        moved = stopped.moved or (bool(accepted) and not is_replay)
        return Sent((*acknowledged, *stopped.inputs), moved=moved)

    def _settle(self, row: JournalRow) -> None:
        if row.fact.seq > self._settled.get(row.rollout_id, 0):
            self._settled[row.rollout_id] = row.fact.seq
            self._replayed.discard(row.rollout_id)
            self._progressed = True

    def _stopped(self, row: JournalRow, refusal: EventRefusal) -> Sent:
        match refusal:
            case EventRefused():
                self._settle(row)
                return Sent((EventRejected(row.row_id, refusal),), moved=True)
            case SeqForked():
                self._settle(row)
                # What is durable there stays; what was to be sent never will be.
                refused = EventRefused(refusal.rollout_id, refusal.seq, str(refusal))
                return Sent((EventRejected(row.row_id, refused),), moved=True)
            case EventEarly():
                # Kept, and sent again unchanged; nothing of it is marked.
                self._early[row.rollout_id] = refusal.seq
                has_earlier = row.fact.seq < refusal.seq
                if not has_earlier:
                    self._waiting.add(row.rollout_id)
                return Sent((), moved=has_earlier)
            case HostHeld():
                self._waiting.add(row.rollout_id)
                return Sent((), moved=False)
            case ReplayFrom():
                # Asked again, whatever for: the rows that were sent did not help.
                is_first = row.rollout_id not in self._replayed
                self._replayed.add(row.rollout_id)
                return Sent((ReplayAsked(refusal),), moved=is_first)
            case RolloutUnknown():
                # The control plane may not have read the release yet: keep the rows, and send them again.
                self._waiting.add(row.rollout_id)
                return Sent((RolloutDisowned(row.rollout_id),), moved=False)
            case _:
                assert_never(refusal)
