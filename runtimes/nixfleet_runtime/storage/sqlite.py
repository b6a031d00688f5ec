"""SQLite for both sides: one connection that writes, and read-only ones beside it.

SQLite 3.7.0–3.51.2 can corrupt a WAL database when two connections write or checkpoint at the same time, so exactly one
does; readers never checkpoint. `synchronous=FULL`, because otherwise a power failure could undo acknowledged commits.
Source: docs/spec/system.md, Platform facts.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.copies import require_finished
from nixfleet_runtime.storage.file_format import FileFormat

WAL_BYTES_MAX: Final = 64 * 1024 * 1024


class SchemaRefused(NixfleetError):
    """The database has a schema that this version cannot use. Nothing was changed. path: where it lies."""

    path: Path


class SchemaTooNew(SchemaRefused):
    """The database was written by a newer version. Nothing was changed."""

    def __init__(self, path: Path, found: int, supported: int) -> None:
        super().__init__(path, found, supported)
        self.path = path
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        return (
            f"{self.path}: expected a schema up to {self.supported}, found {self.found}: "
            "use the version that wrote it, or a newer one"
        )


class NotOurDatabase(NixfleetError):
    """The file exists and is not the expected kind of database."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class SchemaTooOld(SchemaRefused):
    """The database was written by an earlier version, and a reader upgrades nothing. Nothing was changed."""

    def __init__(self, path: Path, found: int, supported: int) -> None:
        super().__init__(path, found, supported)
        self.path = path
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        return (
            f"{self.path} has schema {self.found}, expected {self.supported}: the service that owns it upgrades it at "
            f"its next start, and so does `nixfleet db upgrade {self.path}`"
        )


class SchemaDiffers(SchemaRefused):
    """The database has the number of a schema that is known, and other tables. Nothing was changed."""

    def __init__(self, path: Path, version: int, missing: str) -> None:
        super().__init__(path, version, missing)
        self.path = path
        self.version = version
        self.missing = missing

    def __str__(self) -> str:
        return (
            f"{self.path} has schema {self.version}, expected {self.missing} in it and found none: "
            "an unreleased version wrote it, which only that version can read"
        )


class CommitInDoubt(NixfleetError):
    """COMMIT failed without leaving the transaction open: it may or may not be durable. error: SQLite's.

    The caller opens the file again and looks: a new connection reads what the file has, not what this one believes.
    """

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return f"it is not known whether a commit is durable: {self.error}"


def open_reader(path: Path, file_format: FileFormat) -> sqlite3.Connection:
    """Return a read-only connection to `path`, which sees committed data. Any thread may use it.

    Raises: FileNotFoundError, SchemaRefused, NotOurDatabase, UnfinishedCopy.
    """
    connection = connect_reader(path)
    try:
        found = version_of(connection, path, file_format)
        if found == 0:
            raise NotOurDatabase(
                path, f"a database of schema {file_format.version}", "an empty one"
            )
        if found < file_format.version:
            raise SchemaTooOld(path, found, file_format.version)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a read-only connection to whatever database is at `path`. Raises: FileNotFoundError, sqlite3.Error."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a database at {path}, found no file")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
    except BaseException:
        connection.close()
        raise
    return connection


class WalLimiter:
    """Bounds the size of the writer's write-ahead log. Call `truncate_if_long` after each transaction.

    SQLite copies the log into the database by itself, as far as readers allow; but while there is always some reader,
    it
    never restarts the log. Once the log is longer than `bytes_max`, this waits up to `wait_seconds` for the current
    readers and truncates the log. If a reader takes longer, it tries again after another `bytes_max`.
    Source: docs/spec/runtimes.md, Store.
    """

    def __init__(
        self,
        writer: sqlite3.Connection,
        path: Path,
        *,
        bytes_max: int = WAL_BYTES_MAX,
        wait_seconds: float = 0.25,
    ) -> None:
        self._writer = writer
        self._log = Path(f"{path}-wal")
        self._bytes_max = bytes_max
        self._wait_milliseconds = round(wait_seconds * 1000)
        self._due_bytes = bytes_max

    def truncate_if_long(self) -> None:
        """Truncate the log if it is long and its readers finish in time.

        Raises nothing: the transaction before it is durable, so its caller must not see an error.
        """
        # A missing log is not long; after an error, such as a full disk, a later call tries again.
        with suppress(FileNotFoundError, sqlite3.Error):
            length = self._log.stat().st_size
            if length > self._due_bytes:
                self._due_bytes = length + self._bytes_max
                if self._truncate():
                    self._due_bytes = self._bytes_max

    def _truncate(self) -> bool:
        (usual_milliseconds,) = self._writer.execute("PRAGMA busy_timeout").fetchone()
        self._writer.execute(f"PRAGMA busy_timeout={self._wait_milliseconds}")
        try:
            is_busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._writer.execute(f"PRAGMA busy_timeout={usual_milliseconds}")
        return not is_busy


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit the statements inside atomically; roll back on an exception.

    Raises: CommitInDoubt. After any other error nothing was written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # Some errors, such as a full disk, have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if not connection.in_transaction:
            raise CommitInDoubt(error) from error
        connection.execute("ROLLBACK")
        raise


def settle(connection: sqlite3.Connection, *, is_there: bool) -> None:
    """Make what `connection` found of a commit in doubt true after a power failure too. Raises: sqlite3.Error.

    The flush of what is there may have failed, so it is flushed again. What is not there may have left pages at the
    end of the write-ahead log, which a recovery would take for a commit: the log is cut off, if the disk allows that;
    otherwise the next commit overwrites them.
    """
    if is_there:
        # SQLite flushes the write-ahead log before it copies anything of it.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    else:
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def version_of(connection: sqlite3.Connection, path: Path, file_format: FileFormat) -> int:
    """Return the schema's version; 0 for a new, empty file. Raises: SchemaTooNew, NotOurDatabase, UnfinishedCopy."""
    require_finished(path)
    found_id, found, tables = marks_of(connection, path)
    if tables == 0 and found == 0 and found_id == 0:
        return 0
    expected = file_format.application_id
    if found_id != expected:
        raise NotOurDatabase(path, f"application id {expected}", f"{found_id}")
    if found > file_format.version:
        raise SchemaTooNew(path, found, file_format.version)
    return found


def marks_of(connection: sqlite3.Connection, path: Path) -> tuple[int, int, int]:
    """Return the application id, the schema's version and the number of tables. Raises: NotOurDatabase."""
    try:
        found_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise  # It may be ours, and locked or damaged.
        raise NotOurDatabase(path, "an SQLite database", "a file of another kind") from error
    return found_id, found, tables
