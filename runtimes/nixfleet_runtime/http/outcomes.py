"""Converts the outcome of posted events to a response and back. One module for both sides, so they cannot disagree.

204: all are durable. 409 and 404 carry the number of events accepted before the one that stopped the rest.
Source: docs/spec/wire.md, POST /v1/agent/events.
"""

from collections.abc import Mapping
from typing import assert_never

from attrs import frozen

from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.headers import REPLAY_FROM, RETRY_AFTER
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefused,
    EventsOutcome,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
)

GAP = f"{TYPE_PREFIX}gap"
EVENT_REFUSED = f"{TYPE_PREFIX}event-refused"
SEQ_FORKED = f"{TYPE_PREFIX}seq-forked"
EVENT_EARLY = f"{TYPE_PREFIX}event-early"
HOST_HELD = f"{TYPE_PREFIX}host-held"
ROLLOUT_UNKNOWN = f"{TYPE_PREFIX}rollout-unknown"


@frozen
class StoppedAnswer:
    """The response when not all events were accepted."""

    problem: HttpProblem
    headers: Mapping[str, str]


def answer_of(outcome: EventsOutcome) -> StoppedAnswer | None:
    """Return the response for `outcome`; `None`: 204."""
    stopped = outcome.stopped_by
    members: dict[str, JsonValue] = {"accepted": outcome.accepted}
    match stopped:
        case None:
            return None
        case ReplayFrom():
            members |= {
                "rolloutId": stopped.rollout_id,
                "firstMissingSeq": stopped.first_missing_seq,
            }
            detail = f"expected seq {stopped.first_missing_seq} of {stopped.rollout_id} next"
            problem = HttpProblem(GAP, "Events are missing", 409, detail, members)
            return StoppedAnswer(problem, {REPLAY_FROM: str(stopped.first_missing_seq)})
        case EventRefused():
            members |= {"rolloutId": stopped.rollout_id, "seq": stopped.seq}
            title = "The event is refused"
            problem = HttpProblem(EVENT_REFUSED, title, 409, stopped.reason, members)
            return StoppedAnswer(problem, {})
        case RolloutUnknown():
            members |= {"rolloutId": stopped.rollout_id}
            detail = f"no record of this host in rollout {str(stopped.rollout_id)!r}"
            problem = HttpProblem(ROLLOUT_UNKNOWN, "The rollout is unknown", 404, detail, members)
            return StoppedAnswer(problem, {})
        case SeqForked():
            members |= {"rolloutId": stopped.rollout_id, "seq": stopped.seq}
            title = "Another event has this number"
            return StoppedAnswer(HttpProblem(SEQ_FORKED, title, 409, str(stopped), members), {})
        case EventEarly():
            seconds = stopped.retry_after_seconds
            members |= {
                "rolloutId": stopped.rollout_id,
                "seq": stopped.seq,
                "retryAfterSeconds": seconds,
            }
            problem = HttpProblem(
                EVENT_EARLY, "The event cannot be true yet", 409, stopped.reason, members
            )
            return StoppedAnswer(problem, {RETRY_AFTER: str(seconds)})
        case HostHeld():
            members |= {"rolloutId": stopped.rollout_id}
            problem = HttpProblem(HOST_HELD, "The host is held", 409, stopped.reason, members)
            return StoppedAnswer(problem, {})
        case _:
            assert_never(stopped)


def outcome_of(problem: HttpProblem) -> EventsOutcome | None:
    """Return the outcome that a response's problem stands for; `None` if it is another kind of problem."""
    members = problem.extensions
    accepted, rollout_id = members.get("accepted"), members.get("rolloutId")
    if not isinstance(accepted, int) or not isinstance(rollout_id, str):
        return None
    match problem.type:
        case t if t == ROLLOUT_UNKNOWN:
            return EventsOutcome(accepted, RolloutUnknown(rollout_id))
        case t if t == GAP and isinstance(first := members.get("firstMissingSeq"), int):
            return EventsOutcome(accepted, ReplayFrom(rollout_id, first))
        case t if t == EVENT_REFUSED and isinstance(seq := members.get("seq"), int):
            return EventsOutcome(accepted, EventRefused(rollout_id, seq, problem.detail))
        case t if t == SEQ_FORKED and isinstance(seq := members.get("seq"), int):
            return EventsOutcome(accepted, SeqForked(rollout_id, seq))
        case t if t == EVENT_EARLY and isinstance(seq := members.get("seq"), int):
            seconds = members.get("retryAfterSeconds")
            wait_seconds = seconds if isinstance(seconds, int) else 1
            early = EventEarly(rollout_id, seq, problem.detail, wait_seconds)
            return EventsOutcome(accepted, early)
        case t if t == HOST_HELD:
            return EventsOutcome(accepted, HostHeld(rollout_id, problem.detail))
        case _:
            return None
