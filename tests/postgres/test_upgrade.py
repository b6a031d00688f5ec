"""A schema of an earlier version is upgraded by a start, with all it holds. The samples are those of tests/upgrades."""

import gzip
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from attrs import evolve
from click.testing import Result

from nixfleet import __version__ as nixfleet_version
from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.errors import AnotherOwner, StoredViewsDiffer
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.reading import PostgresQueries
from nixfleet_postgres.schema import VERSION
from nixfleet_postgres.target import Target
from nixfleet_state_machine.planner.holds.hold import HoldKind
from tests.cli.conftest import Invoke, nixfleet  # noqa: F401
from tests.cli.test_json import require_json
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


async def _execute(server: Server, target: Target, statement: str) -> None:
    owner = await server.connect()
    await owner.execute(f'SET search_path = "{target.schema}"; {statement}')
    await owner.close()


@pytest.fixture
async def written(server: Server, target: Target) -> Target:
    """A schema that a program of another version wrote to last."""
    await restore(server, SAMPLES[0], target)
    await (await open_store(target)).close()
    await _execute(server, target, "UPDATE shards SET program = '0.0.1'")
    return target


def _config(target: Target, tmp_path: Path) -> Path:
    config = tmp_path / "postgres.toml"
    config.write_text(
        f'[store]\nkind = "postgres"\ndsn_file = "{target.dsn_file}"\nschema = "{target.schema}"\n'
    )
    return config


async def _upgrade(nixfleet: Invoke, target: Target, tmp_path: Path, *options: str) -> Result:  # noqa: F811
    command = partial(nixfleet, "db", "upgrade", "--config", _config(target, tmp_path), *options)
    return await anyio.to_thread.run_sync(command)


async def test_a_program_of_another_version_does_not_write_where_it_derives_other_views(
    server: Server, written: Target
) -> None:
    """The first difference is named, nothing is taken over, and the program that wrote it goes on."""
    await _execute(server, written, "UPDATE holds SET reason = 'another'")
    with pytest.raises(
        StoredViewsDiffer, match=r"2 row\(s\) that differ, the first: holds, stored"
    ) as refused:
        await open_store(written)
    assert "nothing was changed: go on with the program that wrote them" in str(refused.value)
    await _execute(server, written, f"UPDATE shards SET program = '{nixfleet_version}'")
    await (await open_store(written)).close()


async def test_a_program_of_another_version_replays_the_log_once(
    server: Server, written: Target
) -> None:
    """Afterwards it is the one that wrote last."""
    await (await open_store(written)).close()
    await _execute(server, written, "UPDATE holds SET reason = 'another'")
    await (await open_store(written)).close()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
async def test_an_upgrade_that_finds_a_difference_leaves_the_schema_as_it_was(
    server: Server, target: Target, sample: Path
) -> None:
    """Version, tables and rows, and the process that has the store can go on."""
    await restore(server, sample, target)
    await _execute(server, target, "UPDATE holds SET reason = 'another'")
    connection = await server.connect()
    before = await _shape(connection, target.schema)
    epoch = await connection.fetchval(f'SELECT epoch FROM "{target.schema}".shards')
    with pytest.raises(StoredViewsDiffer):
        await open_store(target)
    assert await _shape(connection, target.schema) == before
    assert await connection.fetchval(f'SELECT epoch FROM "{target.schema}".shards') == epoch
    await connection.close()


async def test_db_upgrade_shows_and_makes_the_steps_of_a_schema(
    nixfleet: Invoke,  # noqa: F811
    server: Server,
    target: Target,
    tmp_path: Path,
) -> None:
    """--dry-run changes nothing; the upgrade tells what it did, and a second one has nothing to do."""
    await restore(server, SAMPLES[0], target)
    shown = await _upgrade(nixfleet, target, tmp_path, "--dry-run")
    assert (shown.exit_code, "nothing was done: --dry-run" in shown.stdout) == (0, True)
    assert f"  to {VERSION}: The log is in partitions" in shown.stdout
    done = await _upgrade(nixfleet, target, tmp_path, "--json")
    (value,) = require_json("db upgrade", done)
    assert (value["found"], value["version"], value["upgraded"]) == (1, VERSION, True)
    assert value["logRows"]
    again = await _upgrade(nixfleet, target, tmp_path)
    assert (again.exit_code, "nothing to upgrade" in again.stdout) == (0, True)


async def test_db_upgrade_rebuild_derives_views_of_a_schema_anew(
    nixfleet: Invoke,  # noqa: F811
    server: Server,
    target: Target,
    tmp_path: Path,
) -> None:
    """Rows that were changed, added and removed, and cached records; a control plane that ran is fenced."""
    await restore(server, SAMPLES[0], target)
    running = await open_store(target)
    await _execute(
        server,
        target,
        "UPDATE holds SET reason = 'another'; DELETE FROM quarantined_closures; UPDATE deferrals SET reason = 'x';"
        " INSERT INTO beginnings VALUES ('b', '2026', 1); UPDATE host_rollout_records SET state = 'x'",
    )
    found = await _upgrade(nixfleet, target, tmp_path, "--dry-run")
    assert (found.exit_code, "row(s) that differ" in found.stderr) == (1, True)
    done = await _upgrade(nixfleet, target, tmp_path, "--rebuild")
    assert done.exit_code == 0, done.output
    assert "derived anew from the log" in done.stdout
    with pytest.raises(AnotherOwner):
        await running.commit([])
    await running.close()
    with closing(PostgresQueries(target)) as queries:
        assert (await queries.rebuild()).differences == ()


async def test_a_schema_that_is_not_there_is_not_upgraded(
    nixfleet: Invoke,  # noqa: F811
    target: Target,
    tmp_path: Path,
) -> None:
    """It is made by a start."""
    refused = await _upgrade(nixfleet, target, tmp_path)
    assert (refused.exit_code, "start the control plane once" in refused.stderr) == (2, True)
