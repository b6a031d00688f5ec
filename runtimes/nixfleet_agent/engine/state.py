"""The agent's rollouts, intents and probes, in memory. Every change can be rolled back through `undo`.

A rollout is open until a newer one closes it. Only the mutator's task may touch
an instance.
Source: docs/spec/runtimes.md, Agent.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import assert_never

from attrs import Factory, evolve, field, frozen

from nixfleet_agent.engine.downgrade import ObeyedRelease, RolledBackClosure
from nixfleet_agent.engine.observation import Observed
from nixfleet_agent.messages.inputs import (
    Action,
    Intent,
    IntentKind,
    KeepManifestsOf,
    ShowRefusal,
    StopProbes,
    WithdrawIntent,
)
from nixfleet_agent.messages.writes import (
    PutIntent,
    PutNewestRelease,
    PutOrder,
    PutRecord,
    PutRolledBack,
    RemoveIntent,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_runtime.kernel import commit_builder
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.undo import UndoableDict, UndoableSet, UndoableValue, UndoLog


@frozen
class LocalRollout:
    """A rollout on this host. closed_at: when a newer one closed it.

    taken_over_seq: the last seq that was taken over from the control plane, after this journal was lost (a replaced
    disk); 0 when all facts are from this journal. home_at: the control plane's latest answer before the switch began.
    """

    record: HostRolloutState
    policy: RolloutPolicy
    closed_at: datetime | None = None
    taken_over_seq: int = 0
    home_at: datetime | None = None


@frozen
class LockAnswer:
    """What this host's own lock said of an attempt, at `asked_at`; good until `until`. Not in the journal.

    told_at: when the control plane was told last.
    """

    attempt: int
    may_begin: bool
    reason: str
    asked_at: datetime
    until: datetime
    is_broken: bool = False
    told_at: datetime = field(default=Factory(lambda it: it.asked_at, takes_self=True))

    def is_good(self, attempt: int, now: datetime) -> bool:
        """Return whether it still answers. One from after `now`, by a clock that was set back, does not."""
        return self.attempt == attempt and self.asked_at <= now < self.until


@frozen
class ObeyedOrder:
    """An operator's order that this host obeyed. overrides_until: when it stops overriding the host's lock, `None` once
    it was used; of a recall always.
    """

    rollout_id: RolloutId
    is_recall: bool = True
    overrides_until: datetime | None = None


class CommitBuilder(commit_builder.CommitBuilder[Write, Action]):
    """The writes and actions of one commit, in order."""


class State:
    """The rollouts of one host, its unfinished intents, and its running closure."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.undo = UndoLog()
        self.rollouts = UndoableDict[RolloutId, LocalRollout](self.undo)
        self.intents = UndoableDict[int, Intent](self.undo)
        self.checks = UndoableDict[RolloutId, HealthCheckSet](self.undo)
        self.observed = UndoableDict[RolloutId, Observed](self.undo)
        self.last_tick_at = UndoableValue[datetime | None](self.undo, None)
        self.last_intent_id = UndoableValue(self.undo, 0)
        # The intents that this process began: an act that it tries again is the same attempt.
        self.begun = UndoableSet[int](self.undo)
        # Why a switch waits for its closure, by intent. Not in the journal: each process looks for itself.
        self.awaited = UndoableDict[int, str](self.undo)
        # Kept for good: see `downgrade`.
        self.newest_release = UndoableValue[ObeyedRelease | None](self.undo, None)
        self.rolled_back = UndoableDict[str, RolledBackClosure](self.undo)
        # The orders of warrants that were obeyed, and in which rollout. Kept for good.
        self.orders = UndoableDict[str, ObeyedOrder](self.undo)
        # What the host's own lock said, by rollout. Not in the journal: each process asks for itself.
        self.lock_answers = UndoableDict[RolloutId, LockAnswer](self.undo)
        # When this process started; `None` once it ended what the lock said to an earlier one.
        self.booted_at = UndoableValue[datetime | None](self.undo, None)
        # Why the record of a rollout is not taken over: logged when it changes.
        self.objections = UndoableDict[RolloutId, str](self.undo)
        # The rollouts whose due rollback is refused.
        self.not_rolled_back = UndoableSet[RolloutId](self.undo)
        # The rollouts at rest by the last answer to a heartbeat, none before the first. Not in the journal: a claim,
        # which comes again.
        self.resting = UndoableValue[frozenset[str]](self.undo, frozenset())
        # The running closure when it was last read; `None` before the first time.
        self.running_closure = UndoableValue[str | None](self.undo, None)

    def put_record(self, commit: CommitBuilder, record: HostRolloutState) -> None:
        """Replace the record of a known rollout."""
        self.put_rollout(commit, evolve(self.rollouts[record.rollout_id], record=record))

    def put_rollout(self, commit: CommitBuilder, rollout: LocalRollout) -> None:
        """Add or replace a rollout."""
        self.rollouts.set(rollout.record.rollout_id, rollout)
        commit.write(
            PutRecord(
                rollout.record,
                rollout.policy,
                rollout.closed_at,
                rollout.taken_over_seq,
                rollout.home_at,
            )
        )

    def begin_anew(self, commit: CommitBuilder, rollout: LocalRollout) -> None:
        """Put a rollout before its next attempt: what was seen of the one before counts for nothing."""
        self.put_rollout(commit, rollout)
        rollout_id = rollout.record.rollout_id
        self._forget_refusal(commit, rollout_id)
        self.objections.discard(rollout_id)
        self.forget_probes(rollout_id)
        commit.afterwards(StopProbes(rollout_id))

    def open_rollouts(self) -> list[LocalRollout]:
        """Return the open rollouts."""
        return [rollout for rollout in self.rollouts.values() if rollout.closed_at is None]

    def state_of(self, rollout_id: RolloutId) -> HostState | None:
        """Return the host's state in a rollout, `None` if the rollout is not known here."""
        rollout = self.rollouts.get(rollout_id)
        return None if rollout is None else rollout.record.state

    def soaking(self, rollout_id: RolloutId) -> LocalRollout | None:
        """Return a rollout if it is open and the host soaks in it."""
        rollout = self.rollouts.get(rollout_id)
        if rollout is None or rollout.closed_at is not None:
            return None
        return rollout if rollout.record.state is HostState.SOAKING else None

    def observed_of(self, rollout_id: RolloutId) -> Observed:
        """Return what was observed of the host in a rollout since the agent started."""
        return self.observed.get(rollout_id, Observed())

    def is_watched(self, rollout: LocalRollout) -> bool:
        """Return whether the probes of a host that has converged go on: its rollout is open and does not rest."""
        return (
            rollout.closed_at is None
            and rollout.record.state is HostState.CONVERGED
            and rollout.record.rollout_id not in self.resting.get()
        )

    def obey(self, commit: CommitBuilder, release: ObeyedRelease) -> None:
        """Remember `release` as the newest one obeyed, unless it is older."""
        newest = self.newest_release.get()
        if newest is None or release.signed_at >= newest.signed_at:
            self.newest_release.set(release)
            commit.write(PutNewestRelease(release))

    def note_order(
        self,
        commit: CommitBuilder,
        order_id: str,
        rollout_id: RolloutId,
        at: datetime,
        *,
        overrides_until: datetime | None = None,
    ) -> None:
        """Remember that the order was obeyed. overrides_until: of one that overrides the lock; `None`: a recall."""
        is_recall = overrides_until is None
        self.orders.set(order_id, ObeyedOrder(rollout_id, is_recall, overrides_until))
        commit.write(PutOrder(order_id, rollout_id, at, is_recall, overrides_until))

    def is_recalled(self, rollout_id: RolloutId) -> bool:
        """Return whether an order took this host back from the rollout."""
        return any(it.is_recall and it.rollout_id == rollout_id for it in self.orders.values())

    def is_overridden(self, rollout_id: RolloutId, now: datetime) -> bool:
        """Return whether an order that was not used overrides the lock of this host in the rollout."""
        return any(now < until for _, until in self._overriding(rollout_id))

    def use_overrides(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        """Let the orders that override the lock in the rollout do so no more: an attempt begins."""
        for order_id, _ in tuple(self._overriding(rollout_id)):
            self.orders.set(order_id, ObeyedOrder(rollout_id, is_recall=False))
            commit.write(PutOrder(order_id, rollout_id, now, is_recall=False))

    def _overriding(self, rollout_id: RolloutId) -> Iterator[tuple[str, datetime]]:
        """Yield the orders that were not used, with their ends: a clock that is set back brings one again."""
        for order_id, order in self.orders.items():
            until = order.overrides_until
            if order.rollout_id == rollout_id and until is not None:
                yield order_id, until

    def note_rolled_back(self, commit: CommitBuilder, rollout_id: RolloutId) -> None:
        """Remember that this host rolls back from the target of `rollout_id`."""
        target = self.rollouts[rollout_id].record.target_closure
        newest = self.newest_release.get()
        if newest is None:
            return  # A journal from before releases were remembered.
        left = RolledBackClosure(target, ObeyedRelease(rollout_id, newest.signed_at))
        self.rolled_back.set(target, left)
        commit.write(PutRolledBack(left))

    def refuse_rollback(self, commit: CommitBuilder, rollout_id: RolloutId, reason: str) -> None:
        """Show that the rollback of a rollout is refused, until that is closed or gone."""
        self.not_rolled_back.add(rollout_id)
        commit.afterwards(ShowRefusal(rollout_id, reason))

    def is_fresh(self) -> bool:
        """Return whether the journal is new: it has no fact of its own.

        Also after its only rollout was set aside: the control plane still has a record of it, and would wait forever.
        """
        return all(
            rollout.record.last_event_seq == rollout.taken_over_seq
            for rollout in self.rollouts.values()
        )

    def close_rollout(self, commit: CommitBuilder, rollout: LocalRollout, now: datetime) -> None:
        """Close a rollout for a newer one: its probes stop, and no switch or rollback of it begins any more."""
        self.put_rollout(commit, evolve(rollout, closed_at=now))
        self.withdraw_intents(commit, rollout.record.rollout_id)
        self.lock_answers.discard(rollout.record.rollout_id)
        self._forget_refusal(commit, rollout.record.rollout_id)
        self.forget_probes(rollout.record.rollout_id)
        commit.afterwards(StopProbes(rollout.record.rollout_id))

    def expired(self, now: datetime, retention: timedelta) -> list[RolloutId]:
        """Return the rollouts that were closed at least `retention` ago."""
        return [
            rollout_id
            for rollout_id, rollout in self.rollouts.items()
            if rollout.closed_at is not None and now - rollout.closed_at >= retention
        ]

    def remove_rollouts(self, commit: CommitBuilder, rollout_ids: Sequence[RolloutId]) -> None:
        """Remove rollouts, with their journal rows and cached manifests."""
        for rollout_id in rollout_ids:
            self.rollouts.discard(rollout_id)
            self._forget_refusal(commit, rollout_id)
            self.forget_probes(rollout_id)
            commit.write(RemoveRollout(rollout_id))
        if rollout_ids:
            commit.afterwards(KeepManifestsOf(tuple(self.rollouts)))

    def set_rollout_aside(
        self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
    ) -> None:
        """Forget the record of a rollout whose facts have lost their beginning; the facts stay in the journal."""
        self.withdraw_intents(commit, rollout_id)
        self.lock_answers.discard(rollout_id)
        self.rollouts.discard(rollout_id)
        self._forget_refusal(commit, rollout_id)
        self.forget_probes(rollout_id)
        commit.write(SetRolloutAside(rollout_id, now))

    def _forget_refusal(self, commit: CommitBuilder, rollout_id: RolloutId) -> None:
        if rollout_id in self.not_rolled_back:
            self.not_rolled_back.discard(rollout_id)
            commit.afterwards(ShowRefusal(rollout_id, None))

    def forget_probes(self, rollout_id: RolloutId) -> None:
        """Discard the checks and failures of a rollout's probes."""
        self.checks.discard(rollout_id)
        self.observed.discard(rollout_id)

    def add_intent(
        self, commit: CommitBuilder, kind: IntentKind, rollout_id: RolloutId, closure: str
    ) -> Intent:
        """Add and return a new intent."""
        intent = Intent(self.last_intent_id.get() + 1, kind, rollout_id, closure)
        self.last_intent_id.set(intent.intent_id)
        self.intents.set(intent.intent_id, intent)
        commit.write(PutIntent(intent))
        return intent

    def begin_intent(self, commit: CommitBuilder, intent: Intent) -> None:
        """Count an attempt, once in this process."""
        self.awaited.discard(intent.intent_id)
        if intent.intent_id not in self.begun:
            self.begun.add(intent.intent_id)
            begun = evolve(intent, attempts=intent.attempts + 1)
            self.intents.set(intent.intent_id, begun)
            commit.write(PutIntent(begun))

    def remove_intent(self, commit: CommitBuilder, intent: Intent) -> None:
        """Remove an intent that has ended."""
        self.intents.discard(intent.intent_id)
        self.begun.discard(intent.intent_id)
        self.awaited.discard(intent.intent_id)
        commit.write(RemoveIntent(intent.intent_id))

    def withdraw_intents(self, commit: CommitBuilder, rollout_id: RolloutId) -> None:
        """Remove the switches of a rollout that have not changed the machine yet."""
        for intent in tuple(self.intents.values()):
            if intent.rollout_id == rollout_id and not self.is_under_way(intent):
                self.remove_intent(commit, intent)
                commit.afterwards(WithdrawIntent(intent))

    def is_under_way(self, intent: Intent) -> bool:
        """Return whether the machine may be between two closures, or must be brought back to one.

        Not so while a switch is queued or waits for its closure: nothing is lost when it never begins.
        """
        kind = intent.kind
        match kind:
            case IntentKind.ROLLBACK:
                return True
            case IntentKind.SWITCH:
                return intent.attempts > 0 and intent.intent_id not in self.awaited
            case _:
                assert_never(kind)
