"""Copies a store's tables from PostgreSQL into a SQLite database of the same tables, as of one moment.

So what loads a state, and what compares views, is written once: both read the copy, which is as large as the fleet.
"""

import sqlite3
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio.to_thread
import orjson

from nixfleet_control_plane.history.rebuild import DERIVED_VIEWS
from nixfleet_control_plane.history.retention.log_start import WHOLE, views_at
from nixfleet_control_plane.store.stored_row import LOG_BEGINS_AT, LOG_COLUMNS, PUT_CONTENT
from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.texts import restored, storable

SHARD: Final = "main"
"""The name of the only shard."""
ROWS_AT_ONCE: Final = 5_000
_CONTENTS_AT_ONCE: Final = 20
"""The hosts of a large fleet are one content, of tens of megabytes."""
CACHE: Final = ("host_rollout_records", "host_records_through")
COLUMNS: Final = f"{LOG_COLUMNS}, prev_hash, hash"
_PUT_ROW: Final = f"INSERT INTO event_log ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"

_THROUGH: Final = "(SELECT coalesce(max(event_log_seq), 0) FROM host_records_through)"
_NEEDED_BY_A_START: Final = (
    "seq > {through} AND seq >= " + LOG_BEGINS_AT,
    # Those that views refer to, and the last one. By an index: with both conditions in one, the whole log is searched.
    "seq <= {through} AND seq IN (SELECT event_log_seq FROM artefacts UNION SELECT event_log_seq FROM refused_events"
    " UNION SELECT last_transition_event_log_seq FROM rollouts UNION SELECT max(seq) FROM event_log)",
)
"""The rows of the log that a start reads: the tail after the cached records, and those that views refer to."""


@asynccontextmanager
async def one_moment(connection: Connection) -> AsyncGenerator[None]:
    """Let every query in the context see the data as of its first."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield


def empty_tables() -> sqlite3.Connection:
    """Return a database in memory with empty tables, for any thread at a time, which the caller closes."""
    tables = views_at(WHOLE, check_same_thread=False)
    tables.execute("PRAGMA foreign_keys=OFF")
    tables.execute("PRAGMA ignore_check_constraints=ON")
    tables.execute("DELETE FROM host_records_through")
    return tables


async def copy_views(connection: Connection, to: sqlite3.Connection) -> None:
    """Copy all tables but the log and its contents into the empty tables of `to`. Call it within `one_moment`.

    Damaged rows are copied as they are: whoever reads the copy finds them.
    """
    to.execute("BEGIN")
    for table in (*CACHE, *DERIVED_VIEWS, "log_start"):
        await _copy(connection, to, f"SELECT * FROM {table}", f"INSERT INTO {table} VALUES ")
    to.execute("COMMIT")


async def copy_for_a_start(
    connection: Connection, to: sqlite3.Connection, *, from_log: bool = False
) -> None:
    """Copy all views, the cache, and the rows of the log that a start reads, into the empty tables of `to`.

    Of the contents those that these rows refer to, for a start has its copy in memory, and releases of years have many.
    from_log: as if no host record were cached. Call it within `one_moment`.
    """
    await copy_views(connection, to)
    to.execute("BEGIN")
    if from_log:
        for table in CACHE:
            to.execute(f"DELETE FROM {table}")
    for which_rows in _NEEDED_BY_A_START:
        needed = which_rows.format(through="0" if from_log else _THROUGH)
        query = f"SELECT {COLUMNS} FROM event_log WHERE {needed} ORDER BY seq"
        await _copy(connection, to, query, _PUT_ROW)
    wanted = await anyio.to_thread.run_sync(_referred, to)
    for begin in range(0, len(wanted), _CONTENTS_AT_ONCE):
        found = await _contents_named(connection, wanted[begin : begin + _CONTENTS_AT_ONCE])
        await anyio.to_thread.run_sync(_put, to, PUT_CONTENT, found.items())
    to.execute("COMMIT")


async def _copy(connection: Connection, to: sqlite3.Connection, query: str, insert: str) -> None:
    cursor = await connection.cursor(query)
    while rows := await cursor.fetch(ROWS_AT_ONCE):
        values = [tuple(map(restored, row)) for row in rows]
        statement = insert if insert.endswith(")") else f"{insert}({_places(values[0])})"
        await anyio.to_thread.run_sync(_put, to, statement, values)


async def _contents_named(connection: Connection, names: Sequence[str]) -> Mapping[str, str]:
    """Return the contents with these hashes, by their hash, as far as they are there."""
    # The names of an altered row may be any texts.
    wanted = [storable(name) for name in names]
    found = await connection.fetch("SELECT hash, text FROM contents WHERE hash = ANY($1)", wanted)
    return {name: restored(text) for name, text in found}


def _contents_of(payload: str) -> Iterator[str]:
    """Yield the hashes that the payload of an `artefact_accepted` row refers to; nothing if it is damaged."""
    try:
        body = orjson.loads(payload)["body"]
    except (ValueError, LookupError, TypeError):
        return
    if isinstance(body, list):
        for part in body:
            if isinstance(part, dict) and isinstance(part.get("content"), str):
                yield part["content"]


def _referred(copy: sqlite3.Connection) -> Sequence[str]:
    rows = copy.execute("SELECT payload FROM event_log WHERE kind = 'artefact_accepted'")
    return [*{name for (payload,) in rows for name in _contents_of(payload)}]


def _put(to: sqlite3.Connection, statement: str, rows: Iterable[Sequence[object]]) -> None:
    to.executemany(statement, rows)


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
