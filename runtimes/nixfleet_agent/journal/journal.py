"""The agent's journal: every fact before it is sent, every intent before it begins. Protocols, and SQLite.

The mutator calls `commit`, once per batch and never twice at once. `unsent` and `last_seqs` may be called at the same
time: they see committed rows only.
Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Intents.
"""

import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, assert_never

from attrs import frozen

from nixfleet_agent.engine.downgrade import ObeyedRelease, RolledBackClosure
from nixfleet_agent.engine.state import LocalRollout, ObeyedOrder
from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
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
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.write_failures import OutcomeUnknown
from nixfleet_runtime.storage.record_codec import (
    decode_host_record,
    decode_policy,
    encode_host_record,
    encode_policy,
)
from nixfleet_runtime.storage.sqlite import (
    CommitInDoubt,
    open_reader,
    settle,
    transaction,
)
from nixfleet_runtime.storage.writer import open_writer

# With what an author of a journal needs to import, in one place: docs/reference/stability.md promises these.
__all__ = [
    "AppendEvent",
    "BlockingJournal",
    "Intent",
    "IntentKind",
    "Journal",
    "JournalRow",
    "JournalSnapshot",
    "LocalRollout",
    "MarkAcknowledged",
    "MarkRefused",
    "MarkUnsent",
    "ObeyedOrder",
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
    orders: FrozenMap[str, ObeyedOrder] = FrozenMap()


class Journal(Protocol):
    """Makes an agent's commits durable."""

    async def load(self) -> JournalSnapshot:
        """Return the committed contents."""
        ...

    async def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, in order and atomically.

        When it raises, nothing has changed: an outcome that is not known is found out first, or OutcomeUnknown says
        that it could not be. An error must be raised, never swallowed: the agent switches, and lets the control plane
        forget, by what it believes to be durable. A cancellation ends the wait at once; it comes only when a write
        takes too long, and the journal is not used again.
        """
        ...

    async def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """Return the oldest rows neither acknowledged nor refused, up to `limit`, except those of `excluding`."""
        ...

    async def last_seqs(self) -> FrozenMap[str, int]:
        """Return the seq of the last fact of each rollout, committed or bootstrapped."""
        ...

    async def close(self) -> None:
        """Release the resources. Nothing is written. Returns within a few seconds, also if a write hangs."""
        ...


class BlockingJournal(Protocol):
    """A journal whose calls block: `ThreadedJournal` makes it a `Journal`.

    What each call does, and what its errors mean, is as in `Journal`. One thread commits and loads; others may ask
    `unsent` and `last_seqs` at the same time.
    """

    def load(self) -> JournalSnapshot:
        """Return the committed contents."""
        ...

    def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, in order and atomically."""
        ...

    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """Return the oldest rows neither acknowledged nor refused, up to `limit`, except those of `excluding`."""
        ...

    def last_seqs(self) -> FrozenMap[str, int]:
        """Return the seq of the last fact of each rollout, committed or bootstrapped."""
        ...

    def close(self) -> None:
        """Release the resources."""
        ...


_Value: TypeAlias = str | int | None
_Statement: TypeAlias = tuple[str, tuple[_Value, ...]]


class SqliteJournal:
    """A journal in one SQLite file, created if missing, upgraded if it is of an older version.

    `ThreadedJournal` makes it a `Journal`; `commit` and `load` are for one thread at a time. connection_type: tests
    replace it.
    Raises: DecodeError, when this program cannot read what another one wrote; the errors of `writer.open_writer`.
    """

    connection_type: type[sqlite3.Connection] = sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = self._open()
        self._reader = open_reader(path, JOURNAL_FORMAT)

    def _open(self) -> sqlite3.Connection:
        return open_writer(
            self._path,
            JOURNAL_FORMAT,
            check=require_readable,
            connection_type=self.connection_type,
        )

    def load(self) -> JournalSnapshot:
        """Return the committed contents. Raises: DecodeError."""
        return snapshot_of(self._writer)

    def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, atomically. Finds out itself what became of a COMMIT that failed.

        Raises: OutcomeUnknown; errors of sqlite3, and then nothing has changed.
        """
        try:
            self._carry_out(writes)
        except CommitInDoubt as doubt:
            self._settle(writes, doubt)

    def _carry_out(self, writes: Sequence[Write]) -> None:
        with transaction(self._writer):
            for write in writes:
                for statement in _statements(write):
                    self._writer.execute(*statement)

    def _settle(self, writes: Sequence[Write], doubt: CommitInDoubt) -> None:
        """Return if `writes` are durable. Raises: OutcomeUnknown; sqlite3.Error, and nothing has changed."""
        try:
            # Before the other one is closed: the last to close a file removes what a full disk has no room for.
            connection = self._open()
            self._writer.close()
            self._writer = connection
            trace = _trace_of(writes)
            if trace is None:
                # All of it can be written twice, and is then as written once.
                self._carry_out(writes)
                return
            is_there = self._writer.execute(*trace).fetchone() is not None
            settle(self._writer, is_there=is_there)
        except (sqlite3.Error, OSError, NixfleetError) as error:
            raise OutcomeUnknown(str(self._path), str(error)) from doubt
        if not is_there:
            raise doubt.error from None

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


def require_readable(connection: sqlite3.Connection, _found: int) -> tuple[()]:
    """Read everything in the journal, before a program writes to it for the first time. Raises: DecodeError.

    A journal has no views that could differ from it: its records include what was taken over from the control plane.
    """
    snapshot_of(connection)
    for (fact,) in connection.execute("SELECT fact FROM events"):
        decode_event(fact.encode())
    return ()


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
                order_id: ObeyedOrder(
                    RolloutId(rollout_id),
                    bool(is_recall),
                    None if until is None else parse_time(until),
                )
                for order_id, rollout_id, is_recall, until in connection.execute(
                    "SELECT order_id, rollout_id, is_recall, overrides_until FROM obeyed_orders"
                    " ORDER BY order_id"
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


def _until_text(write: PutOrder) -> str | None:
    return None if write.overrides_until is None else format_time(write.overrides_until)


def _put_order(write: PutOrder) -> _Statement:
    return (
        "INSERT OR REPLACE INTO obeyed_orders VALUES (?,?,?,?,?)",
        (
            write.order_id,
            write.rollout_id,
            format_time(write.obeyed_at),
            int(write.is_recall),
            _until_text(write),
        ),
    )


def _trace_of(writes: Sequence[Write]) -> _Statement | None:
    """Return a query that has a row if `writes` are there; `None` if they leave nothing that was not there before.

    What can be there before is replaced or removed: such writes may be repeated.
    """
    gone: set[RolloutId] = set()
    for write in reversed(writes):
        match write:
            case RemoveRollout() | SetRolloutAside():
                gone.add(write.rollout_id)
            case AppendEvent() if write.rollout_id not in gone:
                found = "SELECT 1 FROM events WHERE rollout_id = ? AND seq = ?"
                return found, (write.rollout_id, write.fact.seq)
            case PutOrder():
                # The same order is put again once it was used: by its number alone it was there before.
                found = "SELECT 1 FROM obeyed_orders WHERE order_id = ? AND overrides_until IS ?"
                return found, (write.order_id, _until_text(write))
            case _:
                pass
    return None


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
            return (_put_order(write),)
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
