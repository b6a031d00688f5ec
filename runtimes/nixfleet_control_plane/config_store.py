"""`[store]` of the control plane's configuration: which kind of store, and how it is opened.

The kind `sqlite` comes with nixfleet; others are entry points of the group `nixfleet.stores`.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Final

from attrs import evolve, field, frozen

from nixfleet_control_plane.history.rebuild import ChainReport
from nixfleet_control_plane.history.retention.keeper import LogKeeper, SqliteLogKeeper
from nixfleet_control_plane.history.shadow import compare_views
from nixfleet_control_plane.leadership.lease import LeaseSeen
from nixfleet_control_plane.leadership.shared_store import OpenedShare, SharedStore
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries, one_moment
from nixfleet_control_plane.reading.stored_log import Looking
from nixfleet_control_plane.store.opened_store import (
    OpenedStore,
    StoreOpener,
    StoreUnusable,
    StoreUpgrade,
)
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.config.options import Section, load, variable_of
from nixfleet_runtime.config.path_checks import file_to_write
from nixfleet_runtime.config.plugins import STORES, Plugin, read_plugin
from nixfleet_runtime.config.sections import read_write_seconds
from nixfleet_runtime.kernel.mutator import WRITE_SECONDS_MAX
from nixfleet_runtime.process.progress import Noted
from nixfleet_runtime.storage.instance_lock import only_process_on

SQLITE: Final = "sqlite"


class NotReadBeside(NixfleetError):
    """Only the process that has the store can read it. where: what messages call the store."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where

    def __str__(self) -> str:
        return (
            f"{self.where} can be read only by the control plane that has it: expected its opener to have `reading`, "
            'found none; ask the control plane while it runs: "nixfleet operator rollouts" and "nixfleet operator log"'
        )


