"""Whole months of a log in PostgreSQL are exported and dropped, with their partitions, whatever goes wrong."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg
import pytest
from attrs import evolve
from click.testing import Result

from nixfleet_control_plane.history.retention.dropping import StartDiffers
from nixfleet_control_plane.history.retention.keeper import ChainBroken
from nixfleet_control_plane.history.retention.whole_log import rows_before
from nixfleet_control_plane.history.retention.worker import RetentionConfig, RetentionWorker
from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.log_entry import ArtefactTaken, LogRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_postgres.errors import NotDropped, PermissionMissing, PostgresUnusable
from nixfleet_postgres.keeper import PostgresLogKeeper, export_here
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.reading import PostgresQueries
from nixfleet_postgres.target import Target
from nixfleet_runtime.kernel.clock import FakeClock
from tests.cli.conftest import Invoke, nixfleet  # noqa: F401
from tests.postgres.proxy import Cut, Proxy
from tests.postgres.test_queries import fill_from
from tests.retention.half_a_year import END, MONTHS, live_half_a_year
from tools.postgres.server import Server, file_of

pytestmark = pytest.mark.anyio
PARTITION_ROWS = 60
BEFORE = END - timedelta(days=20)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live_half_a_year(tmp_path_factory.mktemp("half-a-year"))


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    directory = tmp_path / "exports"
    directory.mkdir()
    return directory


async def with_small_partitions(server: Server, target: Target) -> None:
    """Make the schema of `target`, whose log has partitions of a few rows."""
    store = await open_store(target)
    await store.close()
    owner = await server.connect()
    await owner.execute(
        f'SET search_path = "{target.schema}";'
        "ALTER TABLE event_log DETACH PARTITION event_log_1; DROP TABLE event_log_1; DELETE FROM log_partitions;"
        f"UPDATE database SET partition_rows = {PARTITION_ROWS}; SELECT make_partitions(0); DELETE FROM shards"
    )
    await owner.close()


@pytest.fixture
async def filled(server: Server, target: Target, lived: Path) -> Target:
    """A schema with the log of half a year, in many partitions."""
    await with_small_partitions(server, target)
    await fill_from(target, lived)
    return target


_OPENED = ExitStack()


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    """Close what a test opened, in its event loop."""
    yield
    _OPENED.close()


def _keeper(target: Target) -> PostgresLogKeeper:
    queries = _OPENED.enter_context(closing(PostgresQueries(target)))
    return PostgresLogKeeper(target, queries, export_here)


def _release(seq: int) -> LogRow:
    """Return the row of an artefact with a content of its own."""
    body = f'{{"hosts":"{"x" * 300}"}}'
    return row_of(seq, END, ArtefactTaken("fleet", None, body, "", "ci"))


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def _look(target: Target, exports: Path) -> RetentionWorker:
    worker = RetentionWorker(RetentionConfig(exports, 20), _keeper(target), FakeClock(END))
    await worker.look()
    return worker


async def _rows(target: Target, exports: Path | None = None) -> list[LogRow]:
    with closing(PostgresQueries(target)) as queries:
        left = await queries.log_rows(None, after_seq=0, limit=100_000)
        return [*rows_before(await queries.log_start(), exports), *left]


async def _require_sound(target: Target, exports: Path) -> None:
    with closing(PostgresQueries(target)) as queries:
        assert (await queries.verify()).problem is None
        assert (await queries.rebuild()).differences == ()
        exported = rows_before(await queries.log_start(), exports)
        assert (await queries.rebuild(exported)).differences == ()


async def _fetch(server: Server, target: Target, query: str) -> list[object]:
    owner = await server.connect()
    await owner.execute(
        f'SET search_path = "{target.schema}"; SET session_replication_role = replica'
    )
    found = [value for (value,) in await owner.fetch(query)]
    await owner.close()
    return found


async def _tables(server: Server, target: Target) -> list[object]:
    return await _fetch(
        server,
        target,
        "SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace"
        " AND relkind = 'r' AND relname LIKE 'event_log%' ORDER BY length(relname), 1",
    )


async def test_whole_months_that_nothing_needs_are_exported_and_their_partitions_dropped(
    server: Server, filled: Target, exports: Path
) -> None:
    """Nothing is lost; the log goes on, and a start has the same state as before."""
    rows, tables = await _rows(filled), await _tables(server, filled)
    store = await open_store(filled)
    before = evolve(await store.load(), tail=())
    worker = await _look(filled, exports)
    first = worker.kept.first_seq
    assert rows[first - 2].ts[:7] == MONTHS[-1]
    assert rows[first - 1].ts[:7] == "2025-06"
    assert len(_names(exports)) == len(MONTHS)
    assert await _rows(filled, exports) == rows
    await _require_sound(filled, exports)
    gone = (first - 1) // PARTITION_ROWS
    assert gone > 2
    assert await _tables(server, filled) == tables[gone:]
    assert evolve(await store.load(), tail=()) == before
    await store.commit([rows[-1]._replace(seq=len(rows) + 1)])
    assert len(await _rows(filled, exports)) == len(rows) + 1
    await store.close()
    # A second look has nothing to do.
    assert (await _look(filled, exports)).kept.first_seq == first


async def test_contents_of_rows_that_were_dropped_go_and_others_stay(
    server: Server, filled: Target, exports: Path
) -> None:
    """What a release shares with one that was dropped stays."""
    store = await open_store(filled)
    await store.commit([_release(len(await _rows(filled)) + 1)])
    await store.close()
    (kept,) = await _fetch(server, filled, "SELECT hash FROM contents")
    await _fetch(server, filled, "INSERT INTO contents VALUES ('unused', 'text') RETURNING hash")
    await _look(filled, exports)
    assert await _fetch(server, filled, "SELECT hash FROM contents") == [kept]


async def test_a_content_that_a_later_row_refers_to_is_not_removed(
    server: Server, filled: Target, exports: Path
) -> None:
    """A release that is signed again between the search for unused contents and their removal keeps its own."""
    store, last = await open_store(filled), len(await _rows(filled))
    await store.commit([_release(last + 1)])
    (name,) = await _fetch(server, filled, "SELECT hash FROM contents")
    keeper = _keeper(filled)
    exported = await keeper.export(exports, BEFORE)
    assert exported.start is not None
    await keeper.begin_at(exported.start)
    await _remove_all(keeper)
    # As if the row that refers to it were among those that are gone.
    await _fetch(
        server,
        filled,
        "UPDATE event_log SET payload = '{}' WHERE kind = 'artefact_accepted' RETURNING seq",
    )
    admin = await server.connect()
    await admin.execute("BEGIN")
    await admin.execute(f'SELECT FROM "{filled.schema}".shards FOR UPDATE')
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.commit, [_release(last + 2)])
        await _waiting_for_a_lock(server, 1)
        tasks.start_soon(_remove_all, _keeper(filled))
        await _waiting_for_a_lock(server, 2)
        await admin.execute("COMMIT")
    await admin.close()
    await store.close()
    assert await _fetch(server, filled, "SELECT hash FROM contents") == [name]


async def _remove_all(keeper: PostgresLogKeeper) -> None:
    while await keeper.remove():
        pass


async def _waiting_for_a_lock(server: Server, sessions: int) -> None:
    asking = await server.connect()
    with anyio.fail_after(30):
        while sessions > await asking.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ):
            await anyio.lowlevel.checkpoint()
    await asking.close()


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.ANSWER])
async def test_a_look_that_is_cut_at_any_statement_is_finished_by_the_next(
    server: Server, filled: Target, lived: Path, exports: Path, proxy: Proxy, cut: Cut
) -> None:
    """Before it is sent, or when it was carried out: every row is in the log or in a file, at each of them."""
    rows = await _rows(filled)
    file = file_of(filled.dsn_file.with_name("proxied"), server.url(port=proxy.port))
    proxied = evolve(filled, dsn_file=file)
    exported = await _keeper(filled).export(exports, BEFORE)
    assert exported.start is not None
    cuts = 0
    while True:
        proxy.cut, proxy.statements_before_cut = cut, cuts
        keeper = _keeper(proxied)
        with suppress(PostgresUnusable, NotReadable):
            await keeper.begin_at(exported.start)
            await _remove_all(keeper)
        if proxy.cut is not None:
            break
        assert await _rows(filled, exports) == rows, cuts
        cuts += 1
    proxy.cut = None
    assert cuts > 12
    await _remove_all(_keeper(filled))
    await _require_sound(filled, exports)
    assert await _rows(filled, exports) == rows
    assert len(await _tables(server, filled)) == len(
        await _fetch(server, filled, "SELECT first_seq FROM log_partitions")
    )


async def test_a_log_that_is_another_one_does_not_begin_at_what_was_exported(
    filled: Target, exports: Path
) -> None:
    """The row before the new beginning must be the last one in the files."""
    exported = await _keeper(filled).export(exports, BEFORE)
    assert exported.start is not None
    with pytest.raises(StartDiffers, match="which was exported"):
        await _keeper(filled).begin_at(evolve(exported.start, prev_hash=bytes(32)))
    assert (await _keeper(filled).kept()).first_seq == 1


async def test_a_log_that_was_altered_is_not_exported(
    server: Server, filled: Target, exports: Path
) -> None:
    """Nothing is dropped on the word of rows that were altered."""
    owner = await server.connect()
    await owner.execute(
        f"SET session_replication_role = replica; UPDATE \"{filled.schema}\".event_log SET ts = '2020' WHERE seq = 7"
    )
    await owner.close()
    with pytest.raises(ChainBroken, match="row 7"):
        await _keeper(filled).export(exports, BEFORE)
    assert _names(exports) == []


async def test_a_reader_that_holds_the_log_makes_a_drop_wait_and_no_commit(
    server: Server, filled: Target, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drop gives up by name, commits go on meanwhile, and the next look finishes it."""
    monkeypatch.setattr("nixfleet_postgres.keeper.LOCK_SECONDS_MAX", 0.1)
    rows = await _rows(filled)
    store = await open_store(filled)
    reader = await server.connect()
    await reader.execute(f'BEGIN; SELECT count(*) FROM "{filled.schema}".event_log')
    with pytest.raises(NotDropped, match="end sessions that read it for long"):
        await _look(filled, exports)
    await store.commit([rows[-1]._replace(seq=len(rows) + 1)])
    await reader.execute("COMMIT")
    await reader.close()
    await store.close()
    await _look(filled, exports)
    with closing(PostgresQueries(filled)) as queries:
        assert (await queries.verify()).problem is None


