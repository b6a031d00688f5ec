"""The rollout machine against recorded histories and matrix.

A history ends where a row says that we diverge (ours must be exactly what docs/spec/rollout-machine.md, Transitions
says), and at an event about
another rollout: ours must refuse it. A recorder that refused it too goes on, like any other refusal.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias, assert_never

from attrs import evolve, frozen

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout import reducer
from nixfleet_state_machine.rollout.effect import (
    RecordRolloutTransition,
    RolloutEffect,
    SchedulePruning,
)
from nixfleet_state_machine.rollout.errors import RolloutTransitionError, WrongRollout
from nixfleet_state_machine.rollout.event import (
    HostStateChanged,
    OperatorClearance,
    RolloutEvent,
    subject_of,
)
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.conformance.answer import (
    Accepted,
    Answer,
    JsonObject,
    RefusedInput,
    Run,
    answer_mismatches,
)
from nixfleet_testing.conformance.reference_json import (
    as_rollout_record,
    id_at,
    number_at,
    object_at,
    objects_at,
    read_at,
    read_each_at,
    read_rollout_event,
    read_rollout_record,
    text_at,
    time_at,
    to_json_object,
)

RolloutStep: TypeAlias = Callable[
    [RolloutRecord, RolloutEvent, datetime], tuple[RolloutRecord, Sequence[RolloutEffect]]
]


class RolloutDivergence(StrEnum):
    """Where we decide otherwise than the recorder, by its names."""

    CLEARANCE = "clearance"
    LATE_REVERT = "late-revert"
    FOREIGN = "foreign"


@frozen
class RolloutVectorStep:
    """One event of a history and what was answered; `divergence` when ours must be another answer."""

    event: RolloutEvent
    now: datetime
    answer: Answer
    divergence: RolloutDivergence | None


@frozen
class RolloutVector:
    """A recorded history of one rollout."""

    id: str
    initial: RolloutRecord
    steps: tuple[RolloutVectorStep, ...]


def check_rollout(vector: RolloutVector, step: RolloutStep = reducer.step_rollout) -> Run:
    """Run `vector` against `step`, up to its end, its divergence or the first mismatch."""
    record = vector.initial
    for count, recorded in enumerate(vector.steps, start=1):
        after, found = _answer(step, record, recorded)
        if recorded.divergence is None:
            comparable = found if _knows_retention(recorded.answer) else _without_pruning(found)
            mismatches = tuple(answer_mismatches(recorded.answer, comparable))
        else:
            designed = _by_design(recorded.divergence, record, recorded.event)
            mismatches = tuple(answer_mismatches(designed, found))
        if mismatches or recorded.divergence is not None:
            return Run.of(vector.id, count, recorded.divergence, mismatches)
        record = after
    return Run.of(vector.id, len(vector.steps), None, ())


def read_rollout_vector(row: JsonObject) -> RolloutVector:
    """Return the history in `row`, of `rollout_vectors` or `rollout_matrix`.

    Raises: ValueError.
    """
    initial = read_at(row, "initial", read_rollout_record)
    marks = {} if row.get("diverges") is None else read_at(row, "diverges", _divergence)
    return RolloutVector(
        id=id_at(row),
        initial=initial,
        steps=read_each_at(
            row, "steps", lambda place, step: _read_step(step, initial, marks.get(place))
        ),
    )


def _divergence(json: JsonObject) -> dict[int, RolloutDivergence]:
    return {number_at(json, "step"): RolloutDivergence(text_at(json, "rule"))}


def _read_step(
    json: JsonObject, initial: RolloutRecord, divergence: RolloutDivergence | None
) -> RolloutVectorStep:
    event = read_at(json, "event", read_rollout_event)
    answer = read_at(json, "result", _read_answer)
    foreign = subject_of(event) != initial.rollout_id and not _is_refused_as_foreign(answer)
    return RolloutVectorStep(
        event=event,
        now=time_at(json, "now"),
        answer=answer,
        divergence=RolloutDivergence.FOREIGN if foreign else divergence,
    )


def _is_refused_as_foreign(answer: Answer) -> bool:
    return isinstance(answer, RefusedInput) and answer.reason.startswith(
        f"{WrongRollout.__name__}:"
    )


def _read_answer(result: JsonObject) -> Answer:
    if "err" in result:
        return RefusedInput(read_at(result, "err", _recorded_reason))
    accepted = object_at(result, "ok")
    state = as_rollout_record(object_at(accepted, "state"))
    return Accepted(state, objects_at(accepted, "effects"))


def _recorded_reason(error: JsonObject) -> str:
    kind = text_at(error, "kind")
    # The state alone makes an event illegal; a host's refusal and a rollout's are one kind there.
    name = "IllegalForRolloutState" if kind == "IllegalForState" else kind
    detail = object_at(error, "detail")
    return f"{name}: {text_at(detail, 'event')} from {text_at(detail, 'from')}"


def _our_reason(error: RolloutTransitionError) -> str:
    return f"{type(error).__name__}: {type(error.event).__name__} from {error.record.state}"


def _answer(
    step: RolloutStep, record: RolloutRecord, recorded: RolloutVectorStep
) -> tuple[RolloutRecord, Answer]:
    try:
        after, effects = step(record, recorded.event, recorded.now)
    except RolloutTransitionError as error:
        return record, RefusedInput(_our_reason(error))
    return after, _accepted(after, *effects)


def _accepted(after: RolloutRecord, *effects: RolloutEffect) -> Accepted:
    return Accepted(to_json_object(after), tuple(map(to_json_object, effects)))


def _knows_retention(answer: Answer) -> bool:
    """A recorder that has no retention in its records orders no pruning either."""
    return isinstance(answer, Accepted) and "retention" in answer.state


def _without_pruning(answer: Answer) -> Answer:
    if isinstance(answer, RefusedInput):
        return answer
    effects = tuple(effect for effect in answer.effects if effect["type"] != "SchedulePruning")
    return evolve(answer, effects=effects)


def _by_design(divergence: RolloutDivergence, record: RolloutRecord, event: RolloutEvent) -> Answer:
    match divergence:
        case RolloutDivergence.CLEARANCE:
            return _cleared(record, event)
        case RolloutDivergence.LATE_REVERT:
            return _reverted(record, event)
        case RolloutDivergence.FOREIGN:
            return RefusedInput(_our_reason(WrongRollout(record, event)))
        case _:
            assert_never(divergence)


def _cleared(record: RolloutRecord, event: RolloutEvent) -> Accepted:
    assert isinstance(event, OperatorClearance), f"clearance is not about {event}"
    excused = record.with_standings(event.excused_hosts, Standing.EXCUSED)
    after = evolve(excused, state=RolloutState.ACTIVE)
    moved = RecordRolloutTransition(record.rollout_id, record.state, RolloutState.ACTIVE, event.at)
    return _accepted(after, moved)


def _reverted(record: RolloutRecord, event: RolloutEvent) -> Accepted:
    assert isinstance(event, HostStateChanged), f"late-revert is not about {event}"
    assert event.to is HostState.REVERTED, f"late-revert is not about {event}"
    after = evolve(record, state=RolloutState.REVERTED)
    moved = RecordRolloutTransition(
        record.rollout_id, RolloutState.FAILED, RolloutState.REVERTED, event.at
    )
    delay_seconds = int(record.retention.total_seconds())
    return _accepted(after, moved, SchedulePruning(record.rollout_id, delay_seconds))
