"""Host reducer: every transition out of a state is in its `_from_…`. No clock, no I/O, no log.

Only `_moved`, `_noted` and `_reported` return a successor: they add the emit or append effect, its `durable` flag and
the `RecordTransition`, so no arm can omit one. Facts that are illegal in a state are listed by name, never matched by a
wildcard.
Source: docs/spec/host-machine.md, Transitions.
"""

from datetime import datetime
from typing import TypedDict, Unpack, assert_never, overload

from attrs import evolve

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    OnHealthFailure,
    Postponed,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.checked import require_arguments
from nixfleet_proto.drafting import evolver, maker
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.members import members
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine.host.convergence import require_convergence
from nixfleet_state_machine.host.effect import (
    AgentEffect,
    ControlPlaneEffect,
    EmitLog,
    EmitMetric,
    HostEffect,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    LogLevel,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
)
from nixfleet_state_machine.host.errors import IllegalForState, SeqRegression
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.state import HostRolloutState, HostState, ProbeRecord


@overload
def step(
    state: HostRolloutState, event: Local, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, tuple[AgentEffect, ...]]: ...
@overload
def step(
    state: HostRolloutState, event: Remote, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, tuple[ControlPlaneEffect, ...]]: ...
@overload
def step(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, tuple[HostEffect, ...]]: ...
def step(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, tuple[HostEffect, ...]]:
    """Return the record after `event`, and the effects to carry out, in order.

    now: aware UTC. policy: of the verified manifest. A `Local` event yields effects for the agent only,
    a `Remote` one for the control plane only; the record that comes out is the same.
    Raises: SeqRegression, IllegalForState, InvariantViolation; `state` is untouched. InvalidValue, for arguments of
    another type and a `now` without a UTC offset.
    Source: docs/spec/host-machine.md, Transitions.
    """
    # Records and facts were checked when they were made. A wrong argument raises one of the errors below by itself.
    try:
        if now.tzinfo is None or type(policy) is not RolloutPolicy:
            _require_arguments(state, event, now, policy)
        if event.fact.seq <= state.last_event_seq:
            raise SeqRegression(state, event.fact)
        match state.state:
            case _State.SOAKING:
                return _from_soaking(state, event)
            case _State.ACTIVATING:
                return _from_activating(state, event, policy)
            case _State.PENDING:
                return _from_pending(state, event)
            case _State.DEFERRED:
                return _from_deferred(state, event, policy)
            case _State.FAILED:
                return _from_failed(state, event)
            case _State.CONVERGED:
                return _from_converged(state, event)
            case _State.REVERTED:
                return _from_reverted(state, event)
            case _:
                assert_never(state.state)
    except (AttributeError, TypeError, AssertionError):
        _require_arguments(state, event, now, policy)
        raise


def rehydration_effects(state: HostRolloutState) -> tuple[AgentEffect, ...]:
    """Return the effects for an agent that restored `state`: it starts its probes from scratch.

    Raises: InvalidValue.
    Source: docs/spec/host-machine.md, Rehydration.
    """
    require_arguments("rehydration_effects", state=(state, HostRolloutState))
    if state.state is _State.PENDING:
        return ()
    return (LocalResetProbeCache(state.rollout_id),)


def _require_arguments(state: object, event: object, now: object, policy: object) -> None:
    require_arguments(
        "step",
        state=(state, HostRolloutState),
        event=(event, Event),
        now=(now, datetime),
        policy=(policy, RolloutPolicy),
    )


# Building the results is most of the cost of a step. These build equal ones in a fifth of the time that attrs needs.
_evolved = evolver(HostRolloutState, "state", "last_event_seq")
_probed = evolver(HostRolloutState, "last_event_seq", "probes")  # most facts are results
_probe_record = maker(ProbeRecord)
_emit_event = maker(LocalEmitEvent)
_append_event_log = maker(RemoteAppendEventLog)
_fire_switch = maker(LocalFireSwitch)
_reset_probe_cache = maker(LocalResetProbeCache)
_record_transition = maker(RecordTransition)
_emit_metric = maker(EmitMetric)

# Members of enums, with a fast lookup.
_State, _Status, _Policy = members(HostState), members(ProbeStatus), members(OnHealthFailure)
_NO_PROBES: FrozenMap[str, ProbeRecord] = FrozenMap()

# Reports that may be lost in a crash: the next run of the probe repeats them.
_CHATTER = (ProbeResult, ProbeObservedFirst, ProbeFailureFirst)

_Step = tuple[HostRolloutState, tuple[HostEffect, ...]]


