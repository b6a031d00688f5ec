"""The host machine against recorded histories, matrix and rehydration.

Where a row says that we diverge, our answer must be exactly what docs/spec/host-machine.md,
Transitions says; there the history ends.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias, assert_never

from attrs import evolve, frozen

from nixfleet_proto.agent_event import (
    ActivationFailed,
    Converged,
    OnHealthFailure,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host import reducer
from nixfleet_state_machine.host.effect import (
    EmitLog,
    EmitMetric,
    HostEffect,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LogLevel,
    RecordTransition,
    RemoteAppendEventLog,
)
from nixfleet_state_machine.host.errors import (
    ConvergenceRule,
    InvariantViolation,
    SeqRegression,
    TransitionError,
)
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_testing.conformance.answer import (
    Accepted,
    Answer,
    JsonObject,
    RefusedInput,
    Run,
    answer_mismatches,
    effect_mismatches,
)
from nixfleet_testing.conformance.reference_json import (
    fact_name,
    id_at,
    number_at,
    object_at,
    objects_at,
    one_of,
    read_at,
    read_each_at,
    read_event,
    read_host_record,
    read_policy,
    text_at,
    time_at,
    to_json_object,
)

HostStep: TypeAlias = Callable[
    [HostRolloutState, Event, datetime, RolloutPolicy],
    tuple[HostRolloutState, Sequence[HostEffect]],
]


class HostDivergence(StrEnum):
    """Where we are stricter than the recorder, by the letters of docs/spec/host-machine.md, Differences from the
    reference implementation."""

    DECLARED_PROBE_NEVER_REPORTED = "a"
    ROLLBACK_FAILED = "b"
    DEFERRED_ACTIVATION_FAILED = "c"
    ACTIVATED_LATE = "d"


@frozen
class HostVectorStep:
    """One event of a history and what was answered; `divergence` when ours must be another answer."""

    event: Event
    now: datetime
    answer: Answer
    divergence: HostDivergence | None


@frozen
class HostVector:
    """A recorded history of one host."""

    id: str
    policy: RolloutPolicy
    initial: HostRolloutState
    steps: tuple[HostVectorStep, ...]


@frozen
class RehydrationVector:
    """A stored record and the effects that restoring it must have. `id` is its state."""

    id: str
    initial: HostRolloutState
    effects: tuple[JsonObject, ...]


def check_host(vector: HostVector, step: HostStep = reducer.step) -> Run:
    """Run `vector` against `step`, up to its end, its divergence or the first mismatch."""
    record = vector.initial
    for count, recorded in enumerate(vector.steps, start=1):
        after, found = _answer(step, record, recorded, vector.policy)
        divergence = recorded.divergence
        if _converges_late(record, recorded.event):
            divergence = HostDivergence.ACTIVATED_LATE
        if divergence is None:
            mismatches = tuple(answer_mismatches(recorded.answer, _without_logs(found)))
        else:
            designed = _by_design(divergence, record, recorded.event, vector.policy)
            mismatches = tuple(answer_mismatches(designed, found))
        if mismatches or (divergence is not None and isinstance(recorded.answer, Accepted)):
            return Run.of(vector.id, count, divergence, mismatches)
        record = after
    return Run.of(vector.id, len(vector.steps), None, ())


def check_rehydration(
    vector: RehydrationVector,
    rehydrate: Callable[[HostRolloutState], Sequence[HostEffect]] = reducer.rehydration_effects,
) -> Run:
    """Compare what restoring the vector's record asks for; a history of one step."""
    found = tuple(to_json_object(effect) for effect in rehydrate(vector.initial))
    return Run.of(vector.id, 1, None, tuple(effect_mismatches(vector.effects, found)))


def read_host_vector(row: JsonObject) -> HostVector:
    """Return the history in `row`, of `host_vectors` or `host_matrix`. Raises: ValueError."""
    marks = {} if row.get("diverges") is None else read_at(row, "diverges", _divergence)
    return HostVector(
        id=id_at(row),
        policy=read_at(row, "policy", read_policy),
        initial=read_at(row, "initial", read_host_record),
        steps=read_each_at(row, "steps", lambda place, step: _read_step(step, marks.get(place))),
    )


def read_rehydration_vector(row: JsonObject) -> RehydrationVector:
    """Return the record in `row`, of `rehydration_vectors`. Raises: ValueError."""
    initial = read_at(row, "initial", read_host_record)
    return RehydrationVector(text_at(row, "state"), initial, objects_at(row, "effects"))


def _divergence(json: JsonObject) -> dict[int, HostDivergence]:
    return {number_at(json, "step"): HostDivergence(text_at(json, "rule"))}


def _read_step(json: JsonObject, divergence: HostDivergence | None) -> HostVectorStep:
    return HostVectorStep(
        event=read_at(json, "event", read_event),
        now=time_at(json, "now"),
        answer=read_at(json, "result", _read_answer),
        divergence=divergence,
    )


def _read_answer(result: JsonObject) -> Answer:
    if "err" in result:
        return RefusedInput(read_at(result, "err", _recorded_reason))
    accepted = object_at(result, "ok")
    return Accepted(object_at(accepted, "state"), objects_at(accepted, "effects"))


BROKEN_RULES = {
    "Converged event: current_closure != target_closure": ConvergenceRule.CLOSURE_IS_TARGET,
    "Converged event: converged_at before soak_due_at": ConvergenceRule.SOAK_ELAPSED,
    "Converged event: at least one enforce-mode probe is not Pass": (
        ConvergenceRule.ENFORCE_PROBES_PASS
    ),
    "Converged event: a declared enforce-mode probe has not reported": (
        ConvergenceRule.DECLARED_PROBES_REPORTED
    ),
}


