"""Folds facts of one host in one rollout into its record: what a host reports in one request is one change of state.

Live, in a replay, and for rows of both formats of the log. The meaning is that of `step`, one fact after the other:
`put` is called before anything else looks at the host, so that nothing can see that facts were folded. That it makes no
difference is a law (property_tests/test_folded_fact_laws.py).
Source: docs/spec/log.md.
"""

from collections.abc import Sequence
from datetime import datetime

from nixfleet_control_plane.engine.applier import apply
from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.host_record import BEGINNINGS, apply_fact, skip_seq, starts_over
from nixfleet_control_plane.engine.state import HostKey, State
from nixfleet_proto.agent_event import (
    AgentEvent,
    DispatchAck,
    Postponed,
    ProbeResult,
)
from nixfleet_state_machine.host.blame import blames_closure
from nixfleet_state_machine.host.effect import (
    ControlPlaneEffect,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
)
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.holds.device import device_hold
from nixfleet_state_machine.planner.quarantining import bars_closure


class FactFold:
    """record: the host's record after the facts so far."""

    __slots__ = ("_at", "_commit", "_failing", "_key", "_not_put", "_policy", "_state", "record")

    def __init__(
        self, state: State, commit: CommitBuilder, record: HostRolloutState, at: datetime
    ) -> None:
        self.record = record
        self._key: HostKey = record.rollout_id, record.hostname
        self._state = state
        self._commit = commit
        self._at = at
        self._policy = state.manifests[record.rollout_id].manifest.rollout_policy
        self._not_put: list[AgentEvent] = []
        # As the planner counts them.
        self._failing = state.outstanding.get(self._key)

    def step(self, fact: AgentEvent) -> tuple[HostRolloutState, tuple[ControlPlaneEffect, ...]]:
        """Return the record after `fact`, and the effects, of which none is carried out. Raises: TransitionError."""
        return apply_fact(self.record, fact, self._at, self._policy)

    def carry_out(
        self,
        fact: AgentEvent,
        after: HostRolloutState,
        effects: Sequence[ControlPlaneEffect],
        event_log_seq: int,
    ) -> tuple[RecordTransition, ...]:
        """Take `fact`, of which `step` said this. Return the transitions, of which the host's rollout must be notified.

        event_log_seq: the row that says it, which has its number.
        """
        state, before = self._state, self.record
        if starts_over(before, fact):
            self._not_put = []
            state.forget_facts(self._commit, self._key)
        transitions: tuple[RecordTransition, ...] = ()
        for effect in effects:
            if isinstance(effect, RemoteAppendEventLog):
                if isinstance(fact, ProbeResult):
                    state.note_probe_result(self._commit, self._key, fact, event_log_seq)
            elif isinstance(effect, RecordTransition):
                transitions = (*transitions, effect)
            elif not isinstance(effect, RemoteInsertQuarantine) or (
                blames_closure(after) and bars_closure(state.view, *self._key)
            ):
                apply(effect, state, self._commit, self._at)
        self.record = after
        self._not_put.append(fact)
        state.note_fact(self._key, fact, self._at)
        if before.dispatch_acked_at is None or isinstance(fact, BEGINNINGS):
            self.put()
            self._note_dispatch(before, fact)
        return transitions

    def _note_dispatch(self, before: HostRolloutState, fact: AgentEvent) -> None:
        """Take the host's dispatch from the queue, if it has it, or holds it off by its own lock."""
        locked = _note_lock(self._state, self._commit, self._key, fact, self._at)
        if locked:
            self._state.give_slots_back(self._commit, self._key)
        is_first = before.dispatch_acked_at is None and not isinstance(fact, Postponed)
        if is_first or isinstance(fact, DispatchAck) or locked:
            # Any first fact shows that the host has its dispatch. One that is postponed is queued again after its hold.
            self._state.remove_dispatch(self._commit, self._key)
            self._state.remove_deferral(self._commit, self._key)

    def take(self, fact: AgentEvent, event_log_seq: int) -> tuple[RecordTransition, ...]:
        """As `step` and `carry_out`. Raises: TransitionError; nothing has changed then."""
        after, effects = self.step(fact)
        return self.carry_out(fact, after, effects, event_log_seq)

    def skip(self, fact: AgentEvent, reason: str, event_log_seq: int) -> None:
        """Advance the record past a fact that does not apply, so that later facts can be applied."""
        self.record = skip_seq(self.record, fact.seq)
        self._not_put.append(fact)
        self._state.refuse_fact(self._commit, self._key, fact.seq, reason, event_log_seq)

    def put(self) -> None:
        """Set the host's record to that after the facts so far, as of the latest log row."""
        if not self._not_put:
            return
        state, key = self._state, self._key
        state.put_host(self.record)
        if state.outstanding.get(key) is not self._failing:
            state.count_outstanding(key)
            self._failing = state.outstanding.get(key)
        state.digests.note(key, self._not_put)
        early = state.early.get(key)
        if early is not None and early.seq <= self.record.last_event_seq:
            state.early.discard(key)
        self._not_put = []

    def read_again(self) -> None:
        """Something else may have changed the host's record since `put`."""
        record = self._state.view.host(*self._key)
        assert record is not None, self._key
        self.record = record


def _note_lock(
    state: State, commit: CommitBuilder, key: HostKey, fact: AgentEvent, at: datetime
) -> bool:
    """Begin or end the hold by the host's own lock, as `fact` says of it; return whether the host is held by it now.

    What comes late of a rollout that another one took over from says nothing of the lock.
    """
    rollout_id, hostname = key
    if not isinstance(fact, Postponed | DispatchAck):
        return False
    if not state.view.rollout(rollout_id).state.is_served:
        return False
    hold = device_hold(hostname, fact, at) if isinstance(fact, Postponed) else None
    if hold is not None:
        state.hold(commit, hold, at)
    else:
        state.end_device_hold(commit, hostname)
    return hold is not None
