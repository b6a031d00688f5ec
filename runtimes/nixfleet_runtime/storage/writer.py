"""Opens the one connection that may write a database: a new file is made, an older one is upgraded.

Source: docs/spec/runtimes.md, Versions.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import nixfleet
from nixfleet_runtime.storage.copies import require_finished
from nixfleet_runtime.storage.file_format import FileFormat
from nixfleet_runtime.storage.regular_file import UnfitFile
from nixfleet_runtime.storage.sqlite import NotOurDatabase, connect_reader, marks_of, version_of
from nixfleet_runtime.storage.upgrade import (
    Check,
    Upgraded,
    UpgradePlan,
    check_before_writing,
    plan_of,
    require_shape,
    upgrade,
)

_CORRECTED_LOGGED_MAX: Final = 20
_log = logging.getLogger(__name__)


def open_writer(
    path: Path,
    file_format: FileFormat,
    *,
    check: Check | None = None,
    program: str | None = None,
    connection_type: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """Return the only connection that may write `path`; create the database if it does not exist.

    A database of an older version is copied and upgraded first. check: asked after an upgrade, and before `program`
    writes to the file for the first time; without it the file says nothing of programs. program: default, this one.
    connection_type: tests replace it.

    The connection is in autocommit mode (use `transaction`) and may move between threads, one at a time.
    Raises: SchemaRefused, NotOurDatabase, UnfitFile, UnfinishedCopy, the errors of `upgrade` and of `check`.
    """
    writing = program or nixfleet.__version__
    connection, done = _open(path, file_format, check, writing, connection_type)
    _tell(path, file_format, done)
    return connection


def bring_up_to_date(
    path: Path,
    file_format: FileFormat,
    check: Check,
    *,
    program: str | None = None,
    always: bool = False,
) -> Upgraded:
    """Do what `open_writer` does to the existing file at `path`, and return what that was.

    always: copy and check a file that needs neither, too.
    Raises: FileNotFoundError, and as `open_writer`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a database at {path}, found no file")
    connection, done = _open(
        path, file_format, check, program or nixfleet.__version__, sqlite3.Connection, always=always
    )
    connection.close()
    return done


def planned_upgrade(path: Path, formats: Iterable[FileFormat]) -> tuple[FileFormat, UpgradePlan]:
    """Return which of `formats` the file has, and what an upgrade would do to it. Nothing is changed.

    Raises: FileNotFoundError, SchemaTooNew, NotOurDatabase, UnfinishedCopy, sqlite3.Error.
    """
    require_finished(path)
    by_id = {each.application_id: each for each in formats}
    with closing(connect_reader(path)) as connection:
        found_id, _, _ = marks_of(connection, path)
        file_format = by_id.get(found_id)
        if file_format is None:
            expected = " or ".join(each.kind for each in by_id.values())
            raise NotOurDatabase(path, expected, f"a database of application id {found_id}")
        found = version_of(connection, path, file_format)
        return file_format, plan_of(connection, path, file_format, found)


def _open(
    path: Path,
    file_format: FileFormat,
    check: Check | None,
    program: str,
    connection_type: type[sqlite3.Connection],
    *,
    always: bool = False,
) -> tuple[sqlite3.Connection, Upgraded]:
    version = file_format.version
    require_finished(path)
    _make_private(path)
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=connection_type
    )
    try:
        found = version_of(connection, path, file_format)
        # Recursive, so that a row which is replaced counts as deleted: triggers see it.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "recursive_triggers=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        done = Upgraded(version, None, ())
        if found == 0:
            _create(connection, file_format)
        elif found < version or always:
            return connection, upgrade(connection, path, file_format, found, check, program)
        else:
            require_shape(connection, path, file_format)
        if check is not None:
            done = check_before_writing(connection, path, version, check, program)
    except BaseException:
        connection.close()
        raise
    return connection, done


def _tell(path: Path, file_format: FileFormat, done: Upgraded) -> None:
    if done.copy is not None:
        _log.info(
            "%s: upgraded from version %d to %d; the file of before is %s",
            path,
            done.found,
            file_format.version,
            done.copy,
        )
    for line in done.corrected[:_CORRECTED_LOGGED_MAX]:
        _log.warning("%s: derived anew from the log: %s", path, line)
    if len(done.corrected) > _CORRECTED_LOGGED_MAX:
        more = len(done.corrected) - _CORRECTED_LOGGED_MAX
        _log.warning("%s: derived anew from the log: %d more rows", path, more)


def _create(connection: sqlite3.Connection, file_format: FileFormat) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE; {file_format.schema}\n"
        f"PRAGMA application_id={file_format.application_id};"
        f" PRAGMA user_version={file_format.version}; COMMIT;"
    )


def _make_private(path: Path) -> None:
    """Create the file at `path` for its owner alone if nothing is there; SQLite gives its other files the same mode.

    A file that is there is not opened: closing it would drop the locks that SQLite may hold on it in this process.
    """
    if path.is_symlink():
        raise UnfitFile(path, "a regular file", "a symbolic link")
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
