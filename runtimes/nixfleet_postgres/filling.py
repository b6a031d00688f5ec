"""Copies a whole SQLite store into an empty schema, in one transaction."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import anyio.to_thread

from nixfleet_control_plane.history.rebuild import DERIVED_VIEWS, ChainReport
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.stored_row import LOG_BEGINS_AT
from nixfleet_postgres.connecting import Connection, connected, permitted
from nixfleet_postgres.copies import CACHE, COLUMNS, ROWS_AT_ONCE, SHARD
from nixfleet_postgres.errors import SchemaNotEmpty
from nixfleet_postgres.target import Target
from nixfleet_postgres.texts import storable
from nixfleet_postgres.upgrading import make_schema

BYTES_AT_ONCE: Final = 4 * 1024 * 1024
_SIGNATURE: Final = LogRow._fields.index("signature")


async def fill(target: Target, source: sqlite3.Connection, chain: ChainReport) -> None:
    """Copy all of a SQLite store into the schema, made if it is not there. All of it is there in the end, or nothing.

    source: a connection that reads, as of one moment. chain: of its log, intact.
    Raises: PostgresUnusable, SchemaNotEmpty.
    """
    async with connected(target) as connection:
        await make_schema(target, connection)
        with permitted(target, "write to all tables of the store"):
            async with connection.transaction():
                # Whoever opens the store meanwhile waits for this row.
                made = await connection.fetchval(
                    "INSERT INTO shards (shard, epoch, holder, lease_until, head_seq, head_hash)"
                    " VALUES ($1, 0, 'a copy', clock_timestamp(), $2, $3) ON CONFLICT DO NOTHING RETURNING true",
                    SHARD,
                    chain.rows,
                    chain.head_hash,
                )
                if not made:
                    remedy = "name another `schema` in [store], or drop this one if its data is worth nothing"
                    raise SchemaNotEmpty(target.where, "no control plane's data", "a log", remedy)
                await _put_start(connection, source)
                await connection.execute("SELECT make_partitions($1)", chain.rows)
                for table in (*CACHE, *DERIVED_VIEWS):
                    await _put_all(connection, table, source.execute(f"SELECT * FROM {table}"))
                contents = source.execute("SELECT hash, text FROM contents")
                await _put_all(connection, "contents", contents)
                rows = source.execute(
                    f"SELECT {COLUMNS} FROM event_log WHERE seq >= {LOG_BEGINS_AT} ORDER BY seq"
                )
                await _put_all(connection, "event_log", map(_with_text_signature, rows))


async def _put_start(connection: Connection, source: sqlite3.Connection) -> None:
    """Let the log begin where that of the source does: its first rows may have been exported and dropped."""
    start = log_start(source)
    if start.first_seq > 1:
        await connection.execute(
            "SELECT begin_empty_log_at($1, $2, $3)", start.first_seq, start.prev_hash, start.views
        )


async def _put_all(connection: Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    left = iter(rows)
    while some := await anyio.to_thread.run_sync(_some, left):
        await connection.copy_records_to_table(table, records=some)


def _some(rows: Iterator[Sequence[object]]) -> list[Sequence[object]]:
    """Return the next rows: as many as are copied at once. Hosts decide how long theirs are."""
    some, size = list[Sequence[object]](), 0
    for row in rows:
        some.append(tuple(map(storable, row)))
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if size >= BYTES_AT_ONCE or len(some) == ROWS_AT_ONCE:
            break
    return some


def _with_text_signature(row: Sequence[object]) -> Sequence[object]:
    signature = row[_SIGNATURE]
    if isinstance(signature, bytes):
        return (*row[:_SIGNATURE], signature.hex(), *row[_SIGNATURE + 1 :])
    return row
