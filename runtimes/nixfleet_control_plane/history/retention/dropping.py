"""Exports the beginning of a log that nothing live needs, and drops it once its files are durable and verified.

Rows are dropped in two steps. First the log begins after them, by one small transaction: no replay, check or start
reads what is before its beginning. Then the rows are removed, a portion at a time, so that no commit waits for long.
Source: docs/spec/runtimes.md, Retention.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_control_plane.history.rebuild import replay_into
from nixfleet_control_plane.history.retention.export_file import parts, write_export
from nixfleet_control_plane.history.retention.exportable import Exportable
from nixfleet_control_plane.history.retention.log_start import (
    LogStart,
    first_seq_of,
    log_start,
    state_at,
    views_at,
)
from nixfleet_control_plane.messages.log_entry import LogRow, chain_hash
from nixfleet_control_plane.messages.writes import PutHostRecord, SetRecordsThrough
from nixfleet_control_plane.store.sqlite_statements import statement_of
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_control_plane.store.stored_row import PUT_CONTENT, REFERRED
from nixfleet_control_plane.store.tables import Tables
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.sqlite import transaction


class StartDiffers(NixfleetError):
    """The log has another row before its new beginning than was exported: `seq`, `expected`, `found` (hashes)."""

    def __init__(self, seq: int, expected: bytes, found: bytes | None) -> None:
        super().__init__(seq, expected, found)
        self.seq = seq
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        found = "none" if self.found is None else self.found.hex()
        return f"expected row {self.seq} with the hash {self.expected.hex()}, which was exported, found {found}"


_NAMED: Final = (
    "SELECT event_log_seq FROM artefacts",
    "SELECT last_transition_event_log_seq FROM rollouts",
    "SELECT event_log_seq FROM refused_events",
)
"""Rows that a load reads besides the views."""
_KEPT_BY: Final = ("event_log_is_append_only_delete", "contents_are_append_only_delete")
"""The triggers that let nothing be dropped."""
ROWS_REMOVED_MAX: Final = 2_000
"""How many rows one transaction removes: a commit that waits for it waits for some ten milliseconds."""
_READ_ROWS_MAX: Final = 1_000
"""How many rows are in memory at once: hosts decide how long each is, up to the bound of a request's body."""
_UNREFERRED_MAX: Final = 500


def export(connection: Tables, directory: Path, span: Exportable) -> tuple[Path, ...]:
    """Write the files of `span`; return them once they are durable and verified.

    Raises: NotWritten, ExportAltered, OSError.
    """
    head, paths = log_start(connection).prev_hash, list[Path]()
    for part in parts(_rows(connection, span)):
        paths.append(write_export(directory, head, part))
        for row in part:
            head = chain_hash(head, row)
    return tuple(paths)


def start_after(connection: Tables, span: Exportable) -> LogStart:
    """Return the start of the log without the rows of `span`, with the views as of the last of them. Only reads.

    Raises: DamagedRow, sqlite3.Error.
    """
    start = log_start(connection)
    with closing(views_at(start)) as views:
        head = _views_after(connection, views, start, span)
        return LogStart(span.last_seq + 1, head, zlib.compress(views.serialize()))


def begin_log_at(connection: sqlite3.Connection, start: LogStart) -> None:
    """Let the log begin at `start`, in one transaction. Doing it again changes nothing.

    connection: the only one that writes. Raises: StartDiffers, CommitInDoubt, sqlite3.Error; nothing has changed then.
    """
    with transaction(connection):
        if first_seq_of(connection) >= start.first_seq:
            return
        last = start.first_seq - 1
        found = connection.execute("SELECT hash FROM event_log WHERE seq = ?", (last,)).fetchone()
        if found is None or found[0] != start.prev_hash:
            raise StartDiffers(last, start.prev_hash, None if found is None else found[0])
        connection.execute(
            "INSERT OR REPLACE INTO log_start VALUES (1, ?, ?, ?)",
            (start.first_seq, start.prev_hash, start.views),
        )


def remove_dropped(connection: sqlite3.Connection, rows_max: int = ROWS_REMOVED_MAX) -> int:
    """Remove up to `rows_max` rows before the beginning of the log, in one transaction; return how many there were.

    connection: the only one that writes. Raises: CommitInDoubt, sqlite3.Error; nothing has changed then.
    """
    first = first_seq_of(connection)
    (oldest,) = connection.execute("SELECT min(seq) FROM event_log").fetchone()
    if oldest is None or oldest >= first:
        return 0
    with _permitting_removal(connection):
        return connection.execute(
            "DELETE FROM event_log WHERE seq < ?", (min(first, oldest + rows_max),)
        ).rowcount


