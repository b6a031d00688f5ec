"""Makes the schema of a store, and brings it to the version of this program. Decides nothing about its content.

Versions are numbered scripts, schema_1.sql and so on, each carried out once and recorded in `schema_versions`. One
process at a time does so, under an advisory lock that ends with the transaction.
Source: docs/how-to/running-on-postgresql.md.
"""

from importlib.resources import files
from typing import Final

from nixfleet_control_plane.history.rebuild import DERIVED_VIEWS
from nixfleet_postgres.connecting import Connection, permitted
from nixfleet_postgres.errors import AnotherFleet, SchemaMissing, SchemaVersionRefused
from nixfleet_postgres.target import Target

VERSION: Final = 2
_LOCK: Final = 0x6E666370
"""The key of the advisory lock: "nfcp", as the application id of the SQLite store's file."""
_READ: Final = ("database", "log_partitions", "log_start", "schema_versions")
_APPENDED_TO: Final = ("contents", "event_log")
_CHANGED: Final = ("shards", "host_rollout_records", "host_records_through", *DERIVED_VIEWS)
_RIGHTS: Final = (
    ("SELECT", _READ),
    ("SELECT, INSERT", _APPENDED_TO),
    ("SELECT, INSERT, UPDATE, DELETE", _CHANGED),
)
"""What the store's own role may do, if the schema is another one's. Of the log's partitions nothing, but by the log."""


async def require_schema(target: Target, connection: Connection) -> None:
    """Check that the schema is of this program's version and of the target's fleet.

    Raises: SchemaMissing, SchemaVersionRefused, AnotherFleet, PermissionMissing.
    """
    version = await schema_version(target, connection)
    if version == 0:
        remedy = "start the control plane once: it makes the schema"
        raise SchemaMissing(target.where, "the schema of a control plane", "none", remedy)
    if version < VERSION:
        remedy = "start the control plane of this version once: it upgrades the schema"
        raise SchemaVersionRefused(target.where, f"version {VERSION}", f"version {version}", remedy)
    with permitted(target, "read the store's tables"):
        fleet = await connection.fetchval("SELECT fleet FROM database")
    if fleet != target.fleet:
        remedy = "correct `fleet` or `schema` in [store], or the database in its file"
        raise AnotherFleet(
            target.where, f"the data of the fleet {target.fleet!r}", f"that of {fleet!r}", remedy
        )


async def upgrade_schema(target: Target, owner: Connection, role: str) -> bool:
    """Make the schema if there is none, and upgrade an older one; return whether there is a log that was upgraded.

    owner: of the role that owns the schema, in a transaction; role: what the store itself uses.
    Raises: SchemaVersionRefused.
    """
    await owner.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    name = await owner.fetchval("SELECT quote_ident($1)", target.schema)
    if not await owner.fetchval("SELECT true FROM pg_namespace WHERE nspname = $1", target.schema):
        await owner.execute(f"CREATE SCHEMA {name}")
    await owner.execute(
        "CREATE TABLE IF NOT EXISTS schema_versions ("
        "version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    # Asked again: another process may have done it while this one waited for the lock.
    found = await schema_version(target, owner)
    for version in range(found + 1, VERSION + 1):
        script = files("nixfleet_postgres").joinpath(f"schema_{version}.sql")
        await owner.execute(script.read_text(encoding="utf-8"))
        await owner.execute("INSERT INTO schema_versions VALUES ($1)", version)
    await owner.execute(
        "INSERT INTO database (fleet) VALUES ($1) ON CONFLICT DO NOTHING", target.fleet
    )
    await _grant(owner, name, role)
    return 0 < found < VERSION and bool(await owner.fetchval("SELECT count(*) FROM shards"))


async def _grant(owner: Connection, schema: str, role: str) -> None:
    """Let the store's role read and append, but change no row of the log."""
    if role == await owner.fetchval("SELECT current_user"):
        return
    to = await owner.fetchval("SELECT quote_ident($1)", role)
    await owner.execute(f"GRANT USAGE ON SCHEMA {schema} TO {to}")
    await owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {to}")
    for rights, tables in _RIGHTS:
        await owner.execute(f"GRANT {rights} ON {', '.join(tables)} TO {to}")
    await owner.execute(f"GRANT EXECUTE ON FUNCTION make_partitions, begin_empty_log_at TO {to}")


async def schema_version(target: Target, connection: Connection) -> int:
    """Return the schema's version; 0: there is none. Raises: SchemaVersionRefused, PermissionMissing."""
    with permitted(target, "use the schema"):
        # By its name: a schema that the role may not use looks as if it had no tables.
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $1 AND c.relname = 'schema_versions')",
            target.schema,
        ):
            return 0
        name = await connection.fetchval("SELECT quote_ident($1)", target.schema)
        version: int = await connection.fetchval(
            f"SELECT coalesce(max(version), 0) FROM {name}.schema_versions"
        )
    if version > VERSION:
        raise SchemaVersionRefused(
            target.where,
            f"version {VERSION} or older",
            f"version {version}",
            "a later nixfleet made it: run that one",
        )
    return version
