"""Exports and drops the beginning of the log of a store that is in use. Protocol, and the one of SQLite.

The export reads, in a process of its own. A drop is a few short transactions of the one writer, between its commits.
Source: docs/spec/runtimes.md, Retention.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import frozen

from nixfleet_control_plane.history.rebuild import check_chain
from nixfleet_control_plane.history.retention.dropping import (
    begin_log_at,
    export,
    remove_dropped,
    remove_unreferred,
    start_after,
    unreferred,
)
from nixfleet_control_plane.history.retention.exportable import (
    Exportable,
    Need,
    exportable,
    first_need,
)
from nixfleet_control_plane.history.retention.log_start import LogStart, first_seq_of
from nixfleet_control_plane.messages.entry_codec import time_of
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.tables import Tables
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.process.own_process import in_own_process
from nixfleet_runtime.process.threads import in_abandonable_thread

T = TypeVar("T")


@frozen
class KeptRows:
    """The rows that a log has: from which on, and when that one was written; `None` if it has none.

    need: what keeps it from being exported further; `None` if that is not known.
    """

    first_seq: int
    oldest_at: datetime | None
    need: Need | None = None


@frozen
class Exported:
    """What an export wrote. start: where the log may begin now; `None` if nothing can be dropped."""

    span: Exportable
    files: tuple[Path, ...] = ()
    start: LogStart | None = None


class ChainBroken(NixfleetError):
    """The log is not as it was written, so nothing of it is exported. Attributes: `seq`, `problem`."""

    def __init__(self, seq: int | None, problem: str) -> None:
        super().__init__(seq, problem)
        self.seq = seq
        self.problem = problem

    def __str__(self) -> str:
        return f"the chain of the log breaks at row {self.seq}: {self.problem}"


class LogKeeper(Protocol):
    """Exports and drops the beginning of the log of a store that is in use. One task uses it."""

    async def kept(self) -> KeptRows:
        """Return which rows the log has."""
        ...

    async def export(self, directory: Path, before: datetime) -> Exported:
        """Write whole months of rows older than `before` that nothing live needs to files in `directory`.

        When this returns, the files are durable and were read back. What is there already is verified and used.
        Raises: WorkFailed.
        """
        ...

    async def begin_at(self, start: LogStart) -> None:
        """Let the log begin at `start`, durably. Raises: WritingEnded, StartDiffers, errors of the store."""
        ...

    async def remove(self) -> int:
        """Remove a portion of what was before the beginning of the log; return how much that was, 0: nothing is left.

        Raises: WritingEnded, errors of the store.
        """
        ...


class SqliteLogKeeper:
    """The `LogKeeper` of the database at `path`, which `store` writes in the thread of `threaded`."""

    def __init__(self, path: Path, store: SqliteStore, threaded: ThreadedStore) -> None:
        self._path = path
        self._store = store
        self._threaded = threaded
        # Also at first: a process may have been killed between the removal of rows and that of their contents.
        self._may_be_unreferred = True

    async def kept(self) -> KeptRows:
        """As `LogKeeper.kept`."""
        return await in_abandonable_thread(partial(_reading, self._path, kept_rows))

    async def export(self, directory: Path, before: datetime) -> Exported:
        """As `LogKeeper.export`."""
        return await in_own_process(export_months, self._path, directory, before)

    async def begin_at(self, start: LogStart) -> None:
        """As `LogKeeper.begin_at`."""
        await self._between_commits(partial(begin_log_at, start=start))

    async def remove(self) -> int:
        """As `LogKeeper.remove`."""
        removed = await self._between_commits(remove_dropped)
        if removed:
            self._may_be_unreferred = True
        elif self._may_be_unreferred and (await self.kept()).first_seq > 1:
            found = await in_abandonable_thread(partial(_reading, self._path, unreferred))
            removed = await self._between_commits(partial(remove_unreferred, found=found))
            self._may_be_unreferred = bool(removed)
        return removed

    async def _between_commits(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._threaded.between_commits(partial(self._store.between_commits, work))


def kept_rows(connection: Tables) -> KeptRows:
    """Return which rows the log has, and what needs them."""
    first = first_seq_of(connection)
    row = connection.execute(
        "SELECT ts FROM event_log WHERE seq >= ? ORDER BY seq LIMIT 1", (first,)
    ).fetchone()
    return KeptRows(first, None if row is None else time_of(row[0]), first_need(connection))


def export_months(path: Path, directory: Path, before: datetime) -> Exported:
    """Do what `LogKeeper.export` says with the database at `path`; it may be in use.

    Raises: ChainBroken, DamagedRow, ExportAltered, NotWritten, OSError, sqlite3.Error.
    """
    with closing(open_for_reading(path)) as connection:
        return export_whole_months(connection, directory, before)


def export_whole_months(tables: Tables, directory: Path, before: datetime) -> Exported:
    """Do what `LogKeeper.export` says with these tables, which may grow meanwhile. Raises: as `export_months`."""
    span = exportable(tables, before, whole_months=True)
    if not span.rows:
        return Exported(span)
    report = check_chain(tables)
    if report.problem is not None:
        raise ChainBroken(report.broken_at, report.problem)
    files = export(tables, directory, span)
    return Exported(span, files, start_after(tables, span))


def _reading(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    with closing(open_for_reading(path)) as connection:
        return work(connection)