def _recorded_reason(error: JsonObject) -> str:
    kind = text_at(error, "kind")
    if kind == "Invariant":
        return f"rule {one_of(BROKEN_RULES, text_at(error, 'detail'), 'a rule')}"
    detail = object_at(error, "detail")
    host = f"of {text_at(detail, 'hostname')} in {text_at(detail, 'rollout_id')}"
    if kind == "SeqRegression":
        return f"seq {number_at(detail, 'got')} after {number_at(detail, 'last')} {host}"
    return f"{kind}: {fact_name(text_at(detail, 'event'))} from {text_at(detail, 'from')} {host}"


def _our_reason(error: TransitionError) -> str:
    if isinstance(error, InvariantViolation):
        return f"rule {error.rule}"
    host = f"of {error.state.hostname} in {error.state.rollout_id}"
    if isinstance(error, SeqRegression):
        return f"seq {error.got} after {error.last} {host}"
    return f"{type(error).__name__}: {type(error.fact).__name__} from {error.state.state} {host}"


def _answer(
    step: HostStep, record: HostRolloutState, recorded: HostVectorStep, policy: RolloutPolicy
) -> tuple[HostRolloutState, Answer]:
    try:
        after, effects = step(record, recorded.event, recorded.now, policy)
    except TransitionError as error:
        return record, RefusedInput(_our_reason(error))
    return after, _accepted(after, effects)


def _accepted(after: HostRolloutState, effects: Sequence[HostEffect]) -> Accepted:
    """Metrics are each implementation's own, and so is all of a log line but its level."""
    compared = (effect for effect in effects if not isinstance(effect, EmitMetric))
    return Accepted(to_json_object(after), tuple(map(_effect_json, compared)))


def _effect_json(effect: HostEffect) -> JsonObject:
    if isinstance(effect, EmitLog):
        return {"type": "EmitLog", "level": effect.level}
    return to_json_object(effect)


def _without_logs(answer: Answer) -> Answer:
    if isinstance(answer, RefusedInput):
        return answer
    effects = tuple(effect for effect in answer.effects if effect["type"] != "EmitLog")
    return evolve(answer, effects=effects)


def _converges_late(record: HostRolloutState, event: Event) -> bool:
    """Whether `event` converges after `soak_due_at`, and before a window as long has passed since a late activation.

    No recorded row marks these: the recorder counts the soak from the queue alone. Where it refuses for a rule that is
    looked at later, the record stays as it is on both sides, and the history goes on.
    """
    fact, due = event.fact, record.soak_due_at
    dispatched_at, completed_at = record.dispatched_at, record.activation_completed_at
    if not isinstance(fact, Converged) or record.state is not HostState.SOAKING:
        return False
    if due is None or dispatched_at is None or completed_at is None:
        return False
    if fact.seq <= record.last_event_seq or fact.current_closure != record.target_closure:
        return False
    return due <= fact.converged_at < completed_at + (due - dispatched_at)


def _by_design(
    divergence: HostDivergence, record: HostRolloutState, event: Event, policy: RolloutPolicy
) -> Answer:
    match divergence:
        case HostDivergence.DECLARED_PROBE_NEVER_REPORTED:
            return RefusedInput(f"rule {ConvergenceRule.DECLARED_PROBES_REPORTED}")
        case HostDivergence.ACTIVATED_LATE:
            return RefusedInput(f"rule {ConvergenceRule.SOAK_ELAPSED}")
        case HostDivergence.ROLLBACK_FAILED:
            return _rollback_failed(record, event)
        case HostDivergence.DEFERRED_ACTIVATION_FAILED:
            return _deferred_activation_failed(record, event, policy.on_health_failure)
        case _:
            assert_never(divergence)


def _rollback_failed(record: HostRolloutState, event: Event) -> Accepted:
    fact = event.fact
    assert isinstance(fact, RollbackComplete), f"rule b is not about {fact}"
    after = evolve(record, current_closure=fact.reverted_to_closure, last_event_seq=fact.seq)
    return _accepted(after, (_passed_on(record, event), EmitLog(LogLevel.ERROR, "", "", ())))


def _deferred_activation_failed(
    record: HostRolloutState, event: Event, on_failure: OnHealthFailure
) -> Accepted:
    fact = event.fact
    assert isinstance(fact, ActivationFailed), f"rule c is not about {fact}"
    after = evolve(
        record,
        state=HostState.FAILED,
        activation_failed_at=fact.failed_at,
        failed_at=fact.failed_at,
        policy_applied=on_failure,
        last_event_seq=fact.seq,
    )
    moved = RecordTransition(
        record.hostname, record.rollout_id, HostState.DEFERRED, HostState.FAILED, fact.failed_at
    )
    effects: tuple[HostEffect, ...] = (_passed_on(record, event), moved)
    prior = record.current_closure_at_dispatch
    rolls_back = isinstance(event, Local) and on_failure is OnHealthFailure.ROLLBACK_AND_HALT
    if rolls_back and prior is not None:
        effects = (*effects, LocalFireRollbackTo(record.rollout_id, prior))
    return _accepted(after, effects)


def _passed_on(record: HostRolloutState, event: Event) -> HostEffect:
    match event:
        case Local():
            return LocalEmitEvent(record.rollout_id, event.fact, durable=True)
        case Remote():
            return RemoteAppendEventLog(record.hostname, record.rollout_id, event.fact)
        case _:
            assert_never(event)
