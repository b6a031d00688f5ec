"""The read port of the PostgreSQL store.

While the control plane runs, a mirror of the log answers, which each question brings up to the log's end. What judges
the database itself, and the commands beside the control plane, read a copy of all its tables as of one moment.
"""

import sqlite3
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio.to_thread
import asyncpg

from nixfleet_control_plane.history.rebuild import ChainReport, ViewsReport
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.mirrored_queries import MirroredQueries
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.stored_row import LOG_COLUMNS, whole_payload
from nixfleet_postgres.connecting import Connection, connect, connected
from nixfleet_postgres.copies import (
    ALL_ROWS,
    ROWS_AT_ONCE,
    contents_named,
    contents_of,
    copy_tables,
    one_moment,
)
from nixfleet_postgres.errors import PostgresUnusable
from nixfleet_postgres.schema import require_schema
from nixfleet_postgres.target import Target
from nixfleet_postgres.texts import restored
from nixfleet_runtime.process.progress import Noted, unnoted

_PAGE: Final = f"SELECT {LOG_COLUMNS} FROM event_log WHERE seq > $1 ORDER BY seq LIMIT $2"
_ERRORS: Final = (OSError, PostgresUnusable, asyncpg.PostgresError, asyncpg.InterfaceError)


@asynccontextmanager
async def copied(target: Target) -> AsyncGenerator[SqliteQueries]:
    """Copy the whole database to a temporary file, as of one moment, and answer from that. Raises: NotReadable."""
    with TemporaryDirectory(prefix="nixfleet-") as directory:
        path = Path(directory) / "copy.sqlite"
        await anyio.to_thread.run_sync(_make_empty, path)
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as copy:
            copy.execute("PRAGMA synchronous=OFF")  # The file does not outlive the process.
            try:
                async with connected(target) as connection:
                    await require_schema(target, connection)
                    async with one_moment(connection):
                        await copy_tables(connection, copy, ALL_ROWS)
            except _ERRORS as error:
                raise NotReadable(target.where, str(error) or type(error).__name__) from error
        yield SqliteQueries(path)


def _make_empty(path: Path) -> None:
    SqliteStore(path).close()


class PostgresQueries(MirroredQueries):
    """The `Queries` of the process that has the store. directory: an empty one, for the mirror."""

    def __init__(self, target: Target, directory: Path) -> None:
        super().__init__(self._rows_after_seq, directory)
        self._target = target
        self._connection: Connection | None = None

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """Return how far the database's own chain is as it was written. Copies the database."""
        async with copied(self._target) as copy:
            return await copy.verify(noted)

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """Return where the database's own views differ from those that its log gives. Copies the database."""
        async with copied(self._target) as copy:
            return await copy.rebuild(exported, noted)

    def close(self) -> None:
        """Close the mirror and the connection."""
        super().close()
        if self._connection is not None:
            self._connection.terminate()

    async def _rows_after_seq(self, seq: int, limit: int = ROWS_AT_ONCE) -> Sequence[LogRow]:
        async with self._asking() as connection:
            stored = [
                LogRow._make(map(restored, row))
                for row in await connection.fetch(_PAGE, seq, min(limit, ROWS_AT_ONCE))
            ]
            artefacts = (row.payload for row in stored if row.kind == "artefact_accepted")
            wanted = {name for payload in artefacts for name in contents_of(payload)}
            contents = await contents_named(connection, [*wanted]) if wanted else {}
        return [_whole(row, contents) for row in stored]

    async def _head_seq(self) -> int:
        async with self._asking() as connection:
            return int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM event_log"))

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[Connection]:
        """Give the connection, made anew if it was lost. Raises: NotReadable."""
        try:
            connection = self._connection
            if connection is None or connection.is_closed():
                self._connection = connection = await connect(self._target)
            yield connection
        except _ERRORS as error:
            if self._connection is not None:
                self._connection.terminate()
            raise NotReadable(self._target.where, str(error) or type(error).__name__) from error


class FollowedQueries(PostgresQueries):
    """The `Queries` of a process beside, which follows the log: its rows come from the database, and no mirror of all
    of them is made. Asked by one task at a time.
    """

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        """As `Queries.log_rows`."""
        if rollout_id is not None:
            return await super().log_rows(rollout_id, after_seq=after_seq, limit=limit)
        return tuple(await self._rows_after_seq(after_seq, limit))

    async def head(self) -> int:
        """As `Queries.head`."""
        return await self._head_seq()


def _whole(row: LogRow, contents: Mapping[str, str]) -> LogRow:
    try:
        return row._replace(payload=whole_payload(row, contents))
    except Exception as error:  # Also if the references themselves were altered.
        raise DamagedRow(row.seq, row.kind, str(error)) from error
