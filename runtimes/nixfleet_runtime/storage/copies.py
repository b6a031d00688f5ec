"""Copies of a database that are made before it is upgraded. One that is not complete is never taken for a copy.

A copy is written under a name that ends in `.partial`, compared with what it was made of, flushed, and only then given
its name. A crash leaves the `.partial` file, which nothing opens, and which the next attempt replaces.
"""

import marshal
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_proto.errors import NixfleetError

UNFINISHED: Final = ".partial"
_ROWS_AT_ONCE: Final = 1000
_PLAIN: Final = 2
"""The version of `marshal` that writes equal values alike (later ones write references). Faster than `repr`."""
_NULL: Final = "NULL value in "


class NotUpgraded(NixfleetError):
    """A database could not be copied, checked or upgraded. It is as it was; the text says what to do."""

    path: Path


class UnfinishedCopy(NotUpgraded):
    """The file is a copy that was never completed. Nothing was changed. Attributes: `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        whole = self.path.name.removesuffix(UNFINISHED)
        return (
            f"{self.path}: expected a complete file, found a copy that was not finished (its name ends in "
            f"{UNFINISHED}): use the database that it was made of, or another copy; {whole} is one if it exists"
        )


class CopyDiffers(NotUpgraded):
    """A copy does not have what the database has. The database was not changed. Attributes: `path`, `copy`."""

    def __init__(self, path: Path, copy: Path, problem: str) -> None:
        super().__init__(path, copy, problem)
        self.path = path
        self.copy = copy
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.copy}: expected a copy of {self.path}, found another content: {self.problem}; the copy was removed "
            "and the database is as it was: examine the disk before you try again"
        )


class NotEnoughSpace(NotUpgraded):
    """The file system has no room for a copy and an upgrade. Nothing was changed. In bytes: `needed`, `free`."""

    def __init__(self, path: Path, needed: int, free: int) -> None:
        super().__init__(path, needed, free)
        self.path = path
        self.needed = needed
        self.free = free

    def __str__(self) -> str:
        return (
            f"{self.path.parent}: expected {self.needed} free bytes, for a copy of {self.path.name} and for its "
            f"upgrade, found {self.free}: nothing was changed; make room and start again"
        )


class DamagedDatabase(NotUpgraded):
    """SQLite finds the database inconsistent. Nothing was changed. Attributes: `path`, `problem`."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.path}: expected a consistent database, found: {self.problem}: it was not upgraded; restore a copy, "
            "or move it away and start without it"
        )


def require_finished(path: Path) -> None:
    """Raise UnfinishedCopy if `path` is named as a copy that is being written."""
    if path.name.endswith(UNFINISHED):
        raise UnfinishedCopy(path)


@frozen
class Space:
    """In bytes: what an upgrade needs at most, and what is free where the database lies."""

    needed: int
    free: int


def space_for_upgrade(connection: sqlite3.Connection, path: Path) -> Space:
    """Return the space for a copy of the database, and for an upgrade that writes each of its pages anew.

    The new pages are in the write-ahead log first, and then in the file, which may have to grow for them.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return Space(3 * pages * page_bytes, shutil.disk_usage(path.parent).free)


def verified_copy(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Return a complete copy of the database beside it, named after `version`, for its owner alone.

    A copy that is there already and has the same content is not made again, so that an upgrade which fails at each
    start does not fill the disk. No file is overwritten.
    Raises: DamagedDatabase, CopyDiffers, OSError, sqlite3.Error; the database has not changed then.
    """
    require_consistent(connection, path)
    expected = content_digest(connection)
    copy = next(it for it in _names(path, version) if not it.exists() or _has(it, expected))
    if not copy.exists():
        _make_copy(connection, path, copy, expected)
    return copy


def require_consistent(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DamagedDatabase unless SQLite finds every page and index of the database in order."""
    try:
        problems = [problem for (problem,) in connection.execute("PRAGMA integrity_check(1000000)")]
        found = next((it for it in problems if it != "ok" and _is_true(connection, it)), None)
    except sqlite3.DatabaseError as error:
        raise DamagedDatabase(path, str(error)) from error
    if found is not None:
        raise DamagedDatabase(path, found)


def _is_true(connection: sqlite3.Connection, problem: str) -> bool:
    """Return whether what SQLite reports is so.

    SQLite up to 3.40 finds a null where there is none, in tables without row ids of which a column precedes the last
    one of the primary key.
    """
    if not problem.startswith(_NULL):
        return True
    table, _, column = problem.removeprefix(_NULL).partition(".")
    asked = f'SELECT 1 FROM "{table}" WHERE "{column}" IS NULL LIMIT 1'
    return connection.execute(asked).fetchone() is not None


def content_digest(connection: sqlite3.Connection) -> bytes:
    """Return a hash over the schema, the marks and every row."""
    digest = blake2b()
    marks = [
        connection.execute(f"PRAGMA {mark}").fetchone()
        for mark in ("application_id", "user_version")
    ]
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
    digest.update(repr((marks, schema.fetchall())).encode())
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    for (table,) in tables.fetchall():
        digest.update(table.encode())
        # In the order of the pages, which a copy has too.
        rows = connection.execute(f'SELECT * FROM "{table}"')
        while some := rows.fetchmany(_ROWS_AT_ONCE):
            digest.update(marshal.dumps(some, _PLAIN))
    return digest.digest()


def _names(path: Path, version: int) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.version-{version}")
    for number in count(2):
        yield path.with_name(f"{path.name}.version-{version}-{number}")


def _make_copy(connection: sqlite3.Connection, path: Path, copy: Path, expected: bytes) -> None:
    partial = copy.with_name(copy.name + UNFINISHED)
    _remove(partial)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(partial)) as written:
            connection.backup(written)
            # So that it needs no second file, and can be read from a directory that cannot be written.
            written.execute("PRAGMA journal_mode=DELETE")
        if not _has(partial, expected):
            raise CopyDiffers(path, partial, "what was read back is not what was written")
        _flush(partial)
        partial.rename(copy)
        _flush(copy.parent)
    except BaseException:
        _remove(partial)
        raise


def _has(copy: Path, expected: bytes) -> bool:
    """Return whether `copy` is a consistent database with this content."""
    with suppress(sqlite3.Error, DamagedDatabase):
        uri = f"{copy.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            require_consistent(connection, copy)
            return content_digest(connection) == expected
    return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(partial: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{partial}{suffix}").unlink(missing_ok=True)
