"""The read port of the SQLite store: each call on a read-only connection of its own, through aiosqlite.

Calls that read the whole log run in a worker thread.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.sql_queries import SqlQueries
from nixfleet_control_plane.store.queries import Query, open_for_reading
from nixfleet_control_plane.store.tables import Tables
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused

T = TypeVar("T")

AT_ONCE_MAX: Final = 4
"""More readers at once only wait for each other: SQLite and the interpreter share one processor with the writer."""


class NeedsAsyncio(NixfleetError):
    """The event loop is not asyncio's. Attributes: `what`."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} expects an event loop of asyncio, found another one: aiosqlite runs under no other"


class SqliteQueries(SqlQueries):
    """The `Queries` of the database at `path`, which may be in use. Runs under asyncio only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at_once = anyio.CapacityLimiter(AT_ONCE_MAX)

    async def _answer(self, query: Query[T]) -> T:
        async with self._at_once, self._connected() as connection:
            return query.read(await connection.execute_fetchall(query.sql, query.values))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiosqlite.Connection]:
        _require_asyncio()
        with _as_not_readable(self._path):
            # Its thread answers to this event loop, so a question that is cancelled is not left before it is through:
            # the loop may be closed next.
            with anyio.CancelScope(shield=True) as scope:
                connection = await aiosqlite.Connection(
                    partial(open_for_reading, self._path), iter_chunk_size=1024
                )
                try:
                    scope.shield = False
                    yield connection
                finally:
                    scope.shield = True
                    await connection.close()

    async def _scan(self, work: Callable[[Tables], T]) -> T:
        """Return the result of `work`, which reads much: one moment of the database, in a worker thread."""

        def scan() -> T:
            with (
                _as_not_readable(self._path),
                closing(open_for_reading(self._path)) as connection,
            ):
                connection.execute("BEGIN")
                return work(connection)

        return await anyio.to_thread.run_sync(scan, limiter=self._at_once)


@asynccontextmanager
async def one_moment(path: Path) -> AsyncIterator["OneMoment"]:
    """Open the database at `path`, which may be in use, as it is now: later commits are not seen.

    Its calls block the event loop: it is for a process that does nothing else meanwhile.
    Raises: FileNotFoundError, NotOurDatabase, SchemaRefused, NotUpgraded, sqlite3.Error.
    """
    with closing(open_for_reading(path)) as connection:
        connection.execute("BEGIN")
        yield OneMoment(path, connection)


class OneMoment(SqliteQueries):
    """The `Queries` of one moment of a database. connection: in a transaction, which began the moment."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path)
        self._path = path
        self._connection = connection

    async def _answer(self, query: Query[T]) -> T:
        return await self._scan(query.of)

    async def _scan(self, work: Callable[[Tables], T]) -> T:
        with _as_not_readable(self._path):
            return work(self._connection)


@contextmanager
def _as_not_readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, NotOurDatabase, SchemaRefused, FileNotFoundError) as error:
        raise NotReadable(str(path), str(error)) from error


def _require_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise NeedsAsyncio("the read port of SQLite") from None
