"""The agent's journal: every fact before it is sent, every intent before it begins. Protocol, and SQLite.

Synchronous, like every store here: the mutator calls `commit` in one worker thread, one call per batch.
`unsent` may be called at the same time: it uses its own connection and sees committed rows only.
Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Intents.
"""

import sqlite3
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Protocol, TypeAlias, assert_never

from attrs import frozen

from nixfleet_agent.engine.downgrade import ObeyedRelease, RolledBackClosure
from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import (
    AppendEvent,
    MarkAcknowledged,
    MarkRefused,
    MarkUnsent,
    PutIntent,
    PutNewestRelease,
    PutOrder,
    PutRecord,
    PutRolledBack,
    RemoveIntent,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import (
    decode_event,
    encode_event,
    format_time,
    parse_time,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.record_codec import (
    decode_host_record,
    decode_policy,
    encode_host_record,
    encode_policy,
)
from nixfleet_runtime.storage.sqlite import open_reader, open_writer, transaction

# With what an author of a journal needs to import, in one place: docs/reference/stability.md promises these.
__all__ = [
    "AppendEvent",
    "Intent",
    "IntentKind",
    "Journal",
    "JournalRow",
    "JournalSnapshot",
    "LocalRollout",
    "MarkAcknowledged",
    "MarkRefused",
    "MarkUnsent",
    "ObeyedRelease",
    "PutIntent",
    "PutNewestRelease",
    "PutOrder",
    "PutRecord",
    "PutRolledBack",
    "RemoveIntent",
    "RemoveRollout",
    "RolledBackClosure",
    "SetRolloutAside",
    "SqliteJournal",
    "Write",
    "snapshot_of",
]

APPLICATION_ID = 0x6E666167  # "nfag"
SCHEMA_VERSION = 6
_FILES = files("nixfleet_agent.journal")
SCHEMA = _FILES.joinpath("schema.sql").read_text()
MIGRATIONS = {
    older: _FILES.joinpath(f"schema_{older + 1}.sql").read_text()
    for older in range(1, SCHEMA_VERSION)
}
"""By the version that they start from."""


@frozen
class JournalRow:
    """A fact in the journal.

    row_id: of this row alone, for ever: the answer to a batch may come after its rollout was removed, and must not mark
    a later fact as sent. Marks for a row that is gone change nothing.
    """

    row_id: int
    rollout_id: RolloutId
    fact: AgentEvent


@frozen
class JournalSnapshot:
    """The contents of a journal that a start reads."""

    rollouts: tuple[LocalRollout, ...]
    intents: tuple[Intent, ...]
    last_intent_id: int
    newest_release: ObeyedRelease | None = None
    rolled_back: tuple[RolledBackClosure, ...] = ()
    orders: FrozenMap[str, RolloutId] = FrozenMap()


class Journal(Protocol):
    """Makes an agent's commits durable."""

    def load(self) -> JournalSnapshot:
        """Return the committed contents."""
        ...

    def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, in order and atomically. When it raises, nothing has changed.

        An error must be raised, never swallowed: the agent switches, and lets the control plane forget, by what it
        believes to be durable.
        """
        ...

    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """Return the oldest rows neither acknowledged nor refused, up to `limit`, except those of `excluding`."""
        ...

    def last_seqs(self) -> FrozenMap[str, int]:
        """Return the seq of the last fact of each rollout, committed or bootstrapped."""
        ...

    def close(self) -> None:
        """Release the resources. Nothing is written."""
        ...


_Value: TypeAlias = str | int | None
_Statement: TypeAlias = tuple[str, tuple[_Value, ...]]


class SqliteJournal:
    """A journal in one SQLite file, created if missing. Raises: SchemaRefused, NotOurDatabase."""

    def __init__(self, path: Path) -> None:
        self._writer = open_writer(
            path,
            application_id=APPLICATION_ID,
            schema=SCHEMA,
            version=SCHEMA_VERSION,
            migrations=MIGRATIONS,
        )
        self._reader = open_reader(path, application_id=APPLICATION_ID, version=SCHEMA_VERSION)

    def load(self) -> JournalSnapshot:
        """Return the committed contents. Raises: DecodeError."""
        return snapshot_of(self._writer)

    def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, atomically. Raises: sqlite3.Error, and nothing has changed."""
        with transaction(self._writer):
            for write in writes:
                for statement in _statements(write):
                    self._writer.execute(*statement)

    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """Return the oldest rows neither acknowledged nor refused, up to `limit`, except those of `excluding`."""
        rows = self._reader.execute(
            "SELECT row_id, rollout_id, fact FROM events"
            " WHERE is_acknowledged = 0 AND refused_reason IS NULL"
            f" AND rollout_id NOT IN ({','.join('?' * len(excluding))})"
            " ORDER BY row_id LIMIT ?",
            (*excluding, limit),
        )
        return tuple(
            JournalRow(row_id, RolloutId(rollout_id), decode_event(fact.encode()))
            for row_id, rollout_id, fact in rows
        )

    def last_seqs(self) -> FrozenMap[str, int]:
        """Return the seq of the last fact of each rollout, committed or bootstrapped."""
        rows = self._reader.execute(
            "SELECT rollout_id, ifnull(json_extract(record, '$.last_event_seq'), 0) FROM rollouts"
        )
        return FrozenMap(rows.fetchall())

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()


def snapshot_of(connection: sqlite3.Connection) -> JournalSnapshot:
    """Return the contents of the journal behind `connection`. Raises: DecodeError."""
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'intents'")
    return JournalSnapshot(
        rollouts=tuple(
            LocalRollout(
                decode_host_record(record.encode()),
                decode_policy(policy.encode()),
                None if closed_at is None else parse_time(closed_at),
                taken_over_seq,
                None if home_at is None else parse_time(home_at),
            )
            for record, policy, closed_at, taken_over_seq, home_at in connection.execute(
                "SELECT record, policy, closed_at, taken_over_seq, home_at"
                " FROM rollouts ORDER BY rollout_id"
            )
        ),
        intents=tuple(
            Intent(intent_id, IntentKind(kind), RolloutId(rollout_id), closure, attempts)
            for intent_id, kind, rollout_id, closure, attempts in connection.execute(
                "SELECT intent_id, kind, rollout_id, closure, attempts"
                " FROM intents ORDER BY intent_id"
            )
        ),
        last_intent_id=next((seq for (seq,) in last), 0),
        newest_release=next(
            (
                ObeyedRelease(RolloutId(rollout_id), parse_time(signed_at))
                for rollout_id, signed_at in connection.execute(
                    "SELECT rollout_id, signed_at FROM newest_release"
                )
            ),
            None,
        ),
        orders=FrozenMap(
            {
                order_id: RolloutId(rollout_id)
                for order_id, rollout_id in connection.execute(
                    "SELECT order_id, rollout_id FROM obeyed_orders ORDER BY order_id"
                )
            }
        ),
        rolled_back=tuple(
            RolledBackClosure(closure, ObeyedRelease(RolloutId(rollout_id), parse_time(signed_at)))
            for closure, rollout_id, signed_at in connection.execute(
                "SELECT closure, rollout_id, signed_at FROM rolled_back_closures ORDER BY closure"
            )
        ),
    )


def _statements(write: Write) -> tuple[_Statement, ...]:
    match write:
        case AppendEvent():
            return (_append(write),)
        case PutRecord():
            return (_put_record(write),)
        case PutIntent():
            return (_put_intent(write.intent),)
        case RemoveIntent():
            return (("DELETE FROM intents WHERE intent_id = ?", (write.intent_id,)),)
        case MarkAcknowledged():
            mark = "UPDATE events SET is_acknowledged = 1 WHERE row_id = ?"
            return tuple((mark, (row_id,)) for row_id in write.row_ids)
        case MarkRefused():
            mark = "UPDATE events SET refused_reason = ? WHERE row_id = ?"
            return ((mark, (write.reason, write.row_id)),)
        case MarkUnsent():
            mark = (
                "UPDATE events SET is_acknowledged = 0, refused_reason = NULL"
                " WHERE rollout_id = ? AND seq >= ?"
            )
            return ((mark, (write.rollout_id, write.from_seq)),)
        case PutNewestRelease():
            release = write.release
            put = "INSERT OR REPLACE INTO newest_release VALUES (1,?,?)"
            return ((put, (release.rollout_id, format_time(release.signed_at))),)
        case PutRolledBack():
            left = write.left
            put = "INSERT OR REPLACE INTO rolled_back_closures VALUES (?,?,?)"
            of = left.release
            return ((put, (left.closure, of.rollout_id, format_time(of.signed_at))),)
        case PutOrder():
            put = "INSERT INTO obeyed_orders VALUES (?,?,?)"
            return ((put, (write.order_id, write.rollout_id, format_time(write.obeyed_at))),)
        case SetRolloutAside():
            return _set_aside(write)
        case RemoveRollout():
            return tuple(
                (f"DELETE FROM {table} WHERE rollout_id = ?", (write.rollout_id,))
                for table in ("events", "rollouts")
            )
        case _:
            assert_never(write)


def _set_aside(write: SetRolloutAside) -> tuple[_Statement, ...]:
    at = format_time(write.at)
    rename = (
        "UPDATE events SET rollout_id = rollout_id || ?, refused_reason = ifnull(refused_reason, ?)"
        " WHERE rollout_id = ?"
    )
    reason = "its beginning is lost on both sides"
    return (
        (rename, (f" set aside {at}", reason, write.rollout_id)),
        ("DELETE FROM rollouts WHERE rollout_id = ?", (write.rollout_id,)),
    )


def _append(write: AppendEvent) -> _Statement:
    return "INSERT INTO events (rollout_id, seq, fact, emitted_at) VALUES (?,?,?,?)", (
        write.rollout_id,
        write.fact.seq,
        encode_event(write.fact).decode(),
        format_time(write.emitted_at),
    )


def _put_intent(intent: Intent) -> _Statement:
    return "INSERT OR REPLACE INTO intents VALUES (?,?,?,?,?)", (
        intent.intent_id,
        intent.kind.value,
        intent.rollout_id,
        intent.closure,
        intent.attempts,
    )


def _put_record(write: PutRecord) -> _Statement:
    return "INSERT OR REPLACE INTO rollouts VALUES (?,?,?,?,?,?)", (
        write.record.rollout_id,
        encode_host_record(write.record).decode(),
        encode_policy(write.policy).decode(),
        None if write.closed_at is None else format_time(write.closed_at),
        write.taken_over_seq,
        None if write.home_at is None else format_time(write.home_at),
    )