async def test_the_role_of_the_store_drops_nothing_and_its_owner_does(
    server: Server, appender: Target, lived: Path, exports: Path
) -> None:
    """Neither by the keeper nor by statements; with the owner's file the keeper drops by that one."""
    await with_small_partitions(server, appender)
    await fill_from(appender, lived)
    alone = evolve(appender, owner_dsn_file=None)
    with pytest.raises(PermissionMissing, match="drop rows of the log, as its owner can"):
        await _look(alone, exports)
    assert (await _keeper(alone).kept()).first_seq == 1
    connection = await asyncpg.connect(appender.dsn_file.read_text().strip())
    await connection.execute(f'SET search_path = "{appender.schema}"')
    for statement in (
        "DELETE FROM event_log_1",
        "INSERT INTO event_log_1 SELECT * FROM event_log",
        "ALTER TABLE event_log DETACH PARTITION event_log_1",
        "DROP TABLE event_log_1",
        "INSERT INTO log_start VALUES (1, 5, '', '')",
        "DELETE FROM log_partitions",
        "SET nixfleet.removing = 'contents'; DELETE FROM contents",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()
    await _look(appender, exports)
    await _require_sound(alone, exports)


async def test_a_partition_cannot_be_changed_by_its_owner_either(
    server: Server, filled: Target
) -> None:
    """As the log as a whole: by mistake no row goes."""
    owner = await server.connect()
    for statement in ("UPDATE {} SET ts = ''", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(
                statement.format(f'"{filled.schema}".event_log_{1 + PARTITION_ROWS}')
            )
    await owner.close()


async def test_a_log_makes_its_partitions_as_it_grows(server: Server, target: Target) -> None:
    """Before they are needed, by a role that owns nothing."""
    await with_small_partitions(server, target)
    store = await open_store(target)
    first = await _tables(server, target)
    rows = [
        LogRow(seq, "2026-05-16T00:00:00.000000Z", "operator_command", None, None, "{}", None)
        for seq in range(1, 2_500)
    ]
    for begin in range(0, len(rows), 700):
        await store.commit(rows[begin : begin + 700])
    await store.close()
    assert await _rows(target) == rows
    assert len(await _tables(server, target)) > len(first)


async def test_log_export_drops_whole_months_of_a_log_in_postgresql(
    nixfleet: Invoke,  # noqa: F811
    filled: Target,
    tmp_path: Path,
    exports: Path,
) -> None:
    """The command does what `[retention]` does, also beside a control plane; its files lead to the log."""
    config = tmp_path / "postgres.toml"
    config.write_text(
        f'[store]\nkind = "postgres"\ndsn_file = "{filled.dsn_file}"\nschema = "{filled.schema}"\n'
    )
    command = ("log", "export", exports, "--config", config)

    async def run(*command: object) -> Result:
        return await anyio.to_thread.run_sync(partial(nixfleet, *command))

    done = await run(*command, "--month", "2025-02", "--drop")
    assert done.exit_code == 0, done.output
    assert "the log begins at row" in done.stdout
    for check in (("verify",), ("rebuild", "--check"), ("verify", "--exports", exports)):
        checked = await run("log", *check, "--config", config)
        assert checked.exit_code == 0, checked.output
    assert "exported and dropped" in (await run("status", "--config", config)).stdout
