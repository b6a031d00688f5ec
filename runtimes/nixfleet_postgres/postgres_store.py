"""The PostgreSQL store: one connection, one statement per commit, and no transaction that stays open.

The statement compares epoch and head of the shard's row and sets what follows, so a process that another one has
replaced writes nothing, however long it stood still. `appending` makes its arguments.
Source: docs/how-to/running-on-postgresql.md; docs/spec/runtimes.md, Store.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import anyio.to_thread
import asyncpg
from attrs import frozen

from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.sqlite_store import snapshot_of
from nixfleet_control_plane.store.store import Snapshot
from nixfleet_postgres.appending import Appended, Head, appended
from nixfleet_postgres.connecting import CONNECTION_ERRORS, Connection, connect, permitted
from nixfleet_postgres.copies import SHARD, copy_for_a_start, empty_tables, one_moment
from nixfleet_postgres.errors import (
    AnotherOwner,
    NotReplicated,
    OlderState,
    PostgresUnusable,
    ServerFull,
)
from nixfleet_postgres.target import Target
from nixfleet_postgres.upgrading import PROGRAM, make_schema
from nixfleet_runtime.kernel.write_failures import OutcomeUnknown, OwnershipLost, Unreachable

LEASE: Final = timedelta(seconds=3)
"""How long an append says that its process is there, if no other time is given."""
ATTEMPTS: Final = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each attempt to connect again, while the outcome of a commit is not known."""
FENCED: Final = "NF001"
_WAITS_FOR_REPLICA: Final = "SyncRepWaitForLSN"
"""The function of the server that waits for a synchronous replica, and warns when that wait is cancelled."""
ROOM_MADE_EACH: Final = 1_000
"""How many rows apart it is asked whether the log needs another partition; `make_partitions` makes room for more."""
_APPEND: Final = "SELECT append($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21::jsonb)"


@frozen
class Owned:
    """The shard, as this process has it."""

    epoch: int
    head: Head


async def open_store(target: Target) -> "PostgresStore":
    """Return the store, which this process owns from now on: one that had it before can write no more.

    Makes the schema if there is none. Raises: PostgresUnusable, DamagedRow.
    """
    connection = await connect(target)
    try:
        await make_schema(target, connection)
        holder = secrets.token_hex(16)
        with permitted(target, "write to the table `shards`"):
            row = await connection.fetchrow(
                "INSERT INTO shards AS s (shard, epoch, holder, lease_until, head_seq, head_hash, program)"
                " VALUES ($1, 1, $2, clock_timestamp() + $3, 0, $4, $5) ON CONFLICT (shard) DO UPDATE"
                " SET epoch = s.epoch + 1, holder = $2, lease_until = clock_timestamp() + $3, program = $5"
                " RETURNING epoch, head_seq, head_hash",
                SHARD,
                holder,
                LEASE,
                FIRST_PREV_HASH,
                PROGRAM,
            )
        assert row is not None, "an upsert returns its row"
    except BaseException:
        connection.terminate()
        raise
    return PostgresStore(
        target, connection, holder, Owned(row["epoch"], Head(row["head_seq"], row["head_hash"]))
    )


