"""Takes a database from the version that it has to the current one, or leaves it exactly as it was.

First a verified copy is made. Then all steps, the checks of their result and the new version are one transaction: a
process that is killed, a disk that is full or a check that fails leaves the old version, whole. A step of its own
transaction would leave versions in between, which no program ever wrote and no check has seen.
Source: docs/how-to/upgrading.md; docs/spec/runtimes.md, Versions.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen

from nixfleet_runtime.storage.copies import (
    NotEnoughSpace,
    NotUpgraded,
    Space,
    space_for_upgrade,
    verified_copy,
)
from nixfleet_runtime.storage.file_format import FileFormat, Step, statements
from nixfleet_runtime.storage.sqlite import SchemaDiffers, transaction

Check: TypeAlias = Callable[[sqlite3.Connection, int], Sequence[str]]
"""Examines a database before a program writes to it for the first time, inside a transaction.

Given the version that the file had before; returns what it had to correct, one line each. An error refuses the file.
"""
PROGRAM_TABLE: Final = "program"


class UpgradeRefused(NotUpgraded):
    """The result of an upgrade is not in order. Nothing was changed. Attributes: `path`, `problem`."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} was not upgraded, and is as it was: {self.problem}"


@frozen
class UpgradePlan:
    """What an upgrade would do. found, version: of the file now, and after it."""

    path: Path
    kind: str
    found: int
    version: int
    steps: tuple[Step, ...]
    space: Space


@frozen
class Upgraded:
    """What was done. copy: of the file before; `None` if no step was needed. corrected: lines of the check."""

    found: int
    copy: Path | None
    corrected: tuple[str, ...]


def plan_of(
    connection: sqlite3.Connection, path: Path, file_format: FileFormat, found: int
) -> UpgradePlan:
    """Return what `upgrade` would do to the file. Nothing is changed."""
    return UpgradePlan(
        path,
        file_format.kind,
        found,
        file_format.version,
        file_format.steps_after(found),
        space_for_upgrade(connection, path),
    )


def upgrade(
    connection: sqlite3.Connection,
    path: Path,
    file_format: FileFormat,
    found: int,
    check: Check | None,
    program: str,
) -> Upgraded:
    """Make a verified copy, and take the file behind `connection` from version `found` to the current one.

    A file of the current version is copied and checked.

    Raises: NotEnoughSpace, DamagedDatabase, CopyDiffers, SchemaDiffers, UpgradeRefused, OSError, sqlite3.Error and the
    errors of `check`; the file is as it was then.
    """
    space = space_for_upgrade(connection, path)
    if space.free < space.needed:
        raise NotEnoughSpace(path, space.needed, space.free)
    copy = verified_copy(connection, path, found)
    # A step may drop a table that others refer to. It is off only here, and what it would have found is asked below.
    connection.execute("PRAGMA foreign_keys=OFF")
    with transaction(connection):
        dangling = _dangling(connection)
        for step in file_format.steps_after(found):
            for statement in statements(step.script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={file_format.version}")
        require_shape(connection, path, file_format)
        corrected = _checked(connection, found, check, program)
        for (table, parent), count in (_dangling(connection) - dangling).items():
            problem = f"{count} row(s) of {table} refer to rows of {parent} that are not there"
            raise UpgradeRefused(path, problem)
    connection.execute("PRAGMA foreign_keys=ON")
    return Upgraded(found, copy, corrected)


def check_before_writing(
    connection: sqlite3.Connection, path: Path, version: int, check: Check, program: str
) -> Upgraded:
    """Let `check` examine a file of the current `version`, unless this program wrote to it before.

    Raises: the errors of `check`; nothing has changed then.
    """
    if stored_program(connection) == program:
        return Upgraded(version, None, ())
    with transaction(connection):
        return Upgraded(version, None, _checked(connection, version, check, program))


def stored_program(connection: sqlite3.Connection) -> str | None:
    """Return the version of the program that wrote to the file last; `None` if that is not known."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (PROGRAM_TABLE,))
    if known.fetchone() is None:
        return None
    row = connection.execute(f"SELECT version FROM {PROGRAM_TABLE}").fetchone()
    return None if row is None else row[0]


def require_shape(connection: sqlite3.Connection, path: Path, file_format: FileFormat) -> None:
    """Raise SchemaDiffers unless every table of the current version is there with its columns."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(file_format.schema)
        expected = _columns_of(fresh)
    missing = sorted(expected - _columns_of(connection))
    if missing:
        table, column = missing[0]
        raise SchemaDiffers(path, file_format.version, f"column {column} of table {table}")


def _checked(
    connection: sqlite3.Connection, found: int, check: Check | None, program: str
) -> tuple[str, ...]:
    if check is None:
        return ()
    corrected = tuple(check(connection, found))
    connection.execute(f"INSERT OR REPLACE INTO {PROGRAM_TABLE} VALUES (1, ?)", (program,))
    return corrected


def _dangling(connection: sqlite3.Connection) -> Counter[tuple[str, str]]:
    """Return how many rows of which table refer to a missing row of which. Views may name rows that were dropped."""
    found = connection.execute("PRAGMA foreign_key_check")
    return Counter((table, parent) for table, _, parent, _ in found)


def _columns_of(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(
        connection.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table'"
        )
    )
