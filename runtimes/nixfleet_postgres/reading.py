"""The read port of the PostgreSQL store: each question is SQL on a read-only connection beside the one that writes."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import asyncpg

from nixfleet_control_plane.history.rebuild import ChainReport, ViewsReport
from nixfleet_control_plane.history.retention.log_start import first_seq_of
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.sql_queries import SqlQueries
from nixfleet_control_plane.store.queries import HEAD, Query
from nixfleet_control_plane.store.tables import Tables
from nixfleet_postgres.blocking import BlockingTables, RowsWereDropped
from nixfleet_postgres.connecting import CONNECTION_ERRORS, Connection, connect
from nixfleet_postgres.copies import copy_views, empty_tables, one_moment
from nixfleet_postgres.dialect import arguments, in_postgresql, plain
from nixfleet_postgres.errors import PostgresUnusable
from nixfleet_postgres.moment_tables import MomentTables
from nixfleet_postgres.schema import require_schema
from nixfleet_postgres.target import Target
from nixfleet_runtime.process.progress import Noted, unnoted

T = TypeVar("T")

AT_ONCE_MAX: Final = 4
"""Questions that are answered at the same time; each has a connection of its own meanwhile."""
ERRORS: Final = (
    *CONNECTION_ERRORS,
    PostgresUnusable,
    RowsWereDropped,
    asyncpg.PostgresError,
)


class PostgresQueries(SqlQueries):
    """The `Queries` of a database that is in use: each answer is as of its question. Under asyncio only."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._at_once = anyio.CapacityLimiter(AT_ONCE_MAX)
        self._idle = list[Connection]()

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """As `Queries.verify`."""
        report = await super().verify(noted)
        if report.problem is not None:
            start = await self.log_start()
            if start.first_seq != report.first_seq:
                moved = RowsWereDropped(start.first_seq)
                raise NotReadable(self._target.where, str(moved)) from moved
        return report

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """As `Queries.rebuild`, of one moment."""
        async with self._at_once, moment(self._target) as queries:
            return await queries.rebuild(exported, noted)

    async def scan(self, work: Callable[[Tables], T]) -> T:
        """Return the result of `work`, which reads. Raises: NotReadable, what `work` raises."""
        return await self._scan(work)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().terminate()

    async def _answer(self, query: Query[T]) -> T:
        async with self._connection() as connection:
            rows = await connection.fetch(in_postgresql(query.sql), *arguments(query.values))
        return query.read(plain(rows))

    async def _scan(self, work: Callable[[Tables], T]) -> T:
        async with self._connection() as connection:
            return await anyio.to_thread.run_sync(work, BlockingTables(connection))

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        """Give a connection, and keep it for the next question, unless this one fails. Raises: NotReadable."""
        async with self._at_once:
            with as_not_readable(self._target):
                while self._idle and self._idle[-1].is_closed():
                    self._idle.pop()
                connection = self._idle.pop() if self._idle else await connect_to_read(self._target)
                try:
                    yield connection
                except BaseException:
                    connection.terminate()
                    raise
            self._idle.append(connection)


@asynccontextmanager
async def moment(target: Target) -> AsyncGenerator["PostgresMoment"]:
    """Open the store as it is now: later commits are not seen. Raises: NotReadable.

    The views are as many as hosts, and are copied into memory at once. Rows of the log do not change, so they are read
    in the database, up to the last one: no transaction stays open, which would hold up the server's clearing away.
    """
    async with AsyncExitStack() as held:
        with as_not_readable(target):
            connection = await connect_to_read(target)
            held.callback(connection.terminate)
            views = held.enter_context(closing(await anyio.to_thread.run_sync(empty_tables)))
            async with one_moment(connection):
                head_seq = int(await connection.fetchval(in_postgresql(HEAD.sql)))
                await copy_views(connection, views)
        yield PostgresMoment(target, connection, views, head_seq)


class PostgresMoment(SqlQueries):
    """The `Queries` of one moment. connection: to the database; views: a copy of them; head_seq: the last row."""

    def __init__(
        self, target: Target, connection: Connection, views: sqlite3.Connection, head_seq: int
    ) -> None:
        self._target = target
        log = BlockingTables(connection, first_seq_of(views), head_seq)
        self._tables = MomentTables(views, log)
        self._one_at_a_time = anyio.Lock()

    async def _answer(self, query: Query[T]) -> T:
        return await self._scan(query.of)

    async def _scan(self, work: Callable[[Tables], T]) -> T:
        async with self._one_at_a_time:
            with as_not_readable(self._target):
                return await anyio.to_thread.run_sync(work, self._tables)


async def connect_to_read(target: Target, file: Path | None = None) -> Connection:
    """Return a connection that can change nothing. Raises: as `connect` and `require_schema`."""
    connection = await connect(target, file)
    try:
        await require_schema(target, connection)
        await connection.execute("SET default_transaction_read_only = on")
    except BaseException:
        connection.terminate()
        raise
    return connection


@contextmanager
def as_not_readable(target: Target) -> Iterator[None]:
    """Give what goes wrong between this process and the database the name that readers know. Raises: NotReadable."""
    try:
        yield
    except ERRORS as error:
        raise NotReadable(target.where, str(error) or type(error).__name__) from error
