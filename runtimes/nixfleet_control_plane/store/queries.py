"""Operators' queries, as data: what is asked, in SQL that SQLite and PostgreSQL share, and what the rows mean.

Asked on read-only connections, so they see only durable rows: of a plain one at once, or as `SqlQueries` does.
Source: docs/spec/wire.md, Operator calls; docs/spec/runtimes.md, Store.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final, Generic, TypeAlias, TypeVar

from attrs import frozen

from nixfleet_control_plane.messages.entry_codec import entry_of, time_of
from nixfleet_control_plane.messages.log_entry import (
    FIRST_PREV_HASH,
    ArtefactRefused,
    ArtefactTaken,
    LoggedEntry,
    LoggedLine,
    LogRow,
    RolloutMoved,
    lines_of,
)
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.stored_row import LATER_OF, READ_COLUMNS, read_row
from nixfleet_control_plane.store.tables import Tables
from nixfleet_runtime.storage.record_codec import decode_rollout_record
from nixfleet_runtime.storage.sqlite import open_reader
from nixfleet_state_machine.rollout.event import MembersChanged
from nixfleet_state_machine.rollout.state import RolloutRecord

ALL: Final = 2**62
"""No limit: more than a table can have."""
ROWS_SEARCHED_MAX: Final = 200_000
"""So many rows are looked through for those of one host: about half a second."""
T_co = TypeVar("T_co", covariant=True)
_Rows: TypeAlias = Iterable[Any]


class Query(Generic[T_co]):
    """A question to a database. sql, values: what is asked. read: returns the answer that the rows give."""

    def __init__(
        self, sql: str, values: tuple[str | int, ...], read: Callable[[_Rows], T_co]
    ) -> None:
        self.sql = sql
        self.values = values
        self.read = read

    def of(self, connection: Tables) -> T_co:
        """Return the answer of the database behind `connection`."""
        return self.read(connection.execute(self.sql, self.values))


@frozen
class LastCommands:
    """Commands that were carried out. at: the latest first. before: when the rows end that were not read, if any."""

    at: tuple[datetime, ...]
    before: datetime | None


def open_for_reading(path: Path) -> Connection:
    """Return a read-only connection to a control plane's database.

    Raises: FileNotFoundError, SchemaRefused, NotOurDatabase.
    """
    return open_reader(path, DATABASE_FORMAT)


@frozen
class Quarantined:
    """A closure that is not dispatched on a channel. cleared: whether an operator has retired the quarantine."""

    channel: str
    closure: str
    since: datetime
    triggering_event_log_seq: int
    cleared: bool


@frozen
class Waiting:
    """A host that is held, by which gate, why, and since when."""

    hostname: str
    rollout_id: str
    gate: str
    reason: str
    since: datetime


def rollouts(
    connection: Tables, *, after_seq: int = 0, limit: int = ALL
) -> tuple[RolloutRecord, ...]:
    """Return the records of rollouts opened after log row `after_seq`, oldest first, pruned ones included."""
    return rollouts_query(after_seq=after_seq, limit=limit).of(connection)


def rollouts_query(*, after_seq: int = 0, limit: int = ALL) -> Query[tuple[RolloutRecord, ...]]:
    """As `rollouts`."""
    return Query(
        "SELECT record FROM rollouts WHERE opened_event_log_seq > ?"
        " ORDER BY opened_event_log_seq LIMIT ?",
        (after_seq, limit),
        _rollout_records,
    )


def _rollout_records(rows: _Rows) -> tuple[RolloutRecord, ...]:
    return tuple(decode_rollout_record(record.encode()) for (record,) in rows)


def _quarantines(rows: _Rows) -> tuple[Quarantined, ...]:
    return tuple(
        Quarantined(channel, closure, time_of(at), seq, cleared is not None)
        for channel, closure, at, seq, cleared in rows
    )


QUARANTINES: Final = Query(
    "SELECT channel, closure_hash, quarantined_at, triggering_event_log_seq, cleared_by_seq"
    " FROM quarantined_closures ORDER BY triggering_event_log_seq",
    (),
    _quarantines,
)
"""As `quarantines`."""


def quarantines(connection: Tables) -> tuple[Quarantined, ...]:
    """Return every quarantine, oldest first."""
    return QUARANTINES.of(connection)


def deferrals(
    connection: Tables, *, after: tuple[str, str] | None = None, limit: int = ALL
) -> tuple[Waiting, ...]:
    """Return the held hosts, ordered by rollout and host, after the given rollout and host."""
    return deferrals_query(after=after, limit=limit).of(connection)


def deferrals_query(
    *, after: tuple[str, str] | None = None, limit: int = ALL
) -> Query[tuple[Waiting, ...]]:
    """As `deferrals`."""
    return Query(
        "SELECT hostname, rollout_id, gate, reason, since FROM deferrals"
        " WHERE (rollout_id, hostname) > (?, ?) ORDER BY rollout_id, hostname LIMIT ?",
        (*(after or ("", "")), limit),
        _waiting,
    )


def _waiting(rows: _Rows) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(hostname, rollout_id, gate, reason, time_of(since))
        for hostname, rollout_id, gate, reason, since in rows
    )


def waiting_of_query(hostname: str) -> Query[tuple[Waiting, ...]]:
    """Return why a host is held, by rollout, and since when; nothing for one that is not."""
    return Query(
        "SELECT hostname, rollout_id, gate, reason, since FROM deferrals"
        " WHERE hostname = ? ORDER BY rollout_id",
        (hostname,),
        _waiting,
    )


def log_entries(
    connection: Tables,
    *,
    after_seq: int = 0,
    rollout_id: str | None = None,
    host_id: str | None = None,
) -> tuple[LoggedLine, ...]:
    """Return the log's lines after row `after_seq`, oldest first; of one rollout or host if given.

    Raises: DamagedRow.
    """
    where, values = "seq > ?", [str(after_seq)]
    for column, wanted in (("rollout_id", rollout_id), ("host_id", host_id)):
        if wanted is not None:
            where += f" AND {column} = ?"
            values.append(wanted)
    rows = connection.execute(
        f"SELECT {READ_COLUMNS} FROM event_log WHERE {where} ORDER BY seq", values
    )
    return tuple(line for columns in rows for line in lines_of(entry_of(read_row(columns))))


def left_at(connection: Tables, rollout_id: str, hostname: str) -> datetime | None:
    """Return when the host left the rollout for the last time; `None` if no row says so. O(rows of the rollout).

    Raises: DamagedRow.
    """
    return left_at_query(rollout_id, hostname).of(connection)


def left_at_query(rollout_id: str, hostname: str) -> Query[datetime | None]:
    """As `left_at`."""
    return Query(
        f"SELECT {READ_COLUMNS} FROM event_log WHERE rollout_id = ? AND kind = 'rollout_event'"
        " AND payload LIKE '%MembersChanged%' ORDER BY seq DESC",
        (rollout_id,),
        partial(_left_at, hostname),
    )


def _left_at(hostname: str, rows: _Rows) -> datetime | None:
    entries = (entry_of(read_row(columns)).entry for columns in rows)
    events = (entry.event for entry in entries if isinstance(entry, RolloutMoved))
    changes = (event for event in events if isinstance(event, MembersChanged))
    return next((change.at for change in changes if hostname in change.left), None)


def last_commands(connection: Tables, rows_max: int) -> LastCommands:
    """Return the operator commands among the last `rows_max` log rows."""
    return last_commands_query(rows_max).of(connection)


def last_commands_query(rows_max: int) -> Query[LastCommands]:
    """As `last_commands`."""
    return Query(
        # The last row that is not read has a place of its own.
        "WITH unread(seq) AS (SELECT coalesce(max(seq), 0) - ? FROM event_log)"
        " SELECT log.seq = unread.seq, log.ts FROM event_log AS log, unread"
        " WHERE log.seq >= unread.seq AND (log.seq = unread.seq OR log.kind = 'operator_command')"
        " ORDER BY log.seq DESC",
        (rows_max,),
        _last_commands,
    )


def _last_commands(rows: _Rows) -> LastCommands:
    times = [(bool(is_unread), time_of(ts)) for is_unread, ts in rows]
    return LastCommands(
        tuple(at for is_unread, at in times if not is_unread),
        next((at for is_unread, at in times if is_unread), None),
    )


def refused_artefacts(connection: Tables) -> tuple[LoggedEntry, ...]:
    """Return the artefacts refused since the latest one that was put in force, the last refusal of each, by name."""
    refused: dict[str, LoggedEntry] = {}
    taken_at: datetime | None = None
    for columns in connection.execute(
        f"SELECT {READ_COLUMNS} FROM event_log"
        " WHERE kind IN ('artefact_accepted', 'artefact_refused', 'verify_outcome') ORDER BY seq DESC"
    ):
        logged = entry_of(read_row(columns))
        if taken_at is not None and logged.at < taken_at:
            break
        match logged.entry:
            case ArtefactTaken():
                taken_at = logged.at
            case ArtefactRefused():
                refused.setdefault(logged.entry.name, logged)
            case _:
                pass
    return tuple(logged for _, logged in sorted(refused.items()))


HEAD: Final = Query(
    "SELECT coalesce(max(seq), 0) FROM event_log", (), lambda rows: int(next(iter(rows))[0])
)
"""The number of the last log row; 0 if there is none."""
END: Final = Query(
    "SELECT seq, hash FROM event_log ORDER BY seq DESC LIMIT 1",
    (),
    lambda rows: next(((int(seq), bytes(end)) for seq, end in rows), (0, FIRST_PREV_HASH)),
)
"""The number and the hash of the last log row."""


def log_rows_query(
    rollout_id: str | None, *, after_seq: int, limit: int
) -> Query[tuple[LogRow, ...]]:
    """Up to `limit` stored log rows after `after_seq`, oldest first; of one rollout, if it is given."""
    of_rollout = "" if rollout_id is None else "rollout_id = ? AND "
    about = () if rollout_id is None else (rollout_id,)
    return Query(
        f"SELECT {READ_COLUMNS} FROM event_log WHERE {of_rollout}seq >= {LATER_OF}"
        " ORDER BY seq LIMIT ?",
        (*about, after_seq + 1, limit),
        _log_rows,
    )


def host_rows_query(rollout_id: str, hostname: str, *, limit: int) -> Query[tuple[LogRow, ...]]:
    """The latest rows about a host in a rollout, the newest first, of the last `ROWS_SEARCHED_MAX` of the log.

    The log has no index by host, which every row would pay for: the rows of the rollout are read backwards.
    """
    return Query(
        f"SELECT {READ_COLUMNS} FROM event_log WHERE rollout_id = ? AND host_id = ?"
        " AND seq > (SELECT max(seq) - ? FROM event_log) ORDER BY seq DESC LIMIT ?",
        (rollout_id, hostname, ROWS_SEARCHED_MAX, limit),
        _log_rows,
    )


def _log_rows(rows: _Rows) -> tuple[LogRow, ...]:
    return tuple(read_row(columns) for columns in rows)
