"""`[store] kind = "postgres"`: reads its options, and opens the store. Connects only when it is opened.

The driver is imported there: without it, a configuration is refused by name and not with a traceback.
"""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from importlib.util import find_spec
from typing import Final

from attrs import frozen

from nixfleet_control_plane.history.rebuild import ChainReport
from nixfleet_control_plane.history.retention.keeper import LogKeeper
from nixfleet_control_plane.leadership.lease import (
    LEASE_SECONDS,
    LEASE_SECONDS_LEAST,
    LEASE_SECONDS_MOST,
    LeaseSeen,
)
from nixfleet_control_plane.leadership.shared_store import OpenedShare
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.store.opened_store import OpenedStore, StoreUpgrade
from nixfleet_postgres.errors import ConnectionTextUnusable
from nixfleet_postgres.target import Target, connection_url
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import private_file
from nixfleet_runtime.process.progress import Noted

NAME_LENGTH_MAX: Final = 63
"""What PostgreSQL keeps of a name; it cuts off the rest."""


@frozen
class PostgresOpener:
    """Opens the store of `target` for this process alone, or its read port beside the process that has it."""

    target: Target
    lease_seconds: float = LEASE_SECONDS

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[OpenedStore]:
        """Raises: PostgresUnusable."""
        from nixfleet_postgres.keeper import PostgresLogKeeper
        from nixfleet_postgres.postgres_store import open_store
        from nixfleet_postgres.reading import PostgresQueries

        store = await open_store(self.target)
        try:
            with closing(PostgresQueries(self.target)) as queries:
                yield OpenedStore(store, queries, PostgresLogKeeper(self.target, queries))
        finally:
            await store.close()

    @asynccontextmanager
    async def sharing(self) -> AsyncGenerator[OpenedShare]:
        """As `Shares.sharing`. Raises: PostgresUnusable."""
        from nixfleet_postgres.keeper import PostgresLogKeeper
        from nixfleet_postgres.reading import PostgresQueries
        from nixfleet_postgres.sharing import open_share

        async with open_share(self.target, self.lease_seconds) as shared:
            with closing(PostgresQueries(self.target)) as queries:
                yield OpenedShare(shared, queries, PostgresLogKeeper(self.target, queries))

    async def lease(self) -> LeaseSeen:
        """As `Shares.lease`."""
        from nixfleet_postgres.sharing import lease_of

        return await lease_of(self.target)

    def reading(self) -> AbstractAsyncContextManager[Queries]:
        """Answer as of one moment. Takes nothing over. Raises: NotReadable."""
        from nixfleet_postgres.reading import moment

        return moment(self.target)

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[Queries]:
        """Answer each question as of then. Takes nothing over. Raises: NotReadable."""
        from nixfleet_postgres.reading import PostgresQueries

        with closing(PostgresQueries(self.target)) as queries:
            yield queries

    @asynccontextmanager
    async def keeping(self) -> AsyncGenerator[LogKeeper]:
        """As `KeptBeside.keeping`. Takes nothing over."""
        from nixfleet_postgres.keeper import PostgresLogKeeper, export_here
        from nixfleet_postgres.reading import PostgresQueries

        with closing(PostgresQueries(self.target)) as queries:
            yield PostgresLogKeeper(self.target, queries, export_here)

    async def upgrade(self, *, dry_run: bool, rebuild: bool, noted: Noted) -> StoreUpgrade:
        """As `UpgradedBeside.upgrade`."""
        from nixfleet_postgres.upgrading import upgrade

        return await upgrade(self.target, dry_run=dry_run, rebuild=rebuild, noted=noted)

    async def fill(self, source: sqlite3.Connection, chain: ChainReport, where: str) -> None:
        """As `FilledFrom.fill`."""
        from nixfleet_postgres.filling import fill

        await fill(self.target, source, chain)


def store(section: Section) -> PostgresOpener:
    """Return what opens the store that `[store]` describes."""
    if find_spec("asyncpg") is None:
        expected = "the extra: pip install 'nixfleet[postgres]'"
        section.refuse("kind", "needs a package that is not installed", expected, "no asyncpg")
    dsn_file = section.path("dsn_file", private_file)
    owner_dsn_file = section.optional_path("owner_dsn_file", private_file)
    for key, file in (("dsn_file", dsn_file), ("owner_dsn_file", owner_dsn_file)):
        if file is not None and file.is_file() and private_file(file) is None:
            try:
                connection_url(file)
            except ConnectionTextUnusable as error:
                section.refuse(key, "has no connection URL", error.expected, error.found)
    schema = section.text("schema", "nixfleet")
    if len(schema.encode()) > NAME_LENGTH_MAX or schema.startswith("pg_") or "\0" in schema:
        expected = f"a name of up to {NAME_LENGTH_MAX} bytes that does not begin with pg_"
        section.refuse("schema", "cannot be the name of a schema", expected, schema[:80])
    fleet = section.text("fleet", "nixfleet")
    if "\0" in fleet:
        section.refuse("fleet", "cannot be used", "a text without a NUL", "one")
    lease_seconds = section.seconds(
        "lease_seconds", LEASE_SECONDS, at_least=LEASE_SECONDS_LEAST, at_most=LEASE_SECONDS_MOST
    )
    return PostgresOpener(Target(dsn_file, schema, fleet, owner_dsn_file), lease_seconds)
