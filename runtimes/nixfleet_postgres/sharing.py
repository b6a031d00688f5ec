"""The PostgreSQL store as several control planes share it: `SharedStore`.

A process has three sessions: the side one looks, reads new rows, renews and hears of commits; the doorbell's holds an
advisory lock, or waits for it; the store's own commits, once the lease was taken. All have one application name, drawn
by the process, so that the server shows when all of them have ended.
Source: docs/spec/leadership.md, The lease; docs/how-to/standbys.md.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import anyio
import anyio.to_thread
import asyncpg

from nixfleet_control_plane.leadership.lease import LeaseSeen
from nixfleet_control_plane.leadership.shared_store import (
    FollowedSnapshot,
    LogForked,
    LogHead,
    TakenStore,
)
from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH, LogRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.store.sqlite_store import snapshot_of
from nixfleet_postgres.appending import Head
from nixfleet_postgres.connecting import CONNECTION_ERRORS, Connection, connect, permitted
from nixfleet_postgres.copies import ROWS_AT_ONCE, SHARD, copy_for_a_start, empty_tables, one_moment
from nixfleet_postgres.errors import LeaseTaken, PostgresUnusable
from nixfleet_postgres.postgres_store import Owned, PostgresStore
from nixfleet_postgres.reading import PostgresQueries, as_not_readable, connect_to_read
from nixfleet_postgres.target import Target
from nixfleet_postgres.upgrading import PROGRAM, make_schema
from nixfleet_runtime.kernel.write_failures import Unreachable

NOBODY: Final = ""
"""The holder of a lease that was never taken."""
SESSIONS: Final = "nixfleet "
"""What the application name of a process's sessions begins with; its holder follows."""
_DOORBELL: Final = 0x6E666470
"""The first key of the advisory lock, "nfdp"; the second is made from the schema's name."""
_LOOK: Final = (
    "SELECT epoch, holder, coalesce(url, '') AS url, head_seq,"
    " extract(epoch FROM lease_until - clock_timestamp())::float8 AS seconds_left,"
    " EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $2 || s.holder) AS is_there"
    " FROM shards AS s WHERE shard = $1"
)
_TAKE: Final = (
    "UPDATE shards SET epoch = epoch + 1, holder = $2, url = $3, lease_until = clock_timestamp() + $4, program = $7"
    " WHERE shard = $1 AND epoch = $5 AND (lease_until <= clock_timestamp() OR $6)"
    " RETURNING epoch, head_seq, head_hash"
)
_RENEW: Final = (
    "UPDATE shards SET lease_until = clock_timestamp() + $3 WHERE shard = $1 AND holder = $2"
    " RETURNING epoch"
)
_HAND_OVER: Final = (
    "UPDATE shards SET epoch = epoch + 1, holder = $3, url = NULL, lease_until = clock_timestamp()"
    " WHERE shard = $1 AND holder = $2"
)


@asynccontextmanager
async def open_share(target: Target, lease_seconds: float) -> AsyncIterator["PostgresShare"]:
    """Open a part in the store of `target`, and close it at the end. Makes the schema if there is none; takes nothing.

    Raises: PostgresUnusable.
    """
    share = PostgresShare(target, lease_seconds)
    try:
        await share.prepare()
        yield share
    finally:
        await share.close()


async def lease_of(target: Target) -> LeaseSeen:
    """Return the lease as it is now; that of nobody, if no control plane has started. Raises: NotReadable."""
    with as_not_readable(target):
        connection = await connect_to_read(target)
        try:
            row = await connection.fetchrow(_LOOK, SHARD, SESSIONS)
        finally:
            connection.terminate()
    return LeaseSeen(0, NOBODY, "", 0.0, 0) if row is None else _seen(row)


def _seen(row: asyncpg.Record, *, is_abandoned: bool = False) -> LeaseSeen:
    return LeaseSeen(
        row["epoch"], row["holder"], row["url"], row["seconds_left"], row["head_seq"], is_abandoned
    )


