"""Read-only queries on an agent's journal, for operators. The agent may be writing it at the same time."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime
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
