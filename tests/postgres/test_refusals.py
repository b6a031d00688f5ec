"""A database that cannot be used is refused by name, with what to do, and without its password."""

from collections.abc import Callable
from pathlib import Path

import anyio
import asyncpg
import pytest
from attrs import evolve, frozen

from nixfleet_postgres.connecting import connect
from nixfleet_postgres.errors import (
    AnotherFleet,
    ConnectionTextUnusable,
    DatabaseEncoding,
    DatabaseMissing,
    LoginRefused,
    NeedsAsyncio,
    PermissionMissing,
    PostgresUnusable,
    SchemaMissing,
    SchemaVersionRefused,
    ServerTooOld,
    ServerUnreachable,
)
from nixfleet_postgres.plugin import PostgresOpener
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.schema import require_schema
from nixfleet_postgres.target import Target
from nixfleet_testing.contracts.store_cases import LAST, ROWS
from tools.postgres.server import PASSWORD, Server, file_of

pytestmark = pytest.mark.anyio


@frozen
class Refused:
    """What is in the file, and the error."""

    url: Callable[[Server], str]
    error: type[PostgresUnusable]
    said: str


REFUSED = {
    "no URL": Refused(lambda it: "hunter2", ConnectionTextUnusable, "expected one line"),
    "a port that is none": Refused(
        lambda it: "postgresql://u:hunter2@h:x/d", ConnectionTextUnusable, "expected one line"
    ),
    "an option that is none": Refused(
        lambda it: f"{it.url()}?sslmode=hunter2", ConnectionTextUnusable, "asyncpg cannot read"
    ),
    "a wrong password": Refused(
        lambda it: it.url(password="hunter2"), LoginRefused, "correct user and password"
    ),
    "an unknown role": Refused(
        lambda it: it.url(user="nobody"), LoginRefused, "correct user and password"
    ),
    "an unknown database": Refused(
        lambda it: it.url() + "x", DatabaseMissing, 'database "postgresx" does not exist'
    ),
    "no server": Refused(lambda it: it.url(port=1), ServerUnreachable, "start the server"),
    "no host": Refused(
        lambda it: it.url().replace("127.0.0.1", "host.invalid"), ServerUnreachable, "no such host"
    ),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_connected_to_is_refused_with_what_to_do(
    target: Target, server: Server, refused: Refused
) -> None:
    """The message names the file that has the URL, and shows no password."""
    file_of(target.dsn_file, refused.url(server))
    with pytest.raises(refused.error) as error:
        await open_store(target)
    said = str(error.value)
    assert refused.said in said
    assert str(target.dsn_file) in said
    assert PASSWORD not in said
    assert "hunter2" not in said


async def test_a_server_that_is_too_old_is_refused(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its version, and the one that is expected."""
    monkeypatch.setattr("nixfleet_postgres.connecting.VERSION_MIN", 99)
    with pytest.raises(ServerTooOld, match="expected PostgreSQL 99 or later, found 18"):
        await connect(target)


async def test_a_database_that_cannot_store_every_text_is_refused(
    target: Target, server: Server
) -> None:
    """With what is to be created instead."""
    owner = await server.connect()
    await owner.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    await owner.close()
    file_of(target.dsn_file, server.url().removesuffix("postgres") + "latin")
    with pytest.raises(DatabaseEncoding, match="expected a database with the encoding UTF8"):
        await connect(target)


async def test_a_schema_of_another_fleet_is_refused(target: Target) -> None:
    """Both are named."""
    await (await open_store(target)).close()
    with pytest.raises(AnotherFleet, match="of the fleet 'other', found that of 'nixfleet'"):
        await open_store(evolve(target, fleet="other"))


async def test_a_schema_of_a_later_version_is_refused(target: Target, server: Server) -> None:
    """It is not changed."""
    await (await open_store(target)).close()
    owner = await server.connect()
    await owner.execute(f'INSERT INTO "{target.schema}".schema_versions VALUES (7)')
    await owner.close()
    with pytest.raises(SchemaVersionRefused, match="found version 7; a later nixfleet made it"):
        await open_store(target)


async def test_a_schema_that_is_not_there_is_not_made_by_reading(target: Target) -> None:
    """What only reads says who makes it."""
    connection = await connect(target)
    with pytest.raises(SchemaMissing, match="start the control plane once"):
        await require_schema(target, connection)
    await connection.close()


async def test_two_processes_that_start_at_once_make_the_schema_once(target: Target) -> None:
    """Both open the store, one after the other."""
    async with anyio.create_task_group() as tasks:

        async def start() -> None:
            await (await open_store(target)).close()

        for _ in range(4):
            tasks.start_soon(start)
    store = await open_store(target)
    await store.commit(ROWS)
    await store.close()


async def test_a_role_that_may_not_make_the_schema_is_refused(appender: Target) -> None:
    """The message says what it must be allowed, and where that is described."""
    with pytest.raises(PermissionMissing, match="a role that may create the schema"):
        await open_store(evolve(appender, owner_dsn_file=None))


async def test_the_role_of_the_store_can_append_and_change_no_row(appender: Target) -> None:
    """The owner made the schema, and let it in: neither the log nor the schema's versions are its own."""
    store = await open_store(appender)
    await store.commit(ROWS)
    assert (await store.load()).head_seq == LAST
    await store.close()
    connection = await connect(appender)
    for statement in (
        "UPDATE event_log SET ts = ''",
        "DELETE FROM event_log",
        "TRUNCATE event_log",
        "DELETE FROM contents",
        "UPDATE database SET fleet = ''",
        "ALTER TABLE event_log DISABLE TRIGGER ALL",
        "DROP TABLE event_log",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_a_role_that_may_use_an_existing_schema_no_more_is_refused(
    appender: Target, server: Server
) -> None:
    """By the same error as one that never could."""
    await (await open_store(appender)).close()
    owner = await server.connect()
    await owner.execute(
        f'REVOKE USAGE ON SCHEMA "{appender.schema}" FROM "appender {appender.schema}"'
    )
    await owner.close()
    with pytest.raises(PermissionMissing):
        await open_store(appender)


async def test_a_database_that_is_not_durable_is_made_so_for_the_store(
    target: Target, server: Server
) -> None:
    """A role that has `synchronous_commit` off waits for the disk all the same."""
    owner = await server.connect()
    await owner.execute("CREATE ROLE quick SUPERUSER LOGIN PASSWORD 'correct horse'")
    await owner.execute("ALTER ROLE quick SET synchronous_commit = off")
    await owner.close()
    connection = await connect(
        target, file_of(target.dsn_file.with_name("quick"), server.url(user="quick"))
    )
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()


def test_another_event_loop_than_that_of_asyncio_is_refused_by_name(tmp_path: Path) -> None:
    """asyncpg runs under no other."""
    opener = PostgresOpener(Target(file_of(tmp_path / "dsn", "postgresql://h/d")))

    async def opened() -> None:
        async with opener():
            pass

    with pytest.raises(NeedsAsyncio, match="expected an event loop of asyncio, found trio"):
        anyio.run(opened, backend="trio")
