"""Read-only queries on an agent's journal, for operators. The agent may be writing it at the same time."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from attrs import frozen

from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import decode_event, parse_time
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.sqlite import open_reader


def open_journal_for_reading(path: Path) -> sqlite3.Connection:
    """Return a read-only connection to an agent's journal.

    Raises: FileNotFoundError, SchemaRefused, NotOurDatabase.
    """
    return open_reader(path, JOURNAL_FORMAT)


@frozen
class WaitingFacts:
    """The number of unsent facts of a rollout, and the time of the oldest."""

    rollout_id: RolloutId
    count: int
    since: datetime


@frozen
class RefusedFact:
    """A fact that the control plane refused for good, with the reason."""

    rollout_id: RolloutId
    fact: AgentEvent
    emitted_at: datetime
    reason: str


class Delivery(StrEnum):
    """What became of a fact. The values are those of `nixfleet log show --json`."""

    WAITING = "waiting"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


@frozen
class LivedFact:
    """A row of the journal. refused_reason: of the control plane, which refused it for good."""

    row_id: int
    rollout_id: RolloutId
    fact: AgentEvent
    emitted_at: datetime
    is_acknowledged: bool
    refused_reason: str | None

    @property
    def delivery(self) -> Delivery:
        """What became of it."""
        if self.refused_reason is not None:
            return Delivery.REFUSED
        return Delivery.ACKNOWLEDGED if self.is_acknowledged else Delivery.WAITING


def lived_facts(journal: sqlite3.Connection) -> Iterator[LivedFact]:
    """Yield every fact that the journal has, oldest first. Raises: DecodeError."""
    rows = journal.execute(
        "SELECT row_id, rollout_id, fact, emitted_at, is_acknowledged, refused_reason"
        " FROM events ORDER BY row_id"
    )
    for row_id, rollout_id, fact, emitted_at, is_acknowledged, reason in rows:
        yield LivedFact(
            row_id,
            RolloutId(rollout_id),
            decode_event(fact.encode()),
            parse_time(emitted_at),
            bool(is_acknowledged),
            reason,
        )


def waiting_facts(journal: sqlite3.Connection) -> Iterator[WaitingFacts]:
    """Yield the rollouts with unsent facts, the oldest first."""
    rows = journal.execute(
        "SELECT rollout_id, count(*), min(emitted_at) FROM events"
        " WHERE is_acknowledged = 0 AND refused_reason IS NULL"
        " GROUP BY rollout_id ORDER BY min(row_id)"
    )
    for rollout_id, count, since in rows:
        yield WaitingFacts(RolloutId(rollout_id), count, parse_time(since))


def refused_facts(journal: sqlite3.Connection) -> Iterator[RefusedFact]:
    """Yield every fact that was refused, oldest first. Raises: DecodeError."""
    rows = journal.execute(
        "SELECT rollout_id, fact, emitted_at, refused_reason FROM events"
        " WHERE refused_reason IS NOT NULL ORDER BY row_id"
    )
    for rollout_id, fact, emitted_at, reason in rows:
        yield RefusedFact(
            RolloutId(rollout_id), decode_event(fact.encode()), parse_time(emitted_at), reason
        )