def _from_pending(state: HostRolloutState, event: Event) -> _Step:
    fact = event.fact
    match fact:
        case DispatchAck() if fact.attempt_number == 1:
            return _moved(
                state,
                event,
                _State.ACTIVATING,
                fact.received_at,
                fire=(_fire_switch(state.rollout_id, state.target_closure),),
                current_closure_at_dispatch=fact.current_closure_at_dispatch,
                dispatch_acked_at=fact.received_at,
            )
        case Postponed():
            return _noted(state, event)
        case (
            DispatchAck()
            | ActivationStarted()
            | ActivationCompleted()
            | ActivationFailed()
            | ActivationDeferred()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
            | Failed()
            | RollbackComplete()
            | Converged()
            | Regressed()
            | Recalled()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _from_activating(state: HostRolloutState, event: Event, policy: RolloutPolicy) -> _Step:
    fact = event.fact
    match fact:
        case ActivationStarted():
            return _noted(state, event, activation_started_at=fact.started_at)
        case ActivationCompleted():
            return _activated(state, event, fact)
        case ActivationDeferred():
            return _moved(
                state, event, _State.DEFERRED, fact.deferred_at, deferred_at=fact.deferred_at
            )
        case ActivationFailed():
            return _activation_failed(state, event, fact, policy)
        case Recalled():
            return _recalled(state, event, fact)
        case (
            DispatchAck()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
            | Failed()
            | RollbackComplete()
            | Converged()
            | Regressed()
            | Postponed()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _from_deferred(state: HostRolloutState, event: Event, policy: RolloutPolicy) -> _Step:
    fact = event.fact
    match fact:
        case ActivationCompleted():
            return _activated(state, event, fact)
        case ActivationFailed():
            return _activation_failed(state, event, fact, policy)
        case Recalled():
            return _recalled(state, event, fact)
        case (
            DispatchAck()
            | ActivationStarted()
            | ActivationDeferred()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
            | Failed()
            | RollbackComplete()
            | Converged()
            | Regressed()
            | Postponed()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _from_soaking(state: HostRolloutState, event: Event) -> _Step:
    fact = event.fact
    match fact:
        case ProbeResult():
            probes = state.probes.with_item(fact.probe_name, _probe_after(state.probes, fact))
            return _reported(_probed(state, fact.seq, probes), event)
        case ProbeObservedFirst():
            first = state.probe_observed_first_at or fact.observed_at
            return _noted(state, event, probe_observed_first_at=first)
        case ProbeFailureFirst():
            # The first one ever, kept for the record; sustained failure is judged by `failing_since`.
            first = state.probe_failure_first_at or fact.first_failed_at
            return _noted(state, event, probe_failure_first_at=first)
        case ProbeTopologyDeclared():
            return _noted(state, event, declared_probes=fact.probes)
        case Converged():
            require_convergence(state, fact)
            return _moved(
                state if state.failed_at is None else _without_failure(state),
                event,
                _State.CONVERGED,
                fact.converged_at,
                took=("nixfleet_host_soak_seconds", state.activation_completed_at),
                converged_at=fact.converged_at,
                current_closure=fact.current_closure,
            )
        case Failed():
            # The policy of the fact, not of the caller: both sides must agree on what the agent did.
            return _moved(
                state,
                event,
                _State.FAILED,
                fact.failed_at,
                fire=_rollback(state, fact.policy_applied),
                failed_at=fact.failed_at,
                policy_applied=fact.policy_applied,
            )
        case Recalled():
            return _recalled(state, event, fact)
        case (
            DispatchAck()
            | ActivationStarted()
            | ActivationCompleted()
            | ActivationFailed()
            | ActivationDeferred()
            | RollbackComplete()
            | Regressed()
            | Postponed()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _from_failed(state: HostRolloutState, event: Event) -> _Step:
    fact = event.fact
    match fact:
        case RollbackComplete() if fact.exit_code == 0:
            return _moved(
                state,
                event,
                _State.REVERTED,
                fact.completed_at,
                quarantine=(RemoteInsertQuarantine(state.channel, state.target_closure),),
                reverted_at=fact.completed_at,
                reverted_to=fact.reverted_to_closure,
                current_closure=fact.reverted_to_closure,
            )
        case RollbackComplete():
            after, effects = _noted(state, event, current_closure=fact.reverted_to_closure)
            return after, (*effects, _rollback_failed(state, fact))
        case DispatchAck():
            return _tried_again(state, event, fact)
        case Postponed():
            return _postponed_again(state, event, fact)
        case (
            ActivationStarted()
            | ActivationCompleted()
            | ActivationFailed()
            | ActivationDeferred()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
            | Failed()
            | Converged()
            | Regressed()
            | Recalled()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _from_converged(state: HostRolloutState, event: Event) -> _Step:
    fact = event.fact
    match fact:
        case Regressed():
            return _moved(
                state,
                event,
                _State.FAILED,
                fact.regressed_at,
                fire=_rollback(state, fact.policy_applied),
                failed_at=fact.regressed_at,
                policy_applied=fact.policy_applied,
            )
        case DispatchAck():
            return _tried_again(state, event, fact)
        case Postponed():
            return _postponed_again(state, event, fact)
        case Recalled():
            return _recalled(state, event, fact)
        case (
            ActivationStarted()
            | ActivationCompleted()
            | ActivationFailed()
            | ActivationDeferred()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
            | Failed()
            | RollbackComplete()
            | Converged()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _from_reverted(state: HostRolloutState, event: Event) -> _Step:
    fact = event.fact
    match fact:
        case DispatchAck():
            return _tried_again(state, event, fact)
        case Postponed():
            return _postponed_again(state, event, fact)
        case (
            ActivationStarted()
            | ActivationCompleted()
            | ActivationFailed()
            | ActivationDeferred()
            | ProbeTopologyDeclared()
            | ProbeObservedFirst()
            | ProbeResult()
            | ProbeFailureFirst()
            | Failed()
            | RollbackComplete()
            | Converged()
            | Regressed()
            | Recalled()
        ):
            raise IllegalForState(state, fact)
        case _:
            assert_never(fact)


def _recalled(state: HostRolloutState, event: Event, fact: Recalled) -> _Step:
    """Leave the target as after a failure, whatever the policy says of failures: the warrant was granted."""
    return _moved(
        state,
        event,
        _State.FAILED,
        fact.recalled_at,
        fire=_rollback(state, _Policy.ROLLBACK_AND_HALT),
        failed_at=fact.recalled_at,
        policy_applied=_Policy.ROLLBACK_AND_HALT,
    )


def _tried_again(state: HostRolloutState, event: Event, fact: DispatchAck) -> _Step:
    """Begin the next attempt: the stages begin anew, and the failure stands until the attempt succeeds."""
    if fact.attempt_number != state.attempt + 1 or not state.may_try_again:
        raise IllegalForState(state, fact)
    return _moved(
        _begun_anew(state),
        event,
        _State.ACTIVATING,
        fact.received_at,
        fire=(_fire_switch(state.rollout_id, state.target_closure),),
        attempt=fact.attempt_number,
        current_closure_at_dispatch=fact.current_closure_at_dispatch,
        dispatch_acked_at=fact.received_at,
    )


def _postponed_again(state: HostRolloutState, event: Event, fact: Postponed) -> _Step:
    """Stay as it is: a lock is asked before a switch, never before a way back that is not done."""
    if not state.may_try_again:
        raise IllegalForState(state, fact)
    return _noted(state, event)


def _begun_anew(state: HostRolloutState) -> HostRolloutState:
    """Return `state` without what the next attempt knows nothing of. Its failure is kept until it succeeds."""
    return evolve(
        state,
        reverted_to=None,
        reverted_at=None,
        activation_started_at=None,
        activation_completed_at=None,
        deferred_at=None,
        probe_observed_first_at=None,
        probe_failure_first_at=None,
        converged_at=None,
        probes=_NO_PROBES,
        declared_probes=None,
    )


def _without_failure(state: HostRolloutState) -> HostRolloutState:
    return evolve(state, failed_at=None, activation_failed_at=None, policy_applied=None)


def _activated(state: HostRolloutState, event: Event, fact: ActivationCompleted) -> _Step:
    return _moved(
        state,
        event,
        _State.SOAKING,
        fact.completed_at,
        reset=(_reset_probe_cache(state.rollout_id),),
        took=("nixfleet_host_activation_seconds", state.dispatch_acked_at),
        activation_completed_at=fact.completed_at,
        current_closure=fact.observed_current_closure,
        probes=_NO_PROBES,
        declared_probes=None,
    )


def _activation_failed(
    state: HostRolloutState, event: Event, fact: ActivationFailed, policy: RolloutPolicy
) -> _Step:
    return _moved(
        state,
        event,
        _State.FAILED,
        fact.failed_at,
        fire=_rollback(state, policy.on_health_failure),
        activation_failed_at=fact.failed_at,
        failed_at=fact.failed_at,
        policy_applied=policy.on_health_failure,
    )


def _rollback(state: HostRolloutState, policy: OnHealthFailure) -> tuple[LocalFireRollbackTo, ...]:
    match policy:
        case _Policy.HALT:
            return ()
        case _Policy.ROLLBACK_AND_HALT:
            prior = state.current_closure_at_dispatch
            # A host that ran the target before its dispatch has nothing to go back to.
            if prior is None or prior == state.target_closure:
                return ()
            return (LocalFireRollbackTo(state.rollout_id, prior),)
        case _:
            assert_never(policy)


def _rollback_failed(state: HostRolloutState, fact: RollbackComplete) -> EmitLog:
    return EmitLog(
        LogLevel.ERROR,
        target="nixfleet.host",
        message="the rollback failed; the host stays Failed",
        fields=(
            ("rollout_id", state.rollout_id),
            ("host", state.hostname),
            ("exit_code", str(fact.exit_code)),
            ("current_closure", fact.reverted_to_closure),
        ),
    )


def _probe_after(probes: FrozenMap[str, ProbeRecord], fact: ProbeResult) -> ProbeRecord:
    match fact.status:
        case _Status.PASS:
            return _probe_record(fact.status, fact.mode, fact.observed_at, fact.observed_at)
        case _Status.FAIL:
            before = probes.get(fact.probe_name)
            last_pass_at = None if before is None else before.last_pass_at
            failing_since = None if before is None else before.failing_since
            return _probe_record(
                fact.status,
                fact.mode,
                fact.observed_at,
                last_pass_at,
                fact.failure_reason,
                failing_since or fact.observed_at,
            )
        case _:
            assert_never(fact.status)


# Helpers with `**changes` take all other arguments by position (`/`): otherwise CPython compares the name of each
# change with the name of each parameter.
class _Changes(TypedDict, total=False):
    """The fields that a fact may set. `state` and `last_event_seq` are set by the helpers."""

    attempt: int
    current_closure_at_dispatch: str
    current_closure: str
    reverted_to: str
    dispatch_acked_at: datetime
    activation_started_at: datetime
    activation_completed_at: datetime
    activation_failed_at: datetime
    deferred_at: datetime
    probe_observed_first_at: datetime
    probe_failure_first_at: datetime
    converged_at: datetime
    failed_at: datetime
    policy_applied: OnHealthFailure
    reverted_at: datetime
    probes: FrozenMap[str, ProbeRecord]
    declared_probes: tuple[ProbeTopologyEntry, ...] | None


def _noted(state: HostRolloutState, event: Event, /, **changes: Unpack[_Changes]) -> _Step:
    """Return the successor in the same state, with `changes`."""
    return _reported(_evolved(state, state.state, event.fact.seq, changes), event)


def _reported(after: HostRolloutState, event: Event) -> _Step:
    """Return `after`, which is in the same state, and the effect that passes the fact on."""
    match event:
        case Remote():  # first: the control plane handles the facts of all hosts
            return after, (_append_event_log(after.hostname, after.rollout_id, event.fact),)
        case Local():
            return after, (_emit(after, event.fact),)
        case _:
            assert_never(event)


def _moved(
    state: HostRolloutState,
    event: Event,
    to: HostState,
    at: datetime,
    /,
    *,
    reset: tuple[LocalResetProbeCache, ...] = (),
    quarantine: tuple[RemoteInsertQuarantine, ...] = (),
    fire: tuple[LocalFireSwitch | LocalFireRollbackTo, ...] = (),
    took: tuple[str, datetime | None] | None = None,
    **changes: Unpack[_Changes],
) -> _Step:
    """Return the successor in the state `to`, which it entered at `at`.

    reset, fire: effects for the agent only. quarantine: for the control plane only. took: the metric and the start of a
    duration that ends at `at`.
    """
    after = _evolved(state, to, event.fact.seq, changes)
    moved = _record_transition(state.hostname, state.rollout_id, state.state, to, at)
    metrics = _metrics(moved, took)
    match event:
        case Remote():
            appended = _append_event_log(state.hostname, state.rollout_id, event.fact)
            return after, (appended, *quarantine, moved, *metrics)
        case Local():
            return after, (*reset, _emit(state, event.fact), moved, *fire, *metrics)
        case _:
            assert_never(event)


def _emit(state: HostRolloutState, fact: AgentEvent) -> LocalEmitEvent:
    return _emit_event(state.rollout_id, fact, not isinstance(fact, _CHATTER))


def _metrics(
    moved: RecordTransition, took: tuple[str, datetime | None] | None
) -> tuple[EmitMetric, ...]:
    count = _emit_metric(
        "nixfleet_host_transitions_total",
        (("from", str(moved.from_)), ("to", str(moved.to))),
        1.0,
    )
    if took is None:
        return (count,)
    name, since = took
    if since is None:
        return (count,)
    return count, _emit_metric(name, (), (moved.at - since).total_seconds())
