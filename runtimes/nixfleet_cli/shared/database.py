"""A control plane's store as the commands read it: by its read port, one moment of it, live or at rest.

The store is a SQLite database that is named by its path, or of any kind, named by the control plane's configuration.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from nixfleet_cli.shared.arguments import FILE
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_control_plane.config_store import (
    NotReadBeside,
    StoreConfig,
    load_store_config,
    sqlite_config,
)
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.stored_log import (
    FollowedLog,
    StoredLog,
    followed,
    read_once,
)
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_runtime.config.options import ConfigError
from nixfleet_runtime.config.plugins import PluginUnusable
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.documents.tables import read_toml
from nixfleet_runtime.storage.copies import NotUpgraded
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused

DATABASE: Final = "the database of a control plane"
config_option: Final = click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=FILE,
    help="The configuration, in place of the path: a control plane's store may be of any kind.",
)
"""Gives a command the option --config, as `config_file`."""


def store_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument DB and the option --config, one of which names the store; as `store`."""

    @click.argument("database", metavar="[DB]", required=False, type=click.Path(path_type=Path))
    @config_option
    @wraps(command)
    def with_store(
        *arguments: Any, database: Path | None, config_file: Path | None, **options: Any
    ) -> None:
        command(*arguments, store=store_named(database, config_file), **options)

    return with_store


def store_named(
    database: Path | None, config_file: Path | None, argument: str = "DB"
) -> StoreConfig:
    """Return the store that one of both names. argument: what the command calls `database`.

    Raises: UsageError; Unusable, with all that is wrong with `[store]`.
    """
    if (database is None) == (config_file is None):
        found = "found neither" if database is None else "found both"
        raise click.UsageError(f"expected {argument} or --config, {found}")
    if config_file is None:
        assert database is not None
        return sqlite_config(database)
    try:
        if _is_of_an_agent(config_file):
            return sqlite_config(_journal_of(config_file))
        return load_store_config(config_file, os.environ)
    except ConfigError as error:
        raise Unusable(*lines_of(error)) from error


def _is_of_an_agent(config_file: Path) -> bool:
    content = read_toml(config_file)
    # What is wrong with the file is for whoever loads it to say.
    return not isinstance(content, Problem) and "journal" in content and "store" not in content


def _journal_of(config_file: Path) -> Path:
    """Return the path of an agent's journal. Raises: ConfigError; Unusable, if it is of another kind."""
    from nixfleet_agent.config import JournalConfig, load_journal_config

    journal = load_journal_config(config_file, os.environ)
    if isinstance(journal, JournalConfig):
        return journal.path
    assert journal is not None
    by = f"{journal.plugin.name!r} of {journal.plugin.distribution}"
    raise Unusable(
        f'the journal {by} is read by its agent alone: expected one of kind "sqlite"; '
        "the log of the agent, and the control plane, tell what its host does"
    )


def sqlite_path(store: StoreConfig, command: str) -> Path:
    """Return the path of the store's database. Raises: Unusable, if it is of another kind, which `command` cannot use.

    command: without its arguments, as in `nixfleet log export`.
    """
    if store.path is None:
        raise Unusable(
            f'{store.where} keeps its data in its own way: expected a store of kind "sqlite" for `{command}`, found '
            f"{store.plugin.name!r}; its distribution says how it is upgraded, and how old rows are kept"
        )
    return store.path


@contextmanager
def reading(store: StoreConfig, wanted: str = DATABASE) -> Iterator[StoredLog]:
    """Open the store to be read: later commits are not seen, if the store can. wanted: what DB may be.

    Raises: Unusable; Findings, if a row of the log turns out to be damaged.
    """
    with _refusing(store, wanted), read_once(store.reading()) as stored:
        yield stored


@contextmanager
def following(store: StoreConfig) -> Iterator[FollowedLog]:
    """Open the store to be looked at again and again. Raises: as `reading`."""
    with _refusing(store, DATABASE), followed(store.following()) as log:
        yield log


@contextmanager
def reading_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database at `path`, for commands on the file itself: later commits are not seen.

    Raises: as `reading`.
    """
    with (
        _refusing(sqlite_config(path), DATABASE),
        closing(open_for_reading(path)) as connection,
    ):
        connection.execute("BEGIN")
        yield connection


@contextmanager
def _refusing(store: StoreConfig, wanted: str) -> Iterator[None]:
    try:
        yield
    except NotReadable as error:
        raise Unusable(_not_readable(store, error)) from error
    except (FileNotFoundError, NotOurDatabase) as error:
        raise Unusable(f"{error}; DB must be {wanted}") from error
    except (SchemaRefused, NotUpgraded, PluginUnusable, NotReadBeside) as error:
        raise Unusable(str(error)) from error
    except sqlite3.Error as error:
        raise Unusable(f"{store.where} cannot be read: {error}") from error
    except DamagedRow as error:
        raise Findings(
            f"{error}; `nixfleet log verify {store.argument}` tells whether it was altered"
        ) from error


def _not_readable(store: StoreConfig, error: NotReadable) -> str:
    cause = error.__cause__
    if store.path is not None and isinstance(cause, sqlite3.Error):
        return f"{store.path} cannot be read: {cause}"
    return f"{store.where} {error}"
