"""Exports the beginning of the log, and drops it: what is before a whole month that is exported goes by its partition.

What drops is the owner of the tables, by `owner_dsn_file` if the store's own role is another one: that role may delete
nothing. A step that was interrupted is found by the next look, and done again or finished.
Source: docs/how-to/running-on-postgresql.md, Old rows.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import anyio.to_thread
import asyncpg
from attrs import frozen

from nixfleet_control_plane.history.retention.dropping import StartDiffers
from nixfleet_control_plane.history.retention.keeper import (
    Exported,
    KeptRows,
    export_whole_months,
    kept_rows,
)
from nixfleet_control_plane.history.retention.log_start import LogStart
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.store.stored_row import LOG_BEGINS_AT
from nixfleet_postgres.blocking import BlockingTables, RowsWereDropped
from nixfleet_postgres.connecting import CONNECTION_ERRORS, Connection, connect, permitted
from nixfleet_postgres.copies import SHARD
from nixfleet_postgres.errors import NotDropped
from nixfleet_postgres.reading import PostgresQueries, as_not_readable, connect_to_read
from nixfleet_postgres.schema import require_schema
from nixfleet_postgres.target import Target
from nixfleet_runtime.process.own_process import in_own_process

ExportIn: TypeAlias = Callable[[Target, Path, datetime], Awaitable[Exported]]
LOCK_SECONDS_MAX: Final = 10
"""How long a step waits for sessions that read what is to go; the next look tries again."""
CONTENTS_AT_ONCE: Final = 100


@frozen
class Partition:
    """A partition of the log. is_attached: whether it is still one; is_leaving: whether its removal was interrupted."""

    first_seq: int
    end_seq: int
    is_attached: bool
    is_leaving: bool

    @property
    def table(self) -> str:
        return f"event_log_{self.first_seq}"


async def export_here(target: Target, directory: Path, before: datetime) -> Exported:
    """Export in this process. Raises: NotReadable, and as `export_whole_months`."""
    with as_not_readable(target):
        connection = await connect_to_read(target)
    try:
        work = partial(export_whole_months, BlockingTables(connection), directory, before)
        return await anyio.to_thread.run_sync(work)
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        RowsWereDropped,
    ) as error:
        raise NotReadable(target.where, str(error) or type(error).__name__) from error
    finally:
        connection.terminate()


def _export(target: Target, directory: Path, before: datetime) -> Exported:
    return anyio.run(export_here, target, directory, before)


async def export_in_own_process(target: Target, directory: Path, before: datetime) -> Exported:
    """Export in a process of its own: what runs beside commits must not hold them up. Raises: WorkFailed."""
    return await in_own_process(_export, target, directory, before)


class PostgresLogKeeper:
    """The `LogKeeper` of a schema that is in use. export_in: where rows are exported."""

    def __init__(
        self,
        target: Target,
        queries: PostgresQueries,
        export_in: ExportIn = export_in_own_process,
    ) -> None:
        self._target = target
        self._queries = queries
        self._export_in = export_in
        # Also at first: a process may have been killed between the removal of rows and that of their contents.
        self._may_be_unreferred = True

    async def kept(self) -> KeptRows:
        """As `LogKeeper.kept`."""
        return await self._queries.scan(kept_rows)

    async def export(self, directory: Path, before: datetime) -> Exported:
        """As `LogKeeper.export`."""
        return await self._export_in(self._target, directory, before)

    async def begin_at(self, start: LogStart) -> None:
        """As `LogKeeper.begin_at`. Raises: StartDiffers, PostgresUnusable."""
        async with self._owner() as owner, owner.transaction():
            # One at a time, and the rows that are compared stay until it is done.
            await owner.execute("LOCK TABLE log_start IN SHARE ROW EXCLUSIVE MODE")
            if await owner.fetchval(f"SELECT {LOG_BEGINS_AT}") >= start.first_seq:
                return
            last = start.first_seq - 1
            found = await owner.fetchval("SELECT hash FROM event_log WHERE seq = $1", last)
            if found != start.prev_hash:
                raise StartDiffers(last, start.prev_hash, found)
            await owner.execute(
                "INSERT INTO log_start VALUES (1, $1, $2, $3) ON CONFLICT (single) DO UPDATE"
                " SET first_seq = excluded.first_seq, prev_hash = excluded.prev_hash, views = excluded.views",
                start.first_seq,
                start.prev_hash,
                start.views,
            )

    async def remove(self) -> int:
        """As `LogKeeper.remove`: a partition, or some contents. Rows of one that has later rows too stay until it goes.

        Raises: PostgresUnusable.
        """
        async with self._owner() as owner:
            gone = await _partition_that_can_go(owner)
            if gone is not None:
                await _drop(owner, gone)
                self._may_be_unreferred = True
                return gone.end_seq - gone.first_seq
            if not self._may_be_unreferred or await owner.fetchval(f"SELECT {LOG_BEGINS_AT}") == 1:
                return 0
            removed = await _remove_unreferred(owner)
            self._may_be_unreferred = bool(removed)
            return removed

    @asynccontextmanager
    async def _owner(self) -> AsyncGenerator[Connection]:
        """Connect as the owner of the tables. Raises: NotDropped, PostgresUnusable."""
        target = self._target
        owner = await connect(target, target.owner_dsn_file)
        try:
            with permitted(target, "drop rows of the log, as its owner can"):
                await require_schema(target, owner)
                await owner.execute(f"SET lock_timeout = '{LOCK_SECONDS_MAX * 1000:.0f}ms'")
                yield owner
        except asyncpg.LockNotAvailableError as error:
            remedy = "end sessions that read it for long (pg_stat_activity); it is tried again"
            expected = f"the log to be free within {LOCK_SECONDS_MAX} s"
            raise NotDropped(target.where, expected, str(error), remedy) from error
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            found = str(error) or type(error).__name__
            raise NotDropped(
                target.where, "a step to succeed", found, "it is tried again"
            ) from error
        finally:
            owner.terminate()


async def _partition_that_can_go(owner: Connection) -> Partition | None:
    """Return the oldest partition all of whose rows are before the beginning of the log."""
    row = await owner.fetchrow(
        "SELECT p.first_seq, p.end_seq, i.inhrelid IS NOT NULL AS is_attached,"
        " coalesce(i.inhdetachpending, false) AS is_leaving"
        " FROM log_partitions AS p LEFT JOIN pg_inherits AS i"
        " ON i.inhrelid = to_regclass('event_log_' || p.first_seq) AND i.inhparent = 'event_log'::regclass"
        f" WHERE p.end_seq <= {LOG_BEGINS_AT} ORDER BY p.first_seq LIMIT 1"
    )
    return None if row is None else Partition(**row)


async def _drop(owner: Connection, partition: Partition) -> None:
    """Drop a partition. Killed between two steps, the next call goes on.

    Detached concurrently: a plain DROP waits for all who read the log, and lets no commit through meanwhile.
    """
    if partition.is_leaving:
        await owner.execute(f"ALTER TABLE event_log DETACH PARTITION {partition.table} FINALIZE")
    elif partition.is_attached:
        await owner.execute(
            f"ALTER TABLE event_log DETACH PARTITION {partition.table} CONCURRENTLY"
        )
    async with owner.transaction():
        await owner.execute(f"DROP TABLE IF EXISTS {partition.table}")
        await owner.execute("DELETE FROM log_partitions WHERE first_seq = $1", partition.first_seq)


async def _remove_unreferred(owner: Connection) -> int:
    """Remove some of the contents that only rows which were removed referred to; return how many."""
    async with owner.transaction(isolation="repeatable_read", readonly=True):
        head_seq = await owner.fetchval("SELECT coalesce(max(seq), 0) FROM event_log")
        found = await owner.fetch(
            "SELECT hash FROM contents EXCEPT SELECT * FROM referred_contents(0) LIMIT $1",
            CONTENTS_AT_ONCE,
        )
    async with owner.transaction():
        # No commit meanwhile: a release that is signed again refers to contents that are there.
        await owner.execute("SELECT FROM shards WHERE shard = $1 FOR UPDATE", SHARD)
        await owner.execute("SET LOCAL nixfleet.removing = 'contents'")
        done: str = await owner.execute(
            "DELETE FROM contents WHERE hash = ANY($1) AND hash NOT IN (SELECT * FROM referred_contents($2))",
            [name for (name,) in found],
            head_seq,
        )
    return int(done.split()[-1])
