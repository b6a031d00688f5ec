"""What a sender makes of journal rows and of answers. No I/O; the worker that sends and the simulation ask here.

Source: docs/spec/wire.md, POST /v1/agent/events; docs/spec/runtimes.md, Journal.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from attrs import frozen

from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.messages.inputs import (
    EventRejected,
    EventsAcknowledged,
    Input,
    ReplayAsked,
    RolloutDisowned,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import (
    EventRefusal,
    EventRefused,
    EventsOutcome,
    ReplayFrom,
    RolloutUnknown,
)


@frozen
class Sent:
    """What follows from an answer: what to tell the engine, and whether anything came of it."""

    inputs: tuple[Input, ...]
    moved: bool


def rows_by_rollout(rows: Iterable[JournalRow]) -> tuple[tuple[JournalRow, ...], ...]:
    """Return `rows`, in order, apart by rollout: one that is stuck must not hold up the others."""
    by_rollout: dict[str, list[JournalRow]] = {}
    for row in rows:
        by_rollout.setdefault(row.rollout_id, []).append(row)
    return tuple(map(tuple, by_rollout.values()))


def envelopes_of(hostname: str, rows: Iterable[JournalRow]) -> tuple[AgentEventEnvelope, ...]:
    """Return what to send for `rows`."""
    return tuple(AgentEventEnvelope(hostname, row.rollout_id, row.fact) for row in rows)


class Sending:
    """What a sender remembers from one look into the journal to the next."""

    def __init__(self) -> None:
        # Rollouts that are unknown there: theirs wait while others have something to say.
        self._disowned: set[RolloutId] = set()
        self._disowned_before = 0
        self._asked_before: ReplayFrom | None = None

    def look(self) -> frozenset[RolloutId]:
        """Return the rollouts to leave out of this look into the journal."""
        self._disowned_before = len(self._disowned)
        return frozenset(self._disowned)

    @property
    def has_left_out(self) -> bool:
        """Whether rows were left out, that must be sent some time."""
        return bool(self._disowned)

    def must_wait(self) -> bool:
        """Return whether to wait before the next look, after one of which nothing came.

        Nobody else has anything to say, or nobody answers: then the next look is at all of them.
        """
        if len(self._disowned) > self._disowned_before:
            return False
        self._disowned.clear()
        return True

    def after_answer(self, rows: Sequence[JournalRow], outcome: EventsOutcome) -> Sent:
        """Return what follows from the answer to the rows of one rollout."""
        accepted = tuple(row.row_id for row in rows[: outcome.accepted])
        acknowledged: tuple[Input, ...] = (EventsAcknowledged(accepted),) if accepted else ()
        if outcome.stopped_by is None:
            return Sent(acknowledged, moved=True)
        stopped = self._stopped(rows[outcome.accepted], outcome.stopped_by)
        return Sent((*acknowledged, *stopped.inputs), moved=stopped.moved or bool(accepted))

    def _stopped(self, row: JournalRow, refusal: EventRefusal) -> Sent:
        match refusal:
            case EventRefused():
                return Sent((EventRejected(row.row_id, refusal),), moved=True)
            case ReplayFrom():
                # Asked for the same again, what was sent did not help: not in a hurry any more.
                is_new = refusal != self._asked_before
                self._asked_before = refusal
                return Sent((ReplayAsked(refusal),), moved=is_new)
            case RolloutUnknown():
                # Its manifests may be on their way: keep the rows, and ask again.
                self._disowned.add(row.rollout_id)
                return Sent((RolloutDisowned(row.rollout_id),), moved=False)
            case _:
                assert_never(refusal)
