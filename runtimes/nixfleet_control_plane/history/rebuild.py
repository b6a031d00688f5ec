"""Checks a store against its log: whether the hash chain is intact, and whether the views match the log.

`check_chain` verifies the bytes alone. `check_views` replays every entry on an empty state, into empty tables of the
same schema, and compares row by row. Neither changes the store.
Source: docs/spec/runtimes.md, Store.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain

from attrs import frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.retention.log_start import (
    WHOLE,
    log_start,
    state_at,
    views_at,
)
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of
from nixfleet_control_plane.messages.log_entry import EARLIER_KINDS, LogRow, chain_hash
from nixfleet_control_plane.messages.writes import (
    PutHostRecord,
    RemoveHostRecords,
    SetRecordsThrough,
    ViewWrite,
)
from nixfleet_control_plane.store.sqlite_statements import statement_of, view_statement
from nixfleet_control_plane.store.sqlite_store import read_chain, read_log
from nixfleet_control_plane.store.tables import Tables
from nixfleet_runtime.process.progress import Noted, noting, unnoted

DERIVED_VIEWS = (
    "rollouts",
    "probe_failures",
    "quarantined_closures",
    "dispatch_queue",
    "deferrals",
    "beginnings",
    "holds",
    "warrants",
    "artefacts",
    "refused_events",
    "hosts",
    "token_replay",
    "revocations",
)
# The log is not copied, and the cache of host records is compared with the state itself.
NO_VIEW = (LogRow, PutHostRecord, SetRecordsThrough, RemoveHostRecords)


@frozen
class ChainReport:
    """How far the chain is intact. `broken_at`: the first row that is altered, missing or out of order.

    rows: up to which one, those before `first_seq` included, which were exported and dropped. is_kept: whether the
    store keeps the chain; if not, it was computed from the rows as they are now, each of which can be replayed.
    """

    rows: int
    head_hash: bytes
    broken_at: int | None = None
    problem: str | None = None
    first_seq: int = 1
    is_kept: bool = True


@frozen
class ViewDifference:
    """A row that only one side has. stored: whether the table has it; otherwise only the log implies it."""

    table: str
    row: tuple[object, ...]
    stored: bool


@frozen
class ViewsReport:
    """The number of log entries, and how the stored views differ from them."""

    entries: int
    differences: tuple[ViewDifference, ...]


def check_chain(connection: Tables, noted: Noted = unnoted) -> ChainReport:
    """Return how far the hash chain of the log is intact, from the first row that it has. noted: rows were read."""
    start = log_start(connection)
    first, head, rows = start.first_seq, start.prev_hash, start.first_seq - 1
    try:
        for row, prev_hash, row_hash in noting(read_chain(connection), noted):
            problem = _break_in(row, prev_hash, row_hash, head, rows + 1)
            if problem is not None:
                return ChainReport(rows, head, rows + 1, problem, first)
            head, rows = row_hash, rows + 1
    except DamagedRow as error:
        return ChainReport(rows, head, rows + 1, error.problem, first)
    except sqlite3.DatabaseError as error:
        # Invalid text, or a damaged page.
        return ChainReport(rows, head, rows + 1, f"the row cannot be read: {error}", first)
    return ChainReport(rows, head, first_seq=first)


def _break_in(
    row: LogRow, prev_hash: bytes, row_hash: bytes, head: bytes, expected_seq: int
) -> str | None:
    if row.seq != expected_seq:
        return f"expected row {expected_seq}, found row {row.seq}: rows are missing"
    if prev_hash != head:
        return f"expected it to follow {head.hex()}, found {prev_hash.hex()}: rows were re-ordered or replaced"
    computed = chain_hash(prev_hash, row)
    if computed != row_hash:
        return f"expected hash {computed.hex()}, found {row_hash.hex()}: the row was altered"
    return None


def check_views(
    connection: Tables,
    exported: Iterable[LogRow] | None = None,
    noted: Noted = unnoted,
) -> ViewsReport:
    """Return where the stored views and the cache of host records differ from the log.

    exported: the rows before the first one of the log. Without them a replay begins with the views that are kept in
    their place. noted: rows were replayed.
    Raises: DamagedRow, when an entry cannot be read or does not apply at its position; the errors of `exported`.
    """
    start = log_start(connection)
    rows = read_log(connection)
    if exported is not None:
        start, rows = WHOLE, chain(exported, rows)
    with closing(views_at(start)) as rebuilt:
        state = state_at(start, rebuilt)
        replay_into(rebuilt, state, noting(rows, noted))
        views = [d for table in DERIVED_VIEWS for d in _compare(table, connection, rebuilt)]
        return ViewsReport(state.head_seq, (*views, *_compare_cache(connection, state)))


def replay_into(rebuilt: sqlite3.Connection, state: State, rows: Iterable[LogRow]) -> None:
    """Replay `rows` on `state`, and write what they change to the views in `rebuilt`. Raises: DamagedRow."""
    rebuilt.execute("BEGIN")
    for row in rows:
        for write in _repeated(state, row):
            rebuilt.execute(*view_statement(write))
        state.undo.settle()
    rebuilt.execute("COMMIT")


def _repeated(state: State, row: LogRow) -> list[ViewWrite]:
    """Replay `row`, and return its writes to the views."""
    commit = CommitBuilder()
    logged = entry_of(row)
    try:
        replay(state, commit, logged)
    except DamagedRow:
        raise
    except Exception as error:
        raise DamagedRow(row.seq, row.kind, f"the entry does not apply: {error}") from error
    written = [write for write in commit.writes if isinstance(write, LogRow)]
    # What was one kind in format 1 is written under other names today.
    if written != [row] and (
        row.kind not in EARLIER_KINDS or [*map(entry_of, written)] != [logged]
    ):
        raise DamagedRow(row.seq, row.kind, "replaying the entry does not give the same row")
    return [write for write in commit.writes if not isinstance(write, NO_VIEW)]


def _compare(table: str, stored: Tables, rebuilt: sqlite3.Connection) -> Iterator[ViewDifference]:
    query = f"SELECT * FROM {table}"
    stored_rows = set(stored.execute(query))
    rebuilt_rows = set(rebuilt.execute(query))
    for row in sorted(stored_rows - rebuilt_rows, key=repr):
        yield ViewDifference(table, row, stored=True)
    for row in sorted(rebuilt_rows - stored_rows, key=repr):
        yield ViewDifference(table, row, stored=False)


def _compare_cache(connection: Tables, state: State) -> Iterator[ViewDifference]:
    """A cached record may be older than the log if its own row number and the cache's agree; its content must be right.

    A missing record is no error: a start detects it and reads the log.
    """
    (through,) = connection.execute(
        "SELECT coalesce(max(event_log_seq), 0) FROM host_records_through"
    ).fetchone()
    for row in connection.execute("SELECT * FROM host_rollout_records"):
        (rollout_id, hostname, *_, event_log_seq) = row
        changed_seq = state.unsaved.get((rollout_id, hostname))
        current = state.view.host(rollout_id, hostname)
        if current is None or changed_seq is None:
            yield ViewDifference("host_rollout_records", row, stored=True)
        elif event_log_seq < changed_seq:
            if changed_seq <= through:
                yield ViewDifference("host_rollout_records", row, stored=True)
        elif row != statement_of(PutHostRecord(current, event_log_seq))[1]:
            yield ViewDifference("host_rollout_records", row, stored=True)
