"""What goes wrong at a server or before it: each has an error of its own that says what to do, and nothing is lost."""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace

import pytest
from attrs import evolve

from nixfleet_postgres import connecting
from nixfleet_postgres.connecting import connect
from nixfleet_postgres.errors import (
    ConnectionLimitReached,
    DatabaseReadOnly,
    OlderState,
    ServerFull,
    SessionShared,
)
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.target import Target
from nixfleet_testing.contracts.store_cases import LAST, ROWS, row
from tools.postgres.server import PASSWORD, Server, file_of

pytestmark = pytest.mark.anyio
_UID = 65534


@contextmanager
def _pooled(server: Server, directory: Path, mode: str) -> Iterator[str]:
    """Run PgBouncer before the server; yield the URL by it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("this machine has no PgBouncer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = directory / "pgbouncer"
    home.mkdir()
    (home / "users").write_text(f'"postgres" "{PASSWORD}"\n')
    (home / "ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port} dbname=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {home}/users\npool_mode = {mode}\n"
    )
    running = subprocess.Popen(
        [program, home / "ini"],
        user=_UID if os.geteuid() == 0 else None,
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        said = ""
        for line in running.stderr:
            said += line
            if "process up" in line:
                break
        else:
            raise AssertionError(said)
        yield server.url(port=port)
    finally:
        running.kill()
        running.wait()
        assert running.stderr is not None
        running.stderr.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the user of PgBouncer may read."""
    directory = Path(mkdtemp(prefix="nixfleet-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


async def test_a_pool_of_sessions_is_used_as_the_server_itself(
    server: Server, target: Target, open_directory: Path
) -> None:
    """Commits and reads through PgBouncer with session pooling."""
    with _pooled(server, open_directory, "session") as url:
        pooled = evolve(target, dsn_file=file_of(target.dsn_file.with_name("pooled"), url))
        store = await open_store(pooled)
        await store.commit(ROWS)
        assert (await store.load()).head_seq == LAST
        await store.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pool_that_shares_sessions_is_refused_by_name(
    server: Server, target: Target, open_directory: Path, mode: str
) -> None:
    """Before anything is made or written, with the setting that works."""
    with _pooled(server, open_directory, mode) as url:
        pooled = evolve(target, dsn_file=file_of(target.dsn_file.with_name("pooled"), url))
        with pytest.raises(SessionShared, match="set pool_mode = session") as refused:
            await open_store(pooled)
    assert PASSWORD not in str(refused.value)


async def test_a_server_that_takes_no_more_sessions_is_named(
    server: Server, target: Target, appender: Target
) -> None:
    """By the limit of a role; that of the server has the same error."""
    owner = await server.connect()
    await owner.execute(f'ALTER ROLE "appender {target.schema}" CONNECTION LIMIT 1')
    await owner.close()
    first = await connect(appender)
    with pytest.raises(ConnectionLimitReached, match="raise max_connections, or the CONNECTION"):
        await connect(appender)
    await first.close()


async def test_a_database_that_is_read_only_is_refused_before_anything_is_written(
    server: Server, target: Target
) -> None:
    """By the setting that makes it so."""
    owner = await server.connect()
    await owner.execute("CREATE ROLE reader SUPERUSER LOGIN PASSWORD 'correct horse'")
    await owner.execute("ALTER ROLE reader SET default_transaction_read_only = on")
    await owner.close()
    file = file_of(target.dsn_file.with_name("reader"), server.url(user="reader"))
    with pytest.raises(DatabaseReadOnly, match="RESET default_transaction_read_only"):
        await open_store(evolve(target, dsn_file=file))


async def test_a_server_without_room_writes_nothing_and_the_next_commit_goes_on(
    server: Server, target: Target
) -> None:
    """A full disk, or a quota: the error says so, and is no loss of the store."""
    store = await open_store(target)
    await store.commit(ROWS)
    owner = await server.connect()
    await owner.execute(f'SET search_path = "{target.schema}"')
    await owner.execute(
        "CREATE FUNCTION fill_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON event_log_1 FOR EACH ROW EXECUTE FUNCTION fill_up()"
    )
    with pytest.raises(ServerFull, match="make room on the server"):
        await store.commit([row(LAST + 1)])
    await owner.execute("DROP TRIGGER full_disk ON event_log_1")
    await owner.close()
    await store.commit([row(LAST + 1)])
    await store.close()


async def test_a_clock_that_is_not_the_servers_is_logged(
    target: Target, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how far, and what goes by which clock; the store is opened all the same."""

    slow = SimpleNamespace(now=lambda _: datetime.now(UTC) - timedelta(minutes=5))
    monkeypatch.setattr(connecting, "datetime", slow)
    await (await open_store(target)).close()
    assert "the server's clock is 300 s ahead of this machine's" in caplog.text
    caplog.clear()
    caplog.set_level(logging.WARNING)
    monkeypatch.undo()
    await (await open_store(target)).close()
    assert caplog.text == ""


async def test_an_older_state_under_a_control_plane_is_named_as_one(
    server: Server, target: Target
) -> None:
    """A restored backup, or a replica that lacked the last commits: nothing is written after a gap."""
    store = await open_store(target)
    await store.commit(ROWS)
    admin = await server.connect()
    await admin.execute(f'SET search_path = "{target.schema}"')
    before = await admin.fetchrow("SELECT head_seq, head_hash FROM shards")
    await store.commit([row(LAST + 1)])
    assert before is not None
    await admin.execute(
        "UPDATE shards SET head_seq = $1, head_hash = $2", before["head_seq"], before["head_hash"]
    )
    with pytest.raises(OlderState, match="a replica was promoted that lacked the last commits"):
        await store.commit([row(LAST + 2)])
    assert await admin.fetchval("SELECT max(seq) FROM event_log") == LAST + 1
    await admin.close()
    await store.close()
