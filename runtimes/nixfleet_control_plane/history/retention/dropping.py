"""Exports the beginning of a log that nothing live needs, and drops it once its files are durable and verified.

What live things need, and so stays: everything from the opening of the oldest rollout that is not pruned on, every
artefact in force, outstanding failure, quarantine, hold, warrant, dispatch and deferral. Identities and the ids of
pruned rollouts stay in their views, without their rows.
Source: docs/spec/runtimes.md, Retention.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_control_plane.history.rebuild import replay_into
from nixfleet_control_plane.history.retention.export_file import ROWS_MAX, write_export
from nixfleet_control_plane.history.retention.log_start import (
    log_start,
    state_at,
    views_at,
)
from nixfleet_control_plane.messages.entry_codec import text_of
from nixfleet_control_plane.messages.log_entry import LogRow, chain_hash
from nixfleet_control_plane.messages.writes import PutHostRecord, SetRecordsThrough
from nixfleet_control_plane.store.sqlite_statements import statement_of
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_control_plane.store.stored_row import PUT_CONTENT, REFERRED
from nixfleet_runtime.storage.sqlite import transaction
from nixfleet_state_machine.rollout.state import RolloutState

_LIVE: Final = f"state != '{RolloutState.PRUNED.value}'"
_NEEDED: Final = (
    f"SELECT min(opened_event_log_seq) FROM rollouts WHERE {_LIVE}",
    "SELECT min(event_log_seq) FROM artefacts",
    "SELECT min(event_log_seq) FROM probe_failures WHERE cleared_by_seq IS NULL"
    f" AND rollout_id IN (SELECT rollout_id FROM rollouts WHERE {_LIVE})",
    "SELECT min(triggering_event_log_seq) FROM quarantined_closures WHERE cleared_by_seq IS NULL",
    "SELECT min(event_log_seq) FROM holds",
    "SELECT min(event_log_seq) FROM warrants",
    "SELECT min(event_log_seq) FROM dispatch_queue",
    "SELECT min(event_log_seq) FROM deferrals",
    "SELECT min(event_log_seq) FROM beginnings",
    "SELECT max(seq) FROM event_log",  # The last row is what the next one continues.
)
_NAMED: Final = (
    "SELECT event_log_seq FROM artefacts",
    "SELECT last_transition_event_log_seq FROM rollouts",
    "SELECT event_log_seq FROM refused_events",
)
"""Rows that a load reads besides the views."""
_KEPT_BY: Final = ("event_log_is_append_only_delete", "contents_are_append_only_delete")
"""The triggers that let nothing be dropped."""


@frozen
class Exportable:
    """Rows that nothing live needs: from `first_seq` to `last_seq`, none if that is lower. first_needed_seq: why."""

    first_seq: int
    last_seq: int
    first_needed_seq: int

    @property
    def rows(self) -> int:
        return max(0, self.last_seq - self.first_seq + 1)


def exportable(connection: sqlite3.Connection, before: datetime) -> Exportable:
    """Return the rows older than `before` that nothing live needs."""
    needed = [connection.execute(query).fetchone()[0] for query in _NEEDED]
    first_needed = min((seq for seq in needed if seq is not None), default=1)
    (young,) = connection.execute(
        "SELECT min(seq) FROM event_log WHERE ts >= ?", (text_of(before),)
    ).fetchone()
    last = first_needed - 1 if young is None else min(first_needed, young) - 1
    return Exportable(log_start(connection).first_seq, last, first_needed)


def export(connection: sqlite3.Connection, directory: Path, span: Exportable) -> tuple[Path, ...]:
    """Write the files of `span`; return them once they are durable and verified. Raises: ExportAltered, OSError."""
    head, paths = log_start(connection).prev_hash, list[Path]()
    rows = _rows(connection, span)
    while part := tuple(islice(rows, ROWS_MAX)):
        paths.append(write_export(directory, head, part))
        for row in part:
            head = chain_hash(head, row)
    return tuple(paths)


def drop(connection: sqlite3.Connection, span: Exportable) -> None:
    """Replace the rows of `span` by the views as of the last of them, in one transaction.

    connection: the only one that writes. Raises: DamagedRow, CommitInDoubt, sqlite3.Error; nothing has changed then.
    """
    with closing(views_at(log_start(connection))) as views:
        head = _views_after(connection, views, span)
        compressed = zlib.compress(views.serialize())
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE name IN (?, ?)", _KEPT_BY
    ).fetchall()
    # Views keep the numbers of dropped rows: of pruned rollouts, of identities.
    connection.execute("PRAGMA foreign_keys=OFF")
    with transaction(connection):
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM event_log WHERE seq <= ?", (span.last_seq,))
        connection.execute(f"DELETE FROM contents WHERE hash NOT IN ({REFERRED})")
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute(
            "INSERT OR REPLACE INTO log_start VALUES (1, ?, ?, ?)",
            (span.last_seq + 1, head, compressed),
        )
    connection.execute("PRAGMA foreign_keys=ON")


def _views_after(
    connection: sqlite3.Connection, views: sqlite3.Connection, span: Exportable
) -> bytes:
    """Bring `views` to the last row of `span`; return that row's hash."""
    state = state_at(log_start(connection), views)
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


def _rows(connection: sqlite3.Connection, span: Exportable) -> Iterator[LogRow]:
    rows = read_log(connection, after_seq=span.first_seq - 1)
    return islice(rows, span.rows)
