"""A schema of an earlier version is upgraded by a start, with all it holds. The samples are those of tests/upgrades."""

import gzip
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.reading import PostgresQueries
from nixfleet_postgres.schema import VERSION
from nixfleet_postgres.target import Target
from nixfleet_state_machine.planner.holds.hold import HoldKind
from tools.postgres.server import Server

pytestmark = pytest.mark.anyio
SAMPLES = sorted(
    Path(__file__).parents[1].joinpath("upgrades", "samples").glob("postgres-*.sql.gz")
)
_SHAPE = (
    "SELECT c.table_name, c.column_name, c.data_type, c.collation_name, c.is_nullable, c.column_default"
    " FROM information_schema.columns AS c WHERE c.table_schema = $1",
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = $1",
    "SELECT event_object_table, trigger_name, event_manipulation, action_statement FROM information_schema.triggers"
    " WHERE trigger_schema = $1",
    "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = quote_ident($1)::regnamespace",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = quote_ident($1)::regnamespace",
    "SELECT relname, reloptions FROM pg_class WHERE relnamespace = quote_ident($1)::regnamespace AND relkind = 'r'",
)


async def restore(server: Server, sample: Path, target: Target) -> Target:
    """Put a dump into the database; return its schema, renamed to that of `target`."""
    owner = await server.connect()
    await owner.execute(gzip.decompress(await anyio.Path(sample).read_bytes()).decode())
    await owner.execute(f'ALTER SCHEMA nixfleet RENAME TO "{target.schema}"')
    await owner.close()
    return target


async def _shape(connection: Connection, schema: str) -> list[Sequence[str]]:
    return [
        sorted(
            repr(tuple(row)).replace(schema, "SCHEMA")
            for row in await connection.fetch(query, schema)
        )
        for query in _SHAPE
    ]


def test_there_is_a_sample_of_every_earlier_version() -> None:
    """Who makes a new version keeps a dump of the one before it."""
    found = {int(path.name.split("-")[1].split(".")[0]) for path in SAMPLES}
    assert found == set(range(1, VERSION))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
async def test_a_schema_of_any_version_opens_with_all_it_holds(
    server: Server, target: Target, sample: Path
) -> None:
    """Its chain holds, its views are those that its log gives, and it goes on."""
    await restore(server, sample, target)
    store = await open_store(target)
    found = (await store.load()).in_memory()
    assert [hold.source.kind for hold in found.holds] == [HoldKind.OPERATOR]
    assert found.quarantines
    assert found.dispatches
    with closing(PostgresQueries(target)) as queries:
        report = await queries.verify()
        assert (report.problem, report.rows) == (None, found.head_seq)
        assert (await queries.rebuild()).differences == ()
        (last,) = await queries.log_rows(None, after_seq=found.head_seq - 1, limit=1)
        await store.commit([last._replace(seq=last.seq + 1)])
        assert (await queries.verify()).rows == found.head_seq + 1
    await store.close()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
async def test_an_upgraded_schema_has_the_shape_of_a_new_one(
    server: Server, target: Target, sample: Path
) -> None:
    """Columns, indexes, triggers, functions and constraints."""
    await restore(server, sample, target)
    new = evolve(target, schema=f"{target.schema} new")
    for each in (target, new):
        await (await open_store(each)).close()
    connection = await server.connect()
    for of_old, of_new in zip(
        await _shape(connection, target.schema), await _shape(connection, new.schema), strict=True
    ):
        assert of_old == of_new
    await connection.close()
