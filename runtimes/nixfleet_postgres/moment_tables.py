"""The tables of one moment: the views in memory, and the log in the database, where its rows do not change."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from nixfleet_control_plane.store.tables import ChainedRow, Rows
from nixfleet_postgres.blocking import BlockingTables


class MomentTables:
    """The `Tables` of one moment. views: a copy of all but the log; log: of the same moment."""

    def __init__(self, views: sqlite3.Connection, log: BlockingTables) -> None:
        self._views = views
        self._log = log

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        """Return the rows that `sql` selects, which is about the log or about other tables."""
        return (self._log if "event_log " in f"{sql} " else self._views).execute(sql, values)

    def chain(self, after_seq: int) -> Iterator[ChainedRow]:
        """As `ReadsItsLog.chain`."""
        return self._log.chain(after_seq)
