"""Opens connections to a store's database. The only module that connects."""

import logging
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg
import sniffio

from nixfleet_postgres.errors import (
    ConnectionLimitReached,
    ConnectionTextUnusable,
    DatabaseEncoding,
    DatabaseMissing,
    DatabaseReadOnly,
    LoginRefused,
    NeedsAsyncio,
    PermissionMissing,
    ServerNotDurable,
    ServerTooOld,
    ServerUnreachable,
    SessionShared,
)
from nixfleet_postgres.target import Target, connection_url

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

VERSION_MIN: Final = 14
CLOCK_SKEW_SECONDS_MAX: Final = 5.0
CONNECT_SECONDS_MAX: Final = 10.0
APPLICATION_NAME: Final = "nixfleet"
_log = logging.getLogger(__name__)
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
    except asyncpg.TooManyConnectionsError as error:
        remedy = "raise max_connections, or the CONNECTION LIMIT of role or database, or end other sessions"
        raise ConnectionLimitReached(str(file), "room for a session", str(error), remedy) from error
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
        await _require_own_session(target, connection, file)
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


async def _require_own_session(target: Target, connection: Connection, file: Path) -> None:
    """Check that statements of a connection go to one session of the server. Raises: SessionShared.

    A pooler in between makes up the process id that it tells a client. Whether it gives each transaction another
    session shows beside a second connection: with a session of its own, each keeps its process of the server.
    """
    try:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        if pid == connection.get_server_pid():
            return
        other = await asyncpg.connect(connection_url(file), timeout=CONNECT_SECONDS_MAX)
        try:
            pids = {pid, await connection.fetchval("SELECT pg_backend_pid()")}
            if len(pids) == 1 and await other.fetchval("SELECT pg_backend_pid()") not in pids:
                return
        finally:
            other.terminate()
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        pass
    except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
        found = str(error) or type(error).__name__
        remedy = f"see the server's log, and what is between: {file} says where it is"
        raise ServerUnreachable(str(file), "a connection that stays open", found, remedy) from error
    remedy = (
        "set pool_mode = session for this database in PgBouncer, or connect to the server itself"
    )
    found = "a pooler that shares sessions, as PgBouncer with transaction pooling"
    raise SessionShared(target.where, "a session for each connection", found, remedy)


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


async def require_writable(target: Target, connection: Connection) -> None:
    """Check that the database can be written to; log a clock that is not this machine's. Raises: DatabaseReadOnly."""
    row = await connection.fetchrow(
        "SELECT pg_is_in_recovery() AS is_replica, current_setting('transaction_read_only') = 'on' AS is_read_only,"
        " clock_timestamp() AS now"
    )
    assert row is not None, "a SELECT without FROM has a row"
    if row["is_replica"]:
        remedy = f"name the primary server in {target.dsn_file}, or promote this one"
        raise DatabaseReadOnly(target.where, "a primary server", "a replica", remedy)
    if row["is_read_only"]:
        remedy = "ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only"
        found = "default_transaction_read_only = on"
        raise DatabaseReadOnly(target.where, "a database that can be written to", found, remedy)
    ahead_seconds = (row["now"] - datetime.now(UTC)).total_seconds()
    if abs(ahead_seconds) > CLOCK_SKEW_SECONDS_MAX:
        _log.warning(
            "%s: the server's clock is %.0f s %s this machine's: leases go by the server's, and times in the log by "
            "this machine's, so nothing is lost; set the clock that is wrong, by NTP",
            target.where,
            abs(ahead_seconds),
            "ahead of" if ahead_seconds > 0 else "behind",
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
