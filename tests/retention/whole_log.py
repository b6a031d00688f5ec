"""The log of a database from its first row on: rows from exported files, and then those that are left."""

import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.history.retention.whole_log import rows_before
from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH, LogRow, chain_hash
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_control_plane.store.stored_row import LOG_BEGINS_AT


def dropped_rows(connection: sqlite3.Connection, exports: Path | None) -> Iterator[LogRow]:
    """Yield the rows before the first one that the log has, each verified.

    Raises: RowsDropped, if there are some and `exports` is `None`; ExportAltered, ExportMissing, OSError.
    """
    return rows_before(log_start(connection), exports)


def whole_log(connection: sqlite3.Connection, exports: Path | None = None) -> Iterator[LogRow]:
    """Yield every row from the first on. Raises: as `dropped_rows`; the rows of the database are not verified."""
    return chain(dropped_rows(connection, exports), read_log(connection))


def whole_hashes(connection: sqlite3.Connection, exports: Path | None = None) -> Iterator[bytes]:
    """Yield the hash of every row from the first on. Raises: as `dropped_rows`."""
    head = FIRST_PREV_HASH
    for row in dropped_rows(connection, exports):
        head = chain_hash(head, row)
        yield head
    for (row_hash,) in connection.execute(
        f"SELECT hash FROM event_log WHERE seq >= {LOG_BEGINS_AT} ORDER BY seq"
    ):
        yield row_hash
