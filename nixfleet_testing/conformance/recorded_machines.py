"""Our machines' own answers as rows: a matrix of single steps, whole histories, and what restoring asks for.

What is each implementation's own is left out: metrics, logs, and the text of a refusal.
"""

from collections.abc import Iterable, Iterator

from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.json_value import JsonValue
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.errors import (
    IllegalForState,
    InvariantViolation,
    SeqRegression,
    TransitionError,
)
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.reducer import rehydration_effects, step
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.errors import IllegalForRolloutState, RolloutTransitionError
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.host import BROKEN_RULES
from nixfleet_testing.conformance.reference_json import to_json, to_json_object
from nixfleet_testing.samples import (
    NOW,
    event_histories,
    fact_histories,
    facts,
    hosts,
    next_of,
    pending,
    rollout_events,
    rollouts,
)

_SIDES = (Local, Remote)
_RULE_TEXTS = {rule: text for text, rule in BROKEN_RULES.items()}


def host_matrix() -> Iterator[JsonObject]:
    """Yield every host × fact × side × policy, the fact as the next one and as one that comes too late."""
    for title, record in hosts().items():
        for label, fact in facts().items():
            for is_late in (False, True):
                said = fact if is_late else next_of(record, fact)
                for event in (side(said) for side in _SIDES):
                    for on_failure in OnHealthFailure:
                        yield {
                            "case": f"{title}: {label}{', too late' if is_late else ''}",
                            "event_type": _event_type(event),
                            "state": str(record.state),
                            **_host_history(record, (event,), on_failure),
                        }


def host_histories() -> Iterator[JsonObject]:
    """Yield every history of a host, on each side and under each policy."""
    for title, life in fact_histories().items():
        for side in _SIDES:
            for on_failure in OnHealthFailure:
                numbered = (side(evolve(fact, seq=seq)) for seq, fact in enumerate(life, 1))
                yield {
                    "case": title,
                    "side": side.__name__.lower(),
                    **_host_history(pending(), numbered, on_failure),
                }


def rollout_matrix() -> Iterator[JsonObject]:
    """Yield every rollout × event."""
    for title, record in rollouts().items():
        for label, event in rollout_events().items():
            yield {
                "case": f"{title}: {label}",
                "event_type": type(event).__name__,
                "state": str(record.state),
                **_rollout_history(record, (event,)),
            }


def rollout_histories() -> Iterator[JsonObject]:
    """Yield every history of a rollout."""
    for title, life in event_histories().items():
        yield {"case": title, **_rollout_history(rollouts()["opening"], life)}


def rehydrations() -> Iterator[JsonObject]:
    """Yield every host as it is restored."""
    for title, record in hosts().items():
        yield {
            "case": title,
            "state": str(record.state),
            "initial": to_json_object(record),
            "effects": [to_json_object(effect) for effect in rehydration_effects(record)],
        }


def _host_history(
    record: HostRolloutState, events: Iterable[Event], on_failure: OnHealthFailure
) -> JsonObject:
    policy = RolloutPolicy(on_health_failure=on_failure)
    initial, steps = record, list[JsonValue]()
    for event in events:
        record, result = _host_result(record, event, policy)
        event_json = {**to_json_object(event.fact), "type": _event_type(event)}
        steps.append({"event": event_json, "now": to_json(NOW), "result": result})
    return {
        "initial": to_json_object(initial),
        "policy": {"on_health_failure": str(on_failure)},
        "steps": steps,
        "diverges": None,
    }


def _host_result(
    record: HostRolloutState, event: Event, policy: RolloutPolicy
) -> tuple[HostRolloutState, JsonObject]:
    try:
        after, effects = step(record, event, NOW, policy)
    except TransitionError as error:
        return record, {"err": _refusal(error, event)}
    effects_json = [
        to_json_object(each) for each in effects if not isinstance(each, EmitMetric | EmitLog)
    ]
    return after, {"ok": {"state": to_json_object(after), "effects": [*effects_json]}}


def _refusal(error: TransitionError, event: Event) -> JsonObject:
    if isinstance(error, InvariantViolation):
        return {"kind": "Invariant", "detail": _RULE_TEXTS[error.rule]}
    whose = {"hostname": error.state.hostname, "rollout_id": str(error.state.rollout_id)}
    if isinstance(error, SeqRegression):
        return {"kind": "SeqRegression", "detail": {**whose, "got": error.got, "last": error.last}}
    detail = {**whose, "event": _event_type(event), "from": str(error.state.state)}
    return {"kind": type(error).__name__, "detail": detail}


def _rollout_history(record: RolloutRecord, events: Iterable[RolloutEvent]) -> JsonObject:
    initial, steps = record, list[JsonValue]()
    for event in events:
        record, result = _rollout_result(record, event)
        event_json = {"type": type(event).__name__, **to_json_object(event)}
        steps.append({"event": event_json, "now": to_json(NOW), "result": result})
    return {"initial": to_json_object(initial), "steps": steps, "diverges": None}


def _rollout_result(record: RolloutRecord, event: RolloutEvent) -> tuple[RolloutRecord, JsonObject]:
    try:
        after, effects = step_rollout(record, event, NOW)
    except RolloutTransitionError as error:
        detail = {
            "event": type(event).__name__,
            "from": str(record.state),
            "rollout_id": str(record.rollout_id),
        }
        # As in a host's history: whose refusal it is, the row says.
        is_illegal = isinstance(error, IllegalForRolloutState)
        kind = IllegalForState.__name__ if is_illegal else type(error).__name__
        return record, {"err": {"kind": kind, "detail": detail}}
    effects_json = [to_json_object(effect) for effect in effects]
    return after, {"ok": {"state": to_json_object(after), "effects": [*effects_json]}}


def _event_type(event: Event) -> str:
    return f"{type(event).__name__}{type(event.fact).__name__}"
