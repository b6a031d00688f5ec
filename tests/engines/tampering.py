"""Somebody with a knife: changes a control plane's database behind its back."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH, LogRow, chain_hash
from nixfleet_control_plane.store.sqlite_store import INSERT_LOG
from nixfleet_control_plane.store.stored_row import (
    PUT_CONTENT,
    READ_COLUMNS,
    read_row,
    stored_row,
)


@contextmanager
def knife(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection that minds no trigger, no reference and no check; what it did is committed at the end."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()


def cut(path: Path, *statements: str) -> None:
    """Carry out `statements`."""
    with knife(path) as connection:
        for statement in statements:
            connection.execute(statement)


def forge(path: Path, seq: int, change: Callable[[LogRow], LogRow]) -> None:
    """Change a row of the log and compute all hashes anew from there, so that the chain holds."""
    with knife(path) as connection:
        rows = [
            read_row(columns)
            for columns in connection.execute(f"SELECT {READ_COLUMNS} FROM event_log ORDER BY seq")
        ]
        connection.execute("DELETE FROM event_log")
        head = FIRST_PREV_HASH
        for row in rows:
            kept = change(row) if row.seq == seq else row
            previous, head = head, chain_hash(head, kept)
            stored, contents = stored_row(kept)
            connection.executemany(PUT_CONTENT, contents.items())
            connection.execute(INSERT_LOG, (*stored, previous, head))


def with_payload(old: str, new: str) -> Callable[[LogRow], LogRow]:
    """Return the change that puts `new` for `old` in a payload that has it."""

    def change(row: LogRow) -> LogRow:
        assert old in row.payload, row
        return row._replace(payload=row.payload.replace(old, new))

    return change
