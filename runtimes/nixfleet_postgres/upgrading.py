"""The shadow replay: before a program writes to a store for the first time, it replays the log and compares the views.

With an upgrade of the schema it is one transaction: the steps, the comparison, and who wrote last. So an upgrade that
is killed, or that finds a difference, leaves the schema as it was.
Source: docs/how-to/upgrading.md; docs/how-to/running-on-postgresql.md, Upgrades.
"""

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.resources import files
from typing import Any, Final

import anyio.to_thread

import nixfleet
from nixfleet_control_plane.history.rebuild import ViewDifference, ViewsReport, check_views
from nixfleet_control_plane.history.retention.log_start import first_seq_of
from nixfleet_control_plane.history.shadow import line_of
from nixfleet_control_plane.store.opened_store import StoreUpgrade
from nixfleet_postgres.blocking import BlockingTables
from nixfleet_postgres.connecting import (
    Connection,
    connect,
    connected,
    permitted,
    require_writable,
)
from nixfleet_postgres.copies import SHARD, copy_views, empty_tables, one_moment
from nixfleet_postgres.dialect import arguments
from nixfleet_postgres.errors import SchemaMissing, StoredViewsDiffer
from nixfleet_postgres.moment_tables import MomentTables
from nixfleet_postgres.schema import (
    VERSION,
    require_schema,
    schema_version,
    upgrade_schema,
)
from nixfleet_postgres.target import Target
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_runtime.storage.file_format import Step

PROGRAM: Final = nixfleet.__version__
_CACHE: Final = "host_rollout_records"


async def make_schema(target: Target, connection: Connection, noted: Noted = unnoted) -> None:
    """Make the schema if there is none, upgrade an older one, and let no program write whose views are others.

    connection: of the store's own role; it writes nothing. noted: so many more rows were replayed.
    Raises: StoredViewsDiffer, DamagedRow; as `require_schema` and `connect`.
    """
    await require_writable(target, connection)
    if await schema_version(target, connection) < VERSION:
        await _upgrade(target, connection, noted)
    await require_schema(target, connection)
    with permitted(target, "read the store's tables"):
        row = await connection.fetchrow(
            "SELECT program, head_seq FROM shards WHERE shard = $1", SHARD
        )
        if row is None or row["head_seq"] == 0 or row["program"] == PROGRAM:
            return
        async with one_moment(connection):
            await _require_same_views(target, connection, noted)


async def _upgrade(target: Target, connection: Connection, noted: Noted) -> None:
    role = await connection.fetchval("SELECT current_user")
    async with connected(target, target.owner_dsn_file) as owner:
        with permitted(target, "create the schema and its tables"):
            async with owner.transaction():
                if await upgrade_schema(target, owner, role):
                    # Whoever has the store meanwhile writes to it no more.
                    await owner.execute(
                        "UPDATE shards SET epoch = epoch + 1, holder = 'an upgrade', program = $1",
                        PROGRAM,
                    )
                    await _require_same_views(target, owner, noted)


async def _require_same_views(target: Target, connection: Connection, noted: Noted) -> None:
    """Raises: StoredViewsDiffer, DamagedRow."""
    differences = (await _compared(connection, noted)).differences
    if differences:
        found = f"{len(differences)} row(s) that differ, the first: {line_of(differences[0])}"
        raise StoredViewsDiffer(target.where, found, differences)


async def _compared(connection: Connection, noted: Noted) -> ViewsReport:
    """Compare the views with the log, within a transaction of the connection. Raises: DamagedRow."""
    with closing(await anyio.to_thread.run_sync(empty_tables)) as views:
        await copy_views(connection, views)
        log = BlockingTables(connection, first_seq_of(views))
        compare = partial(check_views, MomentTables(views, log), noted=noted)
        return await anyio.to_thread.run_sync(compare)


async def upgrade(
    target: Target, *, dry_run: bool, rebuild: bool, noted: Noted = unnoted
) -> StoreUpgrade:
    """Do what a start does before it takes the store over, or show what that would be.

    rebuild: replace each row of the views that differs from the log. No copy is made before.
    Raises: SchemaMissing, StoredViewsDiffer, DamagedRow, PostgresUnusable.
    """
    connection = await connect(target)
    try:
        found = await schema_version(target, connection)
        if found == 0:
            remedy = "start the control plane once: it makes the schema"
            raise SchemaMissing(target.where, "the schema of a control plane", "none", remedy)
        steps = tuple(map(_step, range(found + 1, VERSION + 1)))
        corrected: tuple[str, ...] = ()
        if not dry_run:
            if rebuild and found == VERSION:
                corrected = await _derive_anew(target, connection, noted)
            else:
                await make_schema(target, connection, noted)
        elif found == VERSION:
            async with one_moment(connection):
                await _require_same_views(target, connection, noted)
        rows = None
        if not dry_run:
            rows = int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM event_log"))
        return StoreUpgrade(found, VERSION, steps, corrected, rows)
    finally:
        connection.terminate()


def _step(version: int) -> Step:
    script = files("nixfleet_postgres").joinpath(f"schema_{version}.sql")
    return Step(version, script.read_text("utf-8"))


async def _derive_anew(target: Target, connection: Connection, noted: Noted) -> tuple[str, ...]:
    """Replace each row of the views that differs from the log, in one transaction; return those rows, a line each."""
    with permitted(target, "write to all tables of the store"):
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute(
                "UPDATE shards SET epoch = epoch + 1, holder = 'an upgrade', program = $1 WHERE shard = $2",
                PROGRAM,
                SHARD,
            )
            differences = (await _compared(connection, noted)).differences
            for difference in differences:
                if difference.table != _CACHE:
                    await _correct(connection, difference)
            if any(difference.table == _CACHE for difference in differences):
                # A start completes the cache from the log.
                await connection.execute(f"DELETE FROM {_CACHE}")
                await connection.execute("UPDATE host_records_through SET event_log_seq = 0")
            return tuple(map(line_of, differences))


async def _correct(connection: Connection, difference: ViewDifference) -> None:
    table, row = difference.table, arguments(difference.row)
    if not difference.stored:
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await connection.execute(f"INSERT INTO {table} VALUES ({places})", *row)
        return
    names = await _columns(connection, table)
    same = " AND ".join(
        f"{name} IS NOT DISTINCT FROM ${number}" for number, name in enumerate(names, start=1)
    )
    await connection.execute(f"DELETE FROM {table} WHERE {same}", *row)


async def _columns(connection: Connection, table: str) -> Sequence[Any]:
    found = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        table,
    )
    return [name for (name,) in found]
