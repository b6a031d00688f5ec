"""What became of posted events, as an answer and back: one place, so that the two sides cannot disagree.

204: all are durable. 409 and 404 carry how many were taken before the one that stopped the rest.
Source: docs/spec/wire.md, POST /v1/agent/events.
"""

from collections.abc import Mapping
from typing import assert_never

from attrs import frozen

from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.headers import REPLAY_FROM
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    ReplayFrom,
    RolloutUnknown,
)

GAP = f"{TYPE_PREFIX}gap"
EVENT_REFUSED = f"{TYPE_PREFIX}event-refused"
ROLLOUT_UNKNOWN = f"{TYPE_PREFIX}rollout-unknown"


@frozen
class StoppedAnswer:
    """The answer to events of which not all were taken."""

    problem: HttpProblem
    headers: Mapping[str, str]


def answer_of(outcome: EventsOutcome) -> StoppedAnswer | None:
    """Return the answer that says `outcome`; `None`: 204."""
    stopped = outcome.stopped_by
    taken: dict[str, JsonValue] = {"accepted": outcome.accepted}
    match stopped:
        case None:
            return None
        case ReplayFrom():
            taken |= {"rolloutId": stopped.rollout_id, "firstMissingSeq": stopped.first_missing_seq}
            detail = f"expected seq {stopped.first_missing_seq} of {stopped.rollout_id} next"
            problem = HttpProblem(GAP, "Events are missing", 409, detail, taken)
            return StoppedAnswer(problem, {REPLAY_FROM: str(stopped.first_missing_seq)})
        case EventRefused():
            taken |= {"rolloutId": stopped.rollout_id, "seq": stopped.seq}
            problem = HttpProblem(EVENT_REFUSED, "The event is refused", 409, stopped.reason, taken)
            return StoppedAnswer(problem, {})
        case RolloutUnknown():
            taken |= {"rolloutId": stopped.rollout_id}
            detail = f"this host is in no rollout {stopped.rollout_id!r} that is known here"
            problem = HttpProblem(ROLLOUT_UNKNOWN, "The rollout is unknown", 404, detail, taken)
            return StoppedAnswer(problem, {})
        case _:
            assert_never(stopped)


def outcome_of(problem: HttpProblem) -> EventsOutcome | None:
    """Return the outcome that an answer's problem says; `None`: it is about something else."""
    said = problem.extensions
    accepted, rollout_id = said.get("accepted"), said.get("rolloutId")
    if not isinstance(accepted, int) or not isinstance(rollout_id, str):
        return None
    match problem.type:
        case t if t == ROLLOUT_UNKNOWN:
            return EventsOutcome(accepted, RolloutUnknown(rollout_id))
        case t if t == GAP and isinstance(first := said.get("firstMissingSeq"), int):
            return EventsOutcome(accepted, ReplayFrom(rollout_id, first))
        case t if t == EVENT_REFUSED and isinstance(seq := said.get("seq"), int):
            return EventsOutcome(accepted, EventRefused(rollout_id, seq, problem.detail))
        case _:
            return None
