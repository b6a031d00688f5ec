"""A control plane's database as the commands see it: read-only, one moment of it, live or at rest."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_runtime.storage.copies import NotUpgraded
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused

database_argument = click.argument("database", metavar="DB", type=click.Path(path_type=Path))
"""Gives a command the argument DB, as `database`."""


@contextmanager
def reading(
    path: Path, wanted: str = "the database of a control plane"
) -> Iterator[sqlite3.Connection]:
    """Open the database at `path` for one consistent read: later commits are not seen. wanted: what DB may be.

    Raises: Unusable; Findings, if a row of the log turns out to be damaged.
    """
    try:
        with closing(open_for_reading(path)) as connection:
            connection.execute("BEGIN")
            yield connection
    except (FileNotFoundError, NotOurDatabase) as error:
        raise Unusable(f"{error}; DB must be {wanted}") from error
    except (SchemaRefused, NotUpgraded) as error:
        raise Unusable(str(error)) from error
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    except DamagedRow as error:
        raise Findings(
            f"{error}; `nixfleet log verify {path}` tells whether it was altered"
        ) from error