class PostgresStore:
    """A `Store` under asyncio. Made by `open_store`, or by a take of the lease. One task uses it at a time.

    lease: how long each commit lets the lease run. reconnect: opens the connections after the first; `None`: as
    `connect`.
    """

    def __init__(
        self,
        target: Target,
        connection: Connection,
        holder: str,
        owned: Owned,
        *,
        lease: timedelta = LEASE,
        reconnect: Callable[[], Awaitable[Connection]] | None = None,
    ) -> None:
        self._target = target
        self._lease = lease
        self._reconnect = reconnect or partial(connect, target)
        self._is_warned = False
        self._use(connection)
        self._holder = holder
        self._owned = owned
        self._copy: sqlite3.Connection | None = None

    @property
    def epoch(self) -> int:
        """As `OwnedInTurn.epoch`."""
        return self._owned.epoch

    async def load(self) -> Snapshot:
        """Return everything committed. Raises: DamagedRow, DecodeError, Unreachable, OwnershipLost."""
        await self._reconnect_if_cut()
        self._forget_copy()
        # The tail is read while it is iterated, perhaps in another thread.
        self._copy = copy = await anyio.to_thread.run_sync(empty_tables)
        with permitted(self._target, "read the store's tables"):
            async with one_moment(self._connection):
                await copy_for_a_start(self._connection, copy)
        return snapshot_of(copy)

    async def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, atomically. Finds out itself what became of a commit whose answer is lost.

        Raises: Unreachable, AnotherOwner, OutcomeUnknown; OutOfOrder, errors of asyncpg, and then nothing has changed.
        """
        commit = appended(self._target.where, self._owned.head, writes)
        await self._reconnect_if_cut()
        try:
            await self._send(commit)
        except (*CONNECTION_ERRORS, NotReplicated) as error:
            if not await self._is_durable(commit, error):
                raise Unreachable(self._target.where, str(error) or type(error).__name__) from error
        self._owned = Owned(self._owned.epoch, commit.after)

    async def _send(self, commit: Appended) -> None:
        """Raises: AnotherOwner, NotReplicated; what the connection raises."""
        self._is_warned = False
        try:
            if commit.after.seq // ROOM_MADE_EACH != commit.before.seq // ROOM_MADE_EACH:
                await self._connection.execute("SELECT make_partitions($1)", commit.after.seq)
            await self._connection.execute(
                _APPEND, SHARD, self._owned.epoch, self._lease, *commit.arguments
            )
        except asyncpg.DiskFullError as error:
            remedy = "make room on the server, or raise its quota: commits go on by themselves"
            raise ServerFull(self._target.where, "room for a commit", str(error), remedy) from error
        except asyncpg.PostgresError as error:
            if error.sqlstate != FENCED:
                raise
            raise await self._lost() from error
        self._require_replicated()

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        connection.add_log_listener(self._note_warning)

    def _note_warning(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        # By the function that says it: its words are in the server's language.
        if message.server_source_function == _WAITS_FOR_REPLICA:
            self._is_warned = True

    def _require_replicated(self) -> None:
        """Raises: NotReplicated. The server's words come before the end of the statement that they are about."""
        if self._is_warned:
            raise NotReplicated(
                self._target.where,
                "a commit that a synchronous replica has",
                "a wait for it that was cancelled",
            )

    async def _lost(self) -> OwnershipLost:
        """Return the error that says whose the shard is."""
        row = await self._connection.fetchrow(
            "SELECT epoch, head_seq, holder FROM shards WHERE shard = $1", SHARD
        )
        owned = self._owned
        expected = f"epoch {owned.epoch}, row {owned.head.seq}"
        if row is None:
            return AnotherOwner(self._target.where, expected, "no shard")
        found = f"epoch {row['epoch']}, row {row['head_seq']}"
        if row["holder"] == self._holder and row["head_seq"] < owned.head.seq:
            return OlderState(self._target.where, expected, found)
        return AnotherOwner(self._target.where, expected, found)

    async def _is_durable(self, commit: Appended, doubt: Exception) -> bool:
        """Return whether a commit whose answer was lost is there. The store has a new connection then.

        Raises: AnotherOwner, OutcomeUnknown.
        """
        try:
            found = await self._taken_again()
            if found != commit.before or commit.has_rows:
                if found not in (commit.before, commit.after):
                    raise await self._lost()
                return found == commit.after
            # Cached records alone: written twice they are as written once, and the head does not tell.
            await self._send(commit)
        except OwnershipLost:
            raise
        except (*CONNECTION_ERRORS, PostgresUnusable, NotReplicated) as error:
            raise OutcomeUnknown(self._target.where, str(error)) from doubt
        return True

    async def _reconnect_if_cut(self) -> None:
        """Connect again if the connection is known to be closed: nothing was sent on it.

        Raises: Unreachable, AnotherOwner.
        """
        if not self._connection.is_closed():
            return
        try:
            found = await self._taken_again()
        except (*CONNECTION_ERRORS, PostgresUnusable, NotReplicated) as error:
            raise Unreachable(self._target.where, str(error)) from error
        if found != self._owned.head:
            raise await self._lost()

    async def _taken_again(self) -> Head:
        """Connect again, raise the own epoch, and return the log's head.

        The row's lock waits for a transaction that the lost connection left: after it, that one is there, or never
        will be. By the holder and not by the epoch, for this answer may be lost too.
        Raises: AnotherOwner; the last attempt's error.
        """
        self._connection.terminate()
        for attempt, pause in enumerate(ATTEMPTS, start=1):
            await asyncio.sleep(pause)
            try:
                self._use(await self._reconnect())
                self._is_warned = False
                row = await self._connection.fetchrow(
                    "UPDATE shards SET epoch = epoch + 1, lease_until = clock_timestamp() + $3"
                    " WHERE shard = $1 AND holder = $2 RETURNING epoch, head_seq, head_hash",
                    SHARD,
                    self._holder,
                    self._lease,
                )
                # It waits for the replica too, and what the replica has of the log it has up to here.
                self._require_replicated()
                break
            except (*CONNECTION_ERRORS, PostgresUnusable, NotReplicated):
                self._connection.terminate()
                if attempt == len(ATTEMPTS):
                    raise
        else:
            raise AssertionError("the last attempt raises")
        if row is None:
            raise await self._lost()
        head = Head(row["head_seq"], row["head_hash"])
        self._owned = Owned(row["epoch"], self._owned.head)
        return head

    async def close(self) -> None:
        """Close the connection at once: the server ends by itself what it was doing."""
        self._forget_copy()
        self._connection.terminate()

    def _forget_copy(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None
