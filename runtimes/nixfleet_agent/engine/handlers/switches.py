"""What the engine does about switches and rollbacks: attempts are counted, and how each ended becomes a fact.

Source: docs/spec/runtimes.md, Agent.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never

from attrs import evolve

from nixfleet_agent.activation.activator import (
    EXIT_CODE_OF_AGENT,
    ClosureMismatch,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchEnd,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.engine.deadlines import activation_left, switch_limit_seconds
from nixfleet_agent.engine.handlers.emission import emit
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.probe_facts import FactOf, facts_of_running_closure
from nixfleet_agent.engine.reconcile import log_entry
from nixfleet_agent.engine.state import CommitBuilder, State
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    ClosureAwaited,
    Intent,
    IntentBegun,
    IntentKind,
    IntentWithdrawn,
    MayBegin,
    Reply,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
    WithdrawIntent,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    RollbackComplete,
)
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX
from nixfleet_state_machine.host.effect import LogLevel
from nixfleet_state_machine.host.state import HostState

FAILED_UNITS_MAX: Final = 64
"""How many units that failed in a switch a fact names."""


def closure_awaited(state: State, commit: CommitBuilder, input: ClosureAwaited) -> None:
    """Note why a closure is waited for; a switch that a rollback takes back is withdrawn instead."""
    intent = state.intents.get(input.intent_id)
    if intent is None:
        return
    if is_undone(state, intent):
        state.remove_intent(commit, intent)
        commit.afterwards(WithdrawIntent(intent))
    else:
        state.awaited.set(input.intent_id, input.reason)


def is_undone(state: State, intent: Intent) -> bool:
    """Whether it is a switch that a rollback of the same rollout takes back: it is not begun any more."""
    return intent.kind is IntentKind.SWITCH and any(
        other.kind is IntentKind.ROLLBACK and other.rollout_id == intent.rollout_id
        for other in state.intents.values()
    )


def intent_begun(
    state: State, options: Options, commit: CommitBuilder, input: IntentBegun, now: datetime
) -> Reply:
    """Count the attempt; a switch or rollback that ended each process that began it has failed."""
    intent = state.intents.get(input.intent_id)
    if intent is None:
        return IntentWithdrawn()
    if intent.intent_id in state.begun or intent.attempts < options.attempts_max:
        state.begin_intent(commit, intent)
        return MayBegin(_limit_seconds_of(state, intent))
    reason = _begun_too_often(intent)
    kind = intent.kind
    match kind:
        case IntentKind.SWITCH:
            failed = SwitchFailed(SwitchPhase.SWITCH, EXIT_CODE_OF_AGENT, reason)
            switch_ended(state, commit, SwitchEnded(intent.intent_id, failed), now)
        case IntentKind.ROLLBACK:
            running = state.running_closure.get()
            assert running is not None, "every start reports what runs before it begins an intent"
            undone = RollbackFinished(running, EXIT_CODE_OF_AGENT, reason)
            rollback_ended(state, commit, RollbackEnded(intent.intent_id, undone), now)
        case _:
            assert_never(kind)
    commit.afterwards(log_entry(LogLevel.ERROR, "it has failed", reason))
    return AttemptsUsedUp()


def _limit_seconds_of(state: State, intent: Intent) -> float | None:
    rollout = state.rollouts.get(intent.rollout_id)
    if rollout is None:
        return None
    return switch_limit_seconds(rollout, state.observed_of(intent.rollout_id))


def end_overdue_waiting(state: State, commit: CommitBuilder, now: datetime) -> None:
    """Fail the activations whose closure has not come by their deadline. Nothing was switched."""
    for intent in tuple(state.intents.values()):
        rollout = state.rollouts.get(intent.rollout_id)
        if rollout is None or state.is_under_way(intent):
            continue
        observed = state.observed_of(intent.rollout_id)
        left = activation_left(rollout, observed)
        if left is None or left > timedelta():
            continue
        why = state.awaited.get(intent.intent_id, "it is still being fetched")
        limit_minutes = (left + observed.activating) / timedelta(minutes=1)
        reason = f"the closure did not come within {limit_minutes:g} min: {why}"
        failed = SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, reason)
        commit.afterwards(WithdrawIntent(intent))
        switch_ended(state, commit, SwitchEnded(intent.intent_id, failed), now)


def switch_started(
    state: State, commit: CommitBuilder, input: SwitchStarted, now: datetime
) -> None:
    """Tell that the switch has begun, unless it is one that is resumed."""
    intent = state.intents.get(input.intent_id)
    if intent is None or intent.rollout_id not in state.rollouts:
        return
    record = state.rollouts[intent.rollout_id].record
    # A switch that is resumed was reported before.
    if record.state is HostState.ACTIVATING and record.activation_started_at is None:
        known = state.rollouts[intent.rollout_id]
        state.put_rollout(commit, evolve(known, home_at=input.answered_at))
        method = input.switch_method
        emit(state, commit, intent.rollout_id, lambda seq: ActivationStarted(now, method, seq), now)


def switch_ended(state: State, commit: CommitBuilder, input: SwitchEnded, now: datetime) -> None:
    """Tell how the switch ended."""
    intent = state.intents.get(input.intent_id)
    if intent is None:
        return
    state.remove_intent(commit, intent)
    if isinstance(input.outcome, SwitchCompleted):
        state.running_closure.set(input.outcome.current_closure)
    if state.state_of(intent.rollout_id) is HostState.ACTIVATING:
        emit(state, commit, intent.rollout_id, _activation_fact(input.outcome, now), now)


def note_running_closure(state: State, commit: CommitBuilder, running: str, now: datetime) -> None:
    """Note what runs: a reboot may have activated a deferred closure, or one other than the soaking one."""
    state.running_closure.set(running)
    for rollout in state.open_rollouts():
        record = rollout.record
        if record.state is HostState.DEFERRED and running == record.target_closure:
            outcome = SwitchCompleted(running, exit_code=0)
            emit(state, commit, record.rollout_id, _activation_fact(outcome, now), now)
        elif record.state is HostState.SOAKING:
            for fact_of in facts_of_running_closure(record, running, now):
                emit(state, commit, record.rollout_id, fact_of, now)
        elif record.state is HostState.CONVERGED and running != record.target_closure:
            # Drift, which is not a failure of the closure: what was seen of that before it has ended.
            state.observed.discard(record.rollout_id)


def rollback_ended(
    state: State, commit: CommitBuilder, input: RollbackEnded, now: datetime
) -> None:
    """Tell how the rollback ended."""
    intent = state.intents.get(input.intent_id)
    if intent is None:
        return
    state.remove_intent(commit, intent)
    outcome = input.outcome
    state.running_closure.set(outcome.current_closure)
    if state.state_of(intent.rollout_id) is HostState.FAILED:
        reason = outcome.stderr_tail.strip()[-FAILURE_REASON_LENGTH_MAX:] or None
        emit(
            state,
            commit,
            intent.rollout_id,
            lambda seq: RollbackComplete(
                outcome.current_closure, outcome.exit_code, now, seq, reason
            ),
            now,
        )


def _begun_too_often(intent: Intent) -> str:
    return (
        f"the {intent.kind.value} to {intent.closure} was begun {intent.attempts} times, and each time the agent "
        "or the machine was restarted before it ended: expected a script that restarts neither; it is not begun again"
    )


def _activation_fact(outcome: SwitchEnd, now: datetime) -> FactOf:
    match outcome:
        case SwitchCompleted():
            failed = outcome.failed_units[:FAILED_UNITS_MAX] or None
            return lambda seq: ActivationCompleted(
                outcome.current_closure, outcome.exit_code, now, seq, failed
            )
        case SwitchDeferred():
            return lambda seq: ActivationDeferred(outcome.component, now, seq)
        case SwitchFailed():
            return lambda seq: ActivationFailed(outcome.exit_code, str(outcome), now, seq)
        case ClosureMismatch():
            return lambda seq: ActivationFailed(EXIT_CODE_OF_AGENT, str(outcome), now, seq)
        case _:
            assert_never(outcome)