@frozen
class Unreferred:
    """Contents that no row of the log up to `head_seq` refers to, by their hashes; a later row may."""

    head_seq: int
    hashes: tuple[str, ...]


def unreferred(connection: sqlite3.Connection) -> Unreferred:
    """Return some of the contents that only rows which were removed referred to. Reads the whole log."""
    connection.execute("BEGIN")
    try:
        (head,) = connection.execute("SELECT ifnull(max(seq), 0) FROM event_log").fetchone()
        found = connection.execute(
            f"SELECT hash FROM contents WHERE hash NOT IN ({REFERRED}) LIMIT {_UNREFERRED_MAX}"
        )
        return Unreferred(head, tuple(name for (name,) in found))
    finally:
        connection.execute("ROLLBACK")


def remove_unreferred(connection: sqlite3.Connection, found: Unreferred) -> int:
    """Remove the contents that were found, in one transaction; return how many.

    Rows that were written since are asked again: a release that is signed again refers to contents that are there.
    connection: the only one that writes. Raises: CommitInDoubt, sqlite3.Error; nothing has changed then.
    """
    if not found.hashes:
        return 0
    with _permitting_removal(connection):
        return connection.executemany(
            f"DELETE FROM contents WHERE hash = ? AND hash NOT IN ({REFERRED} AND seq > ?)",
            [(name, found.head_seq) for name in found.hashes],
        ).rowcount


@contextmanager
def _permitting_removal(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is inside in one transaction, in which rows may be removed."""
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE name IN (?, ?)", _KEPT_BY
    ).fetchall()
    # Views keep the numbers of dropped rows: of pruned rollouts, of identities.
    connection.execute("PRAGMA foreign_keys=OFF")
    try:
        with transaction(connection):
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            yield
            for _, sql in triggers:
                connection.execute(sql)
    finally:
        connection.execute("PRAGMA foreign_keys=ON")


def drop(connection: sqlite3.Connection, span: Exportable) -> None:
    """Replace the rows of `span` by the views as of the last of them.

    connection: the only one that writes. Killed at any moment, the log begins before or after the rows.
    Raises: DamagedRow, StartDiffers, CommitInDoubt, sqlite3.Error.
    """
    begin_log_at(connection, start_after(connection, span))
    while remove_dropped(connection):
        pass
    while remove_unreferred(connection, unreferred(connection)):
        pass


def _views_after(
    connection: Tables, views: sqlite3.Connection, start: LogStart, span: Exportable
) -> bytes:
    """Bring `views`, which are those at `start`, to the last row of `span`; return that row's hash."""
    state = state_at(start, views)
    for trigger in ("event_log_is_append_only_insert", *_KEPT_BY):
        views.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    replay_into(views, state, _rows(connection, span))
    views.execute("DELETE FROM host_rollout_records")
    for key, seq in state.unsaved.items():
        record = state.view.host(*key)
        if record is not None:
            views.execute(*statement_of(PutHostRecord(record, seq)))
    views.execute(*statement_of(SetRecordsThrough(span.last_seq)))
    named = {seq for query in _NAMED for (seq,) in views.execute(query)}
    kept = {seq for (seq,) in views.execute("SELECT seq FROM event_log")}
    views.executemany("DELETE FROM event_log WHERE seq = ?", [(seq,) for seq in kept - named])
    for seq in sorted(named - kept):
        row = connection.execute("SELECT * FROM event_log WHERE seq = ?", (seq,)).fetchone()
        if row is not None:
            views.execute(f"INSERT INTO event_log VALUES ({','.join('?' * len(row))})", row)
    views.execute(f"DELETE FROM contents WHERE hash NOT IN ({REFERRED})")
    for (name,) in views.execute(REFERRED).fetchall():
        content = connection.execute("SELECT hash, text FROM contents WHERE hash = ?", (name,))
        views.executemany(PUT_CONTENT, content)
    views.execute("VACUUM")
    head: bytes = connection.execute(
        "SELECT hash FROM event_log WHERE seq = ?", (span.last_seq,)
    ).fetchone()[0]
    return head


def _rows(connection: Tables, span: Exportable) -> Iterator[LogRow]:
    """Yield the rows of `span`. No read lasts for long: the write-ahead log grows while there is one."""
    after = span.first_seq - 1
    while portion := tuple(
        islice(read_log(connection, after), min(_READ_ROWS_MAX, span.last_seq - after))
    ):
        yield from portion
        after = portion[-1].seq
