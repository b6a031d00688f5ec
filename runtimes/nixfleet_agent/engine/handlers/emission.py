"""How the engine tells a fact: it is numbered, stepped, and its effects are applied. Every handler ends here.

A text of a fact is kept for ever by the log, so what looks like a secret is taken out before.
"""

from datetime import datetime

from attrs import evolve

from nixfleet_agent.engine.applier import apply
from nixfleet_agent.engine.probe_facts import FactOf
from nixfleet_agent.engine.reconcile import log_entry
from nixfleet_agent.engine.state import CommitBuilder, State
from nixfleet_proto.agent_event import (
    ActivationFailed,
    AgentEvent,
    OnHealthFailure,
    Postponed,
    ProbeResult,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.redacted import redacted
from nixfleet_state_machine.host.effect import LocalFireRollbackTo, LogLevel
from nixfleet_state_machine.host.event import Local
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState


def emit(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, fact_of: FactOf, now: datetime
) -> None:
    """Give a fact the next seq, step, and apply the effects."""
    rollout = state.rollouts[rollout_id]
    fact = _without_secrets(fact_of(rollout.record.last_event_seq + 1))
    record, effects = step(rollout.record, Local(fact), now, rollout.policy)
    state.put_record(commit, record)
    became_failed = record.state is HostState.FAILED is not rollout.record.state
    if became_failed and _has_nothing_to_go_back_to(record):
        about = f"{rollout_id}: {record.target_closure} ran before its dispatch"
        message = "failed, and not rolling back, as there is nothing to go back to"
        commit.afterwards(log_entry(LogLevel.ERROR, message, about))
    for effect in effects:
        if isinstance(effect, LocalFireRollbackTo) and rollout.taken_over_seq:
            # The rollback target would be the control plane's claim here, and a claim moves no machine.
            about = f"{rollout_id} to {effect.closure}"
            message = "not rolling back, as the journal was lost"
            commit.afterwards(log_entry(LogLevel.ERROR, message, about))
            state.refuse_rollback(commit, rollout_id, not_rolling_back(effect.closure))
        else:
            apply(effect, state, commit, now)


def _without_secrets(fact: AgentEvent) -> AgentEvent:
    """Return `fact` without what looks like a secret in its texts: the log keeps them for ever."""
    if isinstance(fact, ProbeResult) and fact.failure_reason is not None:
        return evolve(fact, failure_reason=redacted(fact.failure_reason))
    if isinstance(fact, Postponed):
        return evolve(fact, reason=redacted(fact.reason))
    if isinstance(fact, ActivationFailed):
        return evolve(fact, stderr_tail=redacted(fact.stderr_tail))
    if isinstance(fact, RollbackComplete) and fact.failure_reason is not None:
        return evolve(fact, failure_reason=redacted(fact.failure_reason))
    return fact


def _has_nothing_to_go_back_to(record: HostRolloutState) -> bool:
    goes_back = record.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
    return goes_back and record.current_closure_at_dispatch == record.target_closure


def not_rolling_back(closure: str) -> str:
    """Return why a host whose journal was lost is not rolled back."""
    return (
        f"not rolling back to {closure}: the journal was lost, and the control plane's word moves no machine; "
        "activate it by hand, or release it again"
    )