class PostgresShare:
    """A `SharedStore` under asyncio. Made by `open_share`."""

    def __init__(self, target: Target, lease_seconds: float) -> None:
        self._target = target
        self._lease = timedelta(seconds=lease_seconds)
        self._holder = secrets.token_hex(16)
        self._on_break: Callable[[], None] = lambda: None
        self._side: Connection | None = None
        self._side_lock = anyio.Lock()
        self._door: Connection | None = None
        self._store: PostgresStore | None = None
        self._copy: sqlite3.Connection | None = None
        self._queries = PostgresQueries(target)
        self._grown = asyncio.Event()
        # The holder whose sessions the side session has seen: what it saw end, it saw before.
        self._seen_there: str | None = None
        self._own: set[Connection] = set()

    @property
    def lease_seconds(self) -> float:
        """As `SharedStore.lease_seconds`."""
        return self._lease.total_seconds()

    def when_broken(self, call: Callable[[], None]) -> None:
        """As `SharedStore.when_broken`."""
        self._on_break = call

    async def prepare(self) -> None:
        """Make the schema, and the row of the lease, if they are not there. Raises: PostgresUnusable."""
        connection = await self._connect()
        try:
            await make_schema(self._target, connection)
            with permitted(self._target, "write to the table `shards`"):
                await connection.execute(
                    "INSERT INTO shards (shard, epoch, holder, lease_until, head_seq, head_hash)"
                    " VALUES ($1, 0, $2, clock_timestamp(), 0, $3) ON CONFLICT DO NOTHING",
                    SHARD,
                    NOBODY,
                    FIRST_PREV_HASH,
                )
        finally:
            self._end(connection)

    # For followers.

    async def look(self) -> LeaseSeen:
        """As `SharedStore.look`."""
        async with self._side_session() as side:
            row = await side.fetchrow(_LOOK, SHARD, SESSIONS)
        assert row is not None, "prepared, and never deleted"
        holder: str = row["holder"]
        is_abandoned = holder == self._seen_there and not row["is_there"]
        if row["is_there"]:
            self._seen_there = holder
        return _seen(row, is_abandoned=is_abandoned)

    async def snapshot(self, *, from_log: bool = False) -> FollowedSnapshot:
        """As `SharedStore.snapshot`."""
        self._forget_copy()
        with self._reaching():
            connection = await self._connect()
            try:
                # The tail is read while it is iterated, perhaps in another thread.
                self._copy = copy = await anyio.to_thread.run_sync(empty_tables)
                with permitted(self._target, "read the store's tables"):
                    async with one_moment(connection):
                        head = await connection.fetchrow(
                            "SELECT head_seq, head_hash FROM shards WHERE shard = $1", SHARD
                        )
                        await copy_for_a_start(connection, copy, from_log=from_log)
            finally:
                self._end(connection)
        assert head is not None, "prepared, and never deleted"
        return FollowedSnapshot(snapshot_of(copy), LogHead(head["head_seq"], head["head_hash"]))

    async def rows_after(self, head: LogHead) -> Sequence[LogRow]:
        """As `SharedStore.rows_after`."""
        async with self._side_session() as side:
            if head.seq:
                found = await side.fetchval("SELECT hash FROM event_log WHERE seq = $1", head.seq)
                if found != head.hash:
                    what = "none" if found is None else f"hash {found.hex()[:16]}…"
                    raise LogForked(
                        self._target.where, f"row {head.seq}, hash {head.hash.hex()[:16]}…", what
                    )
        with self._reaching():
            return await self._queries.log_rows(None, after_seq=head.seq, limit=ROWS_AT_ONCE)

    async def grown(self) -> None:
        """As `SharedStore.grown`."""
        await self._grown.wait()
        self._grown.clear()

    async def rung(self) -> None:
        """As `SharedStore.rung`. While this process has the doorbell: waits until its session breaks, then again."""
        if self._door is not None:
            closed = asyncio.Event()
            self._door.add_termination_listener(lambda _: closed.set())
            if not self._door.is_closed():
                await closed.wait()
            self._door = None
        with self._reaching():
            door = await self._connect()
            try:
                # A wait that lasts for weeks is what it is for.
                await door.execute(
                    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0"
                )
                # Without, a session that waits for a lock outlives its process. Not every platform has it.
                with suppress(asyncpg.PostgresError):
                    await door.execute("SET client_connection_check_interval = '200ms'")
                await door.fetchval(
                    "SELECT pg_advisory_lock($1, hashtext($2))", _DOORBELL, self._target.schema
                )
            except BaseException:
                self._end(door)
                raise
            self._door = door

    # For who takes the lease.

    async def take(self, seen: LeaseSeen, url: str) -> TakenStore | None:
        """As `SharedStore.take`."""
        with self._reaching():
            connection = await self._connect()
            try:
                with permitted(self._target, "write to the table `shards`"):
                    row = await connection.fetchrow(
                        _TAKE,
                        SHARD,
                        self._holder,
                        url,
                        self._lease,
                        seen.epoch,
                        seen.is_abandoned,
                        PROGRAM,
                    )
            except BaseException:
                self._end(connection)
                raise
        if row is None:
            self._end(connection)
            return None
        head = Head(row["head_seq"], row["head_hash"])
        self._store = PostgresStore(
            self._target,
            connection,
            self._holder,
            Owned(row["epoch"], head),
            lease=self._lease,
            reconnect=self._connect,
        )
        return TakenStore(self._store, row["epoch"], LogHead(head.seq, head.hash))

    async def renew(self) -> None:
        """As `SharedStore.renew`. By the holder: a store that found out about a lost answer has raised the epoch."""
        async with self._side_session() as side:
            if await side.fetchval(_RENEW, SHARD, self._holder, self._lease) is None:
                found = await side.fetchval(
                    "SELECT 'epoch ' || epoch FROM shards WHERE shard = $1", SHARD
                )
                raise LeaseTaken(self._target.where, "the lease of this process", found or "none")

    async def announce(self) -> None:
        """As `SharedStore.announce`. On a session of its own: within the commit's it would cost other writers dear."""
        async with self._side_session() as side:
            await side.execute("SELECT pg_notify($1, '')", self._channel)

    async def hand_over(self) -> None:
        """As `SharedStore.hand_over`."""
        async with self._side_session() as side:
            await side.execute(_HAND_OVER, SHARD, self._holder, NOBODY)
        await self.leave()

    async def leave(self) -> None:
        """As `SharedStore.leave`."""
        if self._store is not None:
            await self._store.close()
            self._store = None
        if self._door is not None:
            self._end(self._door)

    async def close(self) -> None:
        """End all sessions at once."""
        await self.leave()
        self._queries.close()
        self._forget_copy()
        for connection in [*self._own]:
            self._end(connection)

    # Sessions.

    @property
    def _channel(self) -> str:
        return f"{SESSIONS}{self._target.schema}"[:63]

    async def _connect(self) -> Connection:
        """Return a new session, whose end is noticed. Raises: PostgresUnusable."""
        connection = await connect(self._target, name=f"{SESSIONS}{self._holder}")
        self._own.add(connection)
        connection.add_termination_listener(lambda _: self._broke(connection))
        return connection

    def _broke(self, connection: Connection) -> None:
        if connection in self._own:
            self._own.discard(connection)
            self._on_break()

    def _end(self, connection: Connection) -> None:
        self._own.discard(connection)
        connection.terminate()

    @asynccontextmanager
    async def _side_session(self) -> AsyncIterator[Connection]:
        """The session for what is short; a broken one is opened again. Raises: Unreachable."""
        async with self._side_lock:
            with self._reaching():
                side = self._side
                if side is None or side.is_closed():
                    self._seen_there = None
                    side = await self._connect()
                    await side.add_listener(self._channel, self._heard)
                    self._side = side
                try:
                    yield side
                except anyio.get_cancelled_exc_class():
                    self._end(side)  # The answer may still come, or never.
                    raise

    def _heard(self, *_: object) -> None:
        self._grown.set()

    def _reaching(self) -> "_Reaching":
        return _Reaching(self._target.where)

    def _forget_copy(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None


class _Reaching:
    """Gives failures of sessions the name that all stores have for them."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (*CONNECTION_ERRORS, PostgresUnusable, NotReadable)):
            raise Unreachable(self._where, str(error) or type(error).__name__) from error