class NotFilled(StoreUnusable):
    """Nothing can be copied into the store. where: what messages call the store."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where

    def __str__(self) -> str:
        return (
            f'{self.where} takes no copy: expected a store whose opener has `fill`, such as kind "postgres"; '
            "a SQLite database is copied as a file, while its control plane is stopped"
        )


@frozen
class StoreConfig:
    """`[store]`. path: the SQLite database; `None`: another kind of store. write_seconds_max: for one commit.

    config_file: the file that this was read from, for messages.
    """

    plugin: Plugin
    opener: StoreOpener = field(eq=False)
    path: Path | None = None
    write_seconds_max: float = WRITE_SECONDS_MAX
    config_file: Path | None = field(default=None, eq=False)

    @property
    def argument(self) -> str:
        """What names the store on the command line of `nixfleet log` and others."""
        if self.path is not None:
            return str(self.path)
        return f"--config {self.config_file or 'FILE'}"

    @property
    def where(self) -> str:
        """What messages call it."""
        if self.path is not None:
            return str(self.path)
        return f"the store {self.plugin.named}"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[OpenedStore]:
        """Open the store; close it at the end. Raises: PluginUnusable, and what a store of nixfleet raises."""
        async with AsyncExitStack() as held:
            try:
                made = await held.enter_async_context(self.opener())
            except Exception as error:
                if not self.plugin.distribution:
                    raise
                raise self.plugin.failed("the store to be opened", error) from error
            yield self._fitting(made)

    @property
    def is_shared(self) -> bool:
        """Whether several control planes can run on it."""
        return getattr(self.opener, "sharing", None) is not None

    async def lease(self) -> LeaseSeen | None:
        """Return who leads on a shared store; `None`: it has one owner. Raises: NotReadable."""
        lease: Callable[[], Awaitable[LeaseSeen]] | None = getattr(self.opener, "lease", None)
        return None if lease is None else await lease()

    @asynccontextmanager
    async def sharing(self) -> AsyncIterator[OpenedShare]:
        """Open a part in a store that is shared; close it at the end. Takes nothing.

        Raises: PluginUnusable, and what a store of nixfleet raises.
        """
        sharing = getattr(self.opener, "sharing", None)
        assert sharing is not None, "asked before"
        async with AsyncExitStack() as held:
            try:
                made = await held.enter_async_context(sharing())
            except Exception as error:
                if not self.plugin.distribution:
                    raise
                raise self.plugin.failed("the store to be opened", error) from error
            if not isinstance(made, OpenedShare):
                raise self.plugin.unfit("an OpenedShare", f"a {type(made).__qualname__}")
            self.plugin.require(made.shared, SharedStore)
            self.plugin.require(made.queries, Queries)
            if made.keeper is not None:
                self.plugin.require(made.keeper, LogKeeper)
            yield made

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Queries]:
        """Open the read port alone, beside the process that may have the store.

        Raises: NotReadBeside, if the store has no such way; PluginUnusable, and what a store of nixfleet raises.
        """
        reading = getattr(self.opener, "reading", None)
        if reading is None:
            raise NotReadBeside(self.where)
        async with AsyncExitStack() as held:
            try:
                queries = await held.enter_async_context(reading())
            except Exception as error:
                if not self.plugin.distribution:
                    raise
                raise self.plugin.failed("the store to be read", error) from error
            self.plugin.require(queries, Queries)
            yield queries

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Looking]:
        """Give what opens the read port again and again, each time as of then. A store that has `reading` alone is
        opened anew for each look.

        Raises: as `reading`.
        """
        following = getattr(self.opener, "following", None)
        if following is None:
            yield self.reading
            return
        async with AsyncExitStack() as held:
            try:
                queries = await held.enter_async_context(following())
            except Exception as error:
                if not self.plugin.distribution:
                    raise
                raise self.plugin.failed("the store to be followed", error) from error
            self.plugin.require(queries, Queries)
            yield lambda: nullcontext(queries)

    @property
    def is_read_beside(self) -> bool:
        """Whether another process than the one that has the store can read it."""
        return hasattr(self.opener, "following") or hasattr(self.opener, "reading")

    @property
    def is_kept_beside(self) -> bool:
        """Whether another process than the one that has the store can export and drop rows, by `keeping`."""
        return hasattr(self.opener, "keeping")

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[LogKeeper]:
        """Open what exports and drops, beside the process that may have the store. Only if `is_kept_beside`.

        Raises: PluginUnusable, and what a store of nixfleet raises.
        """
        keeping = getattr(self.opener, "keeping")  # noqa: B009
        async with AsyncExitStack() as held:
            try:
                keeper = await held.enter_async_context(keeping())
            except Exception as error:
                if not self.plugin.distribution:
                    raise
                raise self.plugin.failed("the store to be kept", error) from error
            self.plugin.require(keeper, LogKeeper)
            yield keeper

    @property
    def is_upgraded_beside(self) -> bool:
        """Whether `upgrade` can upgrade the store before a start does."""
        return hasattr(self.opener, "upgrade")

    async def upgrade(self, *, dry_run: bool, rebuild: bool, noted: Noted) -> StoreUpgrade:
        """As `UpgradedBeside.upgrade`. Only if `is_upgraded_beside`. Raises: StoreUnusable, DamagedRow."""
        upgrade = getattr(self.opener, "upgrade")  # noqa: B009
        done: StoreUpgrade = await upgrade(dry_run=dry_run, rebuild=rebuild, noted=noted)
        return done

    async def fill(self, source: sqlite3.Connection, chain: ChainReport, where: str) -> None:
        """Copy a SQLite store into this one, as `FilledFrom.fill`.

        Raises: NotFilled, if the store has no such way; StoreUnusable.
        """
        fill = getattr(self.opener, "fill", None)
        if fill is None:
            raise NotFilled(self.where)
        await fill(source, chain, where)

    def _fitting(self, made: object) -> OpenedStore:
        if not isinstance(made, OpenedStore):
            raise self.plugin.unfit("an OpenedStore", f"a {type(made).__qualname__}")
        self.plugin.require(made.store, Store)
        self.plugin.require(made.queries, Queries)
        if made.keeper is not None:
            self.plugin.require(made.keeper, LogKeeper)
        return made


def read_store(section: Section) -> StoreConfig:
    """Return `[store]`."""
    seconds = read_write_seconds(section)
    found = read_plugin(section, STORES, _OWN, SQLITE)
    if found is None:
        return sqlite_config(Path())
    plugin, opener = found
    if isinstance(opener, _SqliteOpener):
        return StoreConfig(plugin, opener, opener.path, seconds)
    return StoreConfig(plugin, opener, write_seconds_max=seconds)


def load_store_config(file: Path, environ: Mapping[str, str]) -> StoreConfig:
    """Return `[store]` of the control plane's configuration in `file`, with the environment's overrides.

    The other sections are not read, so their files need not be there. Raises: ConfigError, with every problem.
    """

    def read(root: Section) -> StoreConfig:
        root.accept_unknown_keys()
        return read_store(root.section("store"))

    prefix = f"{variable_of('store')}__"
    own = {name: text for name, text in environ.items() if name.startswith(prefix)}
    return evolve(load(file, own, read).config, config_file=file)


def sqlite_config(path: Path) -> StoreConfig:
    """Return the configuration of the SQLite store at `path`."""
    return StoreConfig(Plugin(STORES, SQLITE), _SqliteOpener(path), path)


@frozen
class _SqliteOpener:
    path: Path

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[OpenedStore]:
        with ExitStack() as held:
            held.enter_context(only_process_on(self.path))
            blocking = SqliteStore(self.path, compare_views)
            store = ThreadedStore(blocking)
            keeper = SqliteLogKeeper(self.path, blocking, store)
            try:
                yield OpenedStore(store, SqliteQueries(self.path), keeper)
            finally:
                await store.close()

    def reading(self) -> AbstractAsyncContextManager[Queries]:
        return one_moment(self.path)

    def following(self) -> AbstractAsyncContextManager[Queries]:
        return nullcontext(SqliteQueries(self.path))


def _sqlite(section: Section) -> StoreOpener:
    return _SqliteOpener(section.path("path", file_to_write))


_OWN: Final[Mapping[str, Callable[[Section], StoreOpener]]] = {SQLITE: _sqlite}
