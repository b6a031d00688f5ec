"""The read port of the SQLite store: each call on a read-only connection of its own, through aiosqlite.

What is asked, and what the rows mean, is in `store.queries`. Calls that read the whole log run in a worker thread.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.rebuild import (
    ChainReport,
    ViewsReport,
    check_chain,
    check_views,
)
from nixfleet_control_plane.history.retention.log_start import LogStart, log_start
from nixfleet_control_plane.messages.log_entry import LoggedEntry, LogRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.store import queries
from nixfleet_control_plane.store.queries import (
    ALL,
    LastCommands,
    Quarantined,
    Query,
    Waiting,
    open_for_reading,
)
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.state import RolloutRecord

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


class SqliteQueries:
    """The `Queries` of the database at `path`, which may be in use. Runs under asyncio only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at_once = anyio.CapacityLimiter(AT_ONCE_MAX)

    async def rollouts(self, *, after_seq: int = 0, limit: int = ALL) -> tuple[RolloutRecord, ...]:
        """Return the records of rollouts opened after log row `after_seq`, oldest first, pruned ones included."""
        return await self._answer(queries.rollouts_query(after_seq=after_seq, limit=limit))

    async def hosts(self) -> tuple[HostRolloutState, ...]:
        """Return the host records of rollouts that are not pruned, by the log, ordered by rollout and name."""
        # The table of host records is written behind.
        view = (await self.status()).view
        records = (record for each in view.rollouts for record in view.hosts_of(each))
        return tuple(sorted(records, key=lambda record: (record.rollout_id, record.hostname)))

    async def deferrals(
        self, *, after: tuple[str, str] | None = None, limit: int = ALL
    ) -> tuple[Waiting, ...]:
        """Return the held hosts, ordered by rollout and host, after the given rollout and host."""
        return await self._answer(queries.deferrals_query(after=after, limit=limit))

    async def quarantines(self) -> tuple[Quarantined, ...]:
        """Return every quarantine, oldest first."""
        return await self._answer(queries.QUARANTINES)

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        """Return up to `limit` log rows after `after_seq`, oldest first; of one rollout, if it is given."""
        found = queries.log_rows_query(rollout_id, after_seq=after_seq, limit=limit)
        return await self._answer(found)

    async def host_rows(
        self, rollout_id: RolloutId, hostname: str, *, limit: int
    ) -> tuple[LogRow, ...]:
        """Return the latest log rows about a host in a rollout, the newest first. Rows of long ago may be left out."""
        return await self._answer(queries.host_rows_query(rollout_id, hostname, limit=limit))

    async def waiting_of(self, hostname: str) -> tuple[Waiting, ...]:
        """Return why a host is held, by rollout, and since when; nothing for one that is not."""
        return await self._answer(queries.waiting_of_query(hostname))

    async def left_at(self, rollout_id: RolloutId, hostname: str) -> datetime | None:
        """Return when the host left the rollout for the last time; `None` if no row says so."""
        return await self._answer(queries.left_at_query(rollout_id, hostname))

    async def last_commands(self, rows_max: int) -> LastCommands:
        """Return the operator commands among the last `rows_max` log rows."""
        return await self._answer(queries.last_commands_query(rows_max))

    async def refused_artefacts(self) -> tuple[LoggedEntry, ...]:
        """Return the artefacts refused since the latest one that was put in force, by name."""
        return await self._scan(queries.refused_artefacts)

    async def status(self) -> State:
        """Return the state at the end of the log. Raises: DamagedRow."""
        return await self._scan(lambda connection: Follower(connection).read_all())

    async def head(self) -> int:
        """Return the number of the last row of the log; 0 if it has none."""
        return await self._answer(queries.HEAD)

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """Return how far the hash chain of the log is intact. noted: so many more rows were read."""
        return await self._scan(partial(check_chain, noted=noted))

    async def log_start(self) -> LogStart:
        """Return where the log begins: `WHOLE`, unless its first rows were exported and dropped."""
        return await self._scan(log_start)

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """Return where the stored views differ from those that the log gives. Raises: DamagedRow.

        exported: the rows before the first one of the log; without them it begins with the views of `log_start`.
        noted: so many more rows were replayed.
        """
        return await self._scan(partial(check_views, exported=exported, noted=noted))

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

    async def _scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
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

    async def _scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
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
