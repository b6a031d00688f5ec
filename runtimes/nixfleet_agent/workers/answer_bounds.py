"""Bounds of what answers of the control plane hold, by what was asked. Pure.

A control plane that was taken over answers anything that decodes. An answer that no honest one gives is treated as no
answer: it is logged, nothing of it is used, and the request is repeated after a wait. Whether a dispatch or a record is
obeyed is decided by the engine, from the signed manifest.
Source: docs/spec/trust.md, What a control plane that was taken over can do.
"""

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from nixfleet_proto.codec.limits import LENGTHS_MAX, TEXT_LENGTH_MAX, is_within_limits
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefusal,
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
    TransportFailed,
)
from nixfleet_state_machine.host.state import HostRolloutState

OUT_OF_BOUNDS: Final = "answer-out-of-bounds"
"""The kind of a `TransportFailed` for an answer that was not used."""
WARRANTS_MAX: Final = 16
"""How many warrants an answer may have: nearly always there is none."""
RECORDS_MAX: Final = 16
"""How many records a heartbeat may bring. A host is in one rollout of its channel that was not superseded, and in one
more for each channel that it has left since."""


def require_bounded_outcome(
    outcome: EventsOutcome, rollout_id: RolloutId, seqs: Sequence[int]
) -> None:
    """Check the answer to the facts `seqs` of `rollout_id`, which are not empty and rise. Raises: TransportFailed."""
    stopped = outcome.stopped_by
    if stopped is None:
        _require(outcome.accepted == len(seqs), f"{len(seqs)} accepted", outcome.accepted)
        return
    last = len(seqs) - 1
    _require(
        0 <= outcome.accepted <= last, f"0 to {last} accepted before a refusal", outcome.accepted
    )
    _require(stopped.rollout_id == rollout_id, f"a refusal in {rollout_id}", stopped.rollout_id)
    _require_seq(stopped, seqs[outcome.accepted :])


def _require_seq(stopped: EventRefusal, rest: Sequence[int]) -> None:
    match stopped:
        case ReplayFrom():
            first = stopped.first_missing_seq
            _require(1 <= first <= rest[0], f"a replay from 1 to {rest[0]}", first)
        case EventRefused() | SeqForked():
            _require(stopped.seq == rest[0], f"a refusal of seq {rest[0]}", stopped.seq)
        case EventEarly():
            _require(stopped.seq in rest, f"a seq from {rest[0]} to {rest[-1]}", stopped.seq)
        case RolloutUnknown() | HostHeld():
            pass
        case _:
            assert_never(stopped)


def require_bounded_reply(reply: HeartbeatReply, heartbeat: Heartbeat) -> None:
    """Check the answer to `heartbeat`. The engine holds its numbers against the journal. Raises: TransportFailed."""
    records, replays = reply.bootstrap_rollouts, reply.replay_from
    _require(len(records) <= RECORDS_MAX, f"at most {RECORDS_MAX} records", len(records))
    in_journal = len(heartbeat.last_seqs)
    _require(len(replays) <= in_journal, f"at most {in_journal} replays", len(replays))
    unknown = set(reply.resting).difference(heartbeat.last_seqs)
    _require(not unknown, "rollouts of the heartbeat at rest", len(unknown))
    for record in records:
        _require(_is_bounded(record), "records with texts and lists as in events", "longer ones")
    warrants = reply.warrants
    _require(len(warrants) <= WARRANTS_MAX, f"at most {WARRANTS_MAX} warrants", len(warrants))
    if reply.release is not None:
        length = len(reply.release.rollout_id)
        length_max = LENGTHS_MAX["rollout_id"]
        _require(length <= length_max, f"a rollout id of {length_max} characters", length)


def require_bounded_dispatch(dispatch: Dispatch) -> None:
    """Check the texts of a dispatch. Raises: TransportFailed."""
    _require(is_within_limits(dispatch), "a dispatch with texts as in events", "longer ones")


def _is_bounded(record: HostRolloutState) -> bool:
    declared = record.declared_probes or ()
    return (
        all(len(name) <= TEXT_LENGTH_MAX for name in record.probes)
        and len(declared) <= LENGTHS_MAX["probes"]
        and all(map(is_within_limits, _parts_of(record)))
    )


def _parts_of(record: HostRolloutState) -> Iterator[object]:
    yield record
    yield from record.probes.values()
    yield from record.declared_probes or ()


def _require(holds: bool, expected: str, found: object) -> None:
    if not holds:
        problem = (
            f"an answer that no control plane gives: expected {expected}, found {str(found)[:80]}"
        )
        raise TransportFailed(problem, kind=OUT_OF_BOUNDS)
