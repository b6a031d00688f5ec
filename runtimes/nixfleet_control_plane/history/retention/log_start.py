"""Where a log begins: at its first row, or after rows that were exported and dropped.

In place of dropped rows the database has the views as of the last of them: a small database of the same format with
all views, the records of hosts, and the rows that those name. A replay starts from it. It is not part of the chain:
`log rebuild --check --exports` replays the exported files instead.
Source: docs/spec/runtimes.md, Retention.
"""

import sqlite3
from typing import Final

from attrs import evolve, frozen

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import state_of
from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.sqlite_store import snapshot_of
from nixfleet_control_plane.store.stored_row import LOG_BEGINS_AT
from nixfleet_control_plane.store.tables import Tables
from nixfleet_runtime.storage.decompressed import inflated
from nixfleet_runtime.storage.file_format import statements


@frozen
class LogStart:
    """The first row that the log has, the hash of the row before it, and the views as of that row, compressed."""

    first_seq: int
    prev_hash: bytes
    views: bytes


VIEWS_BYTES_MAX: Final = 2**31 - 1
"""How large the views before the first row may be: those of a million hosts are smaller."""
WHOLE: Final = LogStart(1, FIRST_PREV_HASH, b"")
"""The start of a log of which nothing was dropped."""


def log_start(connection: Tables) -> LogStart:
    """Return where the log begins."""
    row = connection.execute("SELECT first_seq, prev_hash, views FROM log_start").fetchone()
    return WHOLE if row is None else LogStart(*row)


def first_seq_of(connection: Tables) -> int:
    """Return the first row that the log has. Does not read the views before it, which are as many as hosts."""
    (first,) = connection.execute(f"SELECT {LOG_BEGINS_AT}").fetchone()
    return int(first)


def views_at(start: LogStart, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """Return the views before the first row, as a database in memory, which the caller closes.

    check_same_thread: as of `sqlite3.connect`.
    """
    views = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=check_same_thread)
    if not start.views:
        views.executescript(DATABASE_FORMAT.schema)
        views.execute(f"PRAGMA user_version={DATABASE_FORMAT.version}")
    else:
        views.deserialize(inflated(start.views, VIEWS_BYTES_MAX))
        (version,) = views.execute("PRAGMA user_version").fetchone()
        for step in DATABASE_FORMAT.steps_after(version):
            for statement in statements(step.script):
                views.execute(statement)
    # The rows name rows of the log, most of which are elsewhere.
    views.execute("PRAGMA foreign_keys=OFF")
    return views


def state_at(start: LogStart, views: sqlite3.Connection) -> State:
    """Return the state before the first row. views: of `views_at`."""
    if not start.views:
        return State()
    snapshot = snapshot_of(views)
    state = state_of(evolve(snapshot, head_seq=start.first_seq - 1, tail=()))
    for stored in snapshot.hosts:
        key = stored.record.rollout_id, stored.record.hostname
        state.unsaved.set(key, stored.event_log_seq)
    state.undo.settle()
    return state
