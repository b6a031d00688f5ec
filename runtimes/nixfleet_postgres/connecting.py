"""Opens connections to a store's database. The only module that connects."""

import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg
import sniffio

from nixfleet_postgres.errors import (
    ConnectionTextUnusable,
    DatabaseEncoding,
    DatabaseMissing,
    LoginRefused,
    NeedsAsyncio,
    PermissionMissing,
    ServerNotDurable,
    ServerTooOld,
    ServerUnreachable,
)
from nixfleet_postgres.target import Target, connection_url

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

VERSION_MIN: Final = 14
CONNECT_SECONDS_MAX: Final = 10.0
APPLICATION_NAME: Final = "nixfleet"
CONNECTION_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server is being stopped, or an administrator ended the session
)
"""The errors after which it is not known what the server did, or after which it takes no more commands."""


@asynccontextmanager
async def connected(target: Target, file: Path | None = None) -> AsyncGenerator[Connection]:
    """Open a connection, and close it at the end. Raises: as `connect`."""
    connection = await connect(target, file)
    try:
        yield connection
    finally:
        connection.terminate()


async def connect(
    target: Target, file: Path | None = None, *, name: str = APPLICATION_NAME
) -> Connection:
    """Return a new connection, whose commits are durable.

    file: of the URL, if not the store's own. name: what `pg_stat_activity` calls the session.

    Raises: NeedsAsyncio, ConnectionTextUnusable, ServerUnreachable, LoginRefused, DatabaseMissing, ServerTooOld,
    ServerNotDurable.
    """
    backend = sniffio.current_async_library()
    if backend != "asyncio":
        raise NeedsAsyncio(
            target.where,
            "an event loop of asyncio",
            backend,
            "asyncpg runs under no other: use asyncio",
        )
    file = file or target.dsn_file
    try:
        connection = await asyncpg.connect(connection_url(file), timeout=CONNECT_SECONDS_MAX)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        remedy = f"correct user and password in {file}, or let the role in (pg_hba.conf)"
        raise LoginRefused(str(file), "a role that may log in", str(error), remedy) from error
    except asyncpg.InvalidCatalogNameError as error:
        remedy = f"create the database, or correct its name in {file}"
        raise DatabaseMissing(str(file), "an existing database", str(error), remedy) from error
    except asyncpg.InsufficientPrivilegeError as error:
        remedy = "GRANT CONNECT ON DATABASE to the role"
        raise PermissionMissing(str(file), "a role that may connect", str(error), remedy) from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        expected = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        remedy = "write the connection URL of the database there"
        raise ConnectionTextUnusable(
            str(file), expected, f"what asyncpg cannot read ({type(error).__name__})", remedy
        ) from None
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        found = str(error) or f"no answer within {CONNECT_SECONDS_MAX:g} s"
        if isinstance(error, socket.gaierror):
            found = f"no such host: {error}"
        remedy = f"start the server, or correct host and port in {file}"
        raise ServerUnreachable(str(file), "a server that answers", found, remedy) from error
    try:
        await _prepare(target, connection, name)
    except CONNECTION_ERRORS as error:
        connection.terminate()
        remedy = f"see the server's log, and what is between: {file} says where it is"
        found = str(error) or type(error).__name__
        raise ServerUnreachable(
            target.where, "a connection that stays open", found, remedy
        ) from error
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _prepare(target: Target, connection: Connection, name: str) -> None:
    version = connection.get_server_version()
    if version.major < VERSION_MIN:
        found = f"{version.major}.{version.minor}"
        raise ServerTooOld(
            target.where, f"PostgreSQL {VERSION_MIN} or later", found, "upgrade the server"
        )
    fsync, encoding = await connection.fetchrow(
        "SELECT current_setting('fsync'), current_setting('server_encoding')"
    ) or ("", "")
    if encoding != "UTF8":
        remedy = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name that one"
        raise DatabaseEncoding(target.where, "a database with the encoding UTF8", encoding, remedy)
    if fsync != "on":
        remedy = (
            "set fsync = on in postgresql.conf: without, a power failure loses confirmed commits"
        )
        raise ServerNotDurable(target.where, "fsync = on", "fsync = off", remedy)
    # A server, a database or a role may have it switched off; whatever waits longer is kept.
    await connection.execute(
        "SELECT set_config('search_path', quote_ident($1), false),"
        " set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
        " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),"
        " set_config('application_name', $2, false)",
        target.schema,
        name,
    )


@contextmanager
def permitted(target: Target, what: str) -> Iterator[None]:
    """Give errors of permission a name. what: what the role must be allowed. Raises: PermissionMissing."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise PermissionMissing(
            target.where,
            f"a role that may {what}",
            str(error),
            "see Roles in docs/how-to/running-on-postgresql.md",
        ) from error
