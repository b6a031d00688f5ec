"""Opening databases, ours and others', and that a transaction is all or nothing."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest
from attrs import evolve

from nixfleet_runtime.storage.file_format import FileFormat, Step
from nixfleet_runtime.storage.regular_file import UnfitFile
from nixfleet_runtime.storage.sqlite import (
    NotOurDatabase,
    SchemaDiffers,
    SchemaTooNew,
    SchemaTooOld,
    WalLimiter,
    open_reader,
    transaction,
)
from nixfleet_runtime.storage.writer import open_writer

Opening: TypeAlias = Callable[[Path], sqlite3.Connection]

OURS = 0x74657374
VERSION = 3
SCHEMA = """
CREATE TABLE parents (name TEXT PRIMARY KEY);
CREATE TABLE words (word TEXT PRIMARY KEY, parent TEXT REFERENCES parents (name));
"""
FORMAT = FileFormat("words", OURS, SCHEMA, (Step(2, ""), Step(3, "")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "words.sqlite"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(_open_writer(path)) as connection:
        yield connection


def _open_writer(path: Path) -> sqlite3.Connection:
    return open_writer(path, FORMAT)


def _open_reader(path: Path) -> sqlite3.Connection:
    return open_reader(path, FORMAT)


def _words(connection: sqlite3.Connection) -> list[str]:
    return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


def _make(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_new_path_becomes_a_database_with_schema_version_and_mark(path: Path) -> None:
    """A writer makes the file that does not exist, with its schema, version and mark."""
    with closing(_open_writer(path)) as connection:
        marks = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("user_version", "application_id")
        ]

        assert (marks, _words(connection)) == ([VERSION, OURS], [])


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    """A file without a byte, as a crash at the wrong moment leaves it, is made a database."""
    path.touch()
    with closing(_open_writer(path)) as connection:
        assert _words(connection) == []


def test_a_schema_that_fails_leaves_nothing_of_itself(path: Path) -> None:
    """A schema is made whole or not at all, so the next start can try again."""
    with pytest.raises(sqlite3.OperationalError):
        open_writer(path, evolve(FORMAT, schema=SCHEMA + "nonsense;"))
    with closing(_open_writer(path)) as connection:
        assert _words(connection) == []


def test_a_database_that_exists_keeps_what_is_in_it(path: Path) -> None:
    """A writer on a database that exists finds what was committed."""
    with closing(_open_writer(path)) as connection:
        connection.execute("INSERT INTO words VALUES ('kept', NULL)")
    with closing(_open_writer(path)) as connection:
        assert _words(connection) == ["kept"]


def test_a_writer_commits_durably_and_checks_references(writer: sqlite3.Connection) -> None:
    """A writer uses a write-ahead log, flushes at each commit, and minds foreign keys."""
    pragmas = {
        name: writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("open_it", [_open_writer, _open_reader])
def test_a_newer_schema_is_refused_by_name_and_untouched(path: Path, open_it: Opening) -> None:
    """A database that a newer version wrote is refused, with both versions, and not a byte changes."""
    _open_writer(path).close()
    _make(path, f"PRAGMA user_version={VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew) as refusal:
        open_it(path)

    assert str(refusal.value) == (
        f"{path}: expected a schema up to 3, found 4: use the version that wrote it, or a newer one"
    )
    assert (refusal.value.path, refusal.value.found, refusal.value.supported) == (path, 4, 3)
    assert path.read_bytes() == before


@pytest.mark.parametrize("open_it", [_open_writer, _open_reader])
def test_a_database_of_somebody_else_is_refused_by_name_and_untouched(
    path: Path, open_it: Opening
) -> None:
    """A database with another mark is refused, with both marks, and not a byte changes."""
    _make(path, "PRAGMA application_id=7", "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(NotOurDatabase) as refusal:
        open_it(path)

    assert str(refusal.value) == f"{path}: expected application id {OURS}, found 7"
    assert path.read_bytes() == before


def test_an_emptied_database_of_somebody_else_is_refused(path: Path) -> None:
    """A database with another mark is not ours to fill, though it holds nothing."""
    _make(path, "PRAGMA application_id=7")
    with pytest.raises(NotOurDatabase, match="found 7"):
        _open_writer(path)


@pytest.mark.parametrize("open_it", [_open_writer, _open_reader])
def test_a_file_that_is_no_database_is_refused_by_name_and_untouched(
    path: Path, open_it: Opening
) -> None:
    """A file of another kind is refused, and not a byte changes."""
    text = b"To whom it may concern: this is a letter.\n" * 100
    path.write_bytes(text)
    with pytest.raises(NotOurDatabase) as refusal:
        open_it(path)

    assert str(refusal.value) == (
        f"{path}: expected an SQLite database, found a file of another kind"
    )
    assert path.read_bytes() == text


def test_reading_a_path_where_nothing_is_makes_no_file(path: Path) -> None:
    """A reader says that there is no database, and makes none."""
    with pytest.raises(FileNotFoundError, match=r"expected a database at .*words\.sqlite"):
        _open_reader(path)

    assert not path.exists()


def test_reading_an_empty_file_is_refused(path: Path) -> None:
    """A reader does not take a file without a byte for a database."""
    path.touch()
    with pytest.raises(NotOurDatabase, match="expected a database of schema 3, found an empty one"):
        _open_reader(path)


def test_a_reader_finds_a_path_with_signs_that_mean_something_in_an_address(tmp_path: Path) -> None:
    """A reader opens the file whatever its name is made of."""
    path = tmp_path / "a b?mode=rw#%41.sqlite"
    _open_writer(path).close()
    with closing(_open_reader(path)) as reader:
        assert _words(reader) == []


def test_a_reader_cannot_write(path: Path, writer: sqlite3.Connection) -> None:
    """A reader's attempt to write is refused."""
    with (
        closing(_open_reader(path)) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader.execute("INSERT INTO words VALUES ('x', NULL)")


def test_a_reader_sees_only_what_was_committed(path: Path, writer: sqlite3.Connection) -> None:
    """What a transaction has written is seen by others from its commit on, not before."""
    with closing(_open_reader(path)) as reader:
        with transaction(writer):
            writer.execute("INSERT INTO words VALUES ('new', NULL)")
            during = _words(reader)

        assert (during, _words(reader)) == ([], ["new"])


def test_a_transaction_that_is_broken_off_leaves_nothing_behind(
    writer: sqlite3.Connection,
) -> None:
    """What was done inside a transaction that was interrupted is undone, and the error goes on."""
    with pytest.raises(KeyboardInterrupt):
        _insert(writer, ("half", None), interrupt=True)

    assert (_words(writer), writer.in_transaction) == ([], False)


def test_a_statement_that_fails_takes_its_whole_transaction_with_it(
    writer: sqlite3.Connection,
) -> None:
    """One statement that breaks a reference undoes those before it."""
    with pytest.raises(sqlite3.IntegrityError):
        _insert(writer, ("good", None), ("bad", "nobody"))

    assert _words(writer) == []


def test_a_commit_that_fails_leaves_nothing_behind(writer: sqlite3.Connection) -> None:
    """When the commit itself is refused, the transaction is undone and the next one works."""
    with pytest.raises(sqlite3.IntegrityError):
        _insert(writer, ("orphan", "nobody"), check_at_commit=True)
    _insert(writer, ("next", None))

    assert _words(writer) == ["next"]


def test_a_full_disk_undoes_the_transaction_and_the_next_one_works(
    writer: sqlite3.Connection,
) -> None:
    """A transaction that finds no room is undone as a whole; with room again, the next one works."""
    pages: int = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        _insert(writer, ("small", None), ("large" * 10_000, None))
    left = _words(writer)
    writer.execute(f"PRAGMA max_page_count={pages + 100}")
    _insert(writer, ("next", None))

    assert (left, _words(writer)) == ([], ["next"])


def _insert(
    writer: sqlite3.Connection,
    *rows: tuple[str, str | None],
    check_at_commit: bool = False,
    interrupt: bool = False,
) -> None:
    """Insert words with their parents in one transaction."""
    with transaction(writer):
        if check_at_commit:
            writer.execute("PRAGMA defer_foreign_keys=ON")
        writer.executemany("INSERT INTO words VALUES (?, ?)", rows)
        if interrupt:
            raise KeyboardInterrupt


def test_a_log_that_grew_long_under_a_reader_is_cut_off_when_the_reader_is_gone(
    path: Path, writer: sqlite3.Connection
) -> None:
    """A reader that stays is not waited for longer than agreed; without it the log begins anew."""
    log = Path(f"{path}-wal")
    long_wal = WalLimiter(writer, path, bytes_max=100_000, wait_seconds=0)
    with closing(_open_reader(path)) as reader:
        reader.execute("BEGIN")
        _words(reader)
        _fill(writer, long_wal, 100)
        grown = log.stat().st_size
        reader.execute("COMMIT")
    _fill(writer, long_wal, 100)

    assert grown > 100_000
    assert log.stat().st_size < grown


def test_a_log_that_cannot_be_cut_off_fails_no_transaction(
    path: Path, writer: sqlite3.Connection
) -> None:
    """Whoever committed is not told that it failed."""
    long_wal = WalLimiter(writer, path, bytes_max=0)
    writer.execute("BEGIN")
    writer.execute("INSERT INTO words VALUES ('a', NULL)")
    long_wal.truncate_if_long()
    writer.execute("COMMIT")

    assert _words(writer) == ["a"]


def test_a_wait_for_readers_of_the_log_leaves_the_usual_wait_as_it_was(
    path: Path, writer: sqlite3.Connection
) -> None:
    """How long the connection waits for others is what it was before."""
    before = writer.execute("PRAGMA busy_timeout").fetchone()
    WalLimiter(writer, path, bytes_max=0, wait_seconds=0).truncate_if_long()

    assert writer.execute("PRAGMA busy_timeout").fetchone() == before


def _fill(writer: sqlite3.Connection, long_wal: WalLimiter, times: int) -> None:
    for _ in range(times):
        with transaction(writer):
            writer.execute("INSERT INTO words VALUES (hex(randomblob(1000)), NULL)")
        long_wal.truncate_if_long()


def test_an_older_schema_is_not_read_but_refused_by_name(path: Path) -> None:
    """A reader upgrades nothing, and says what does."""
    open_writer(path, FileFormat("words", OURS, SCHEMA)).close()
    with pytest.raises(SchemaTooOld, match=f"has schema 1, expected 3.*nixfleet db upgrade {path}"):
        _open_reader(path)


def test_a_known_number_with_other_tables_is_refused_by_name(path: Path) -> None:
    """Not at the first statement that misses a column, hours later, but at the start."""
    open_writer(path, evolve(FORMAT, schema="CREATE TABLE t (x);")).close()
    with pytest.raises(SchemaDiffers, match="expected column y of table t in it"):
        open_writer(path, evolve(FORMAT, schema="CREATE TABLE t (x, y);"))


def test_a_new_database_and_its_log_are_their_owners_alone(path: Path) -> None:
    """Whatever the umask allows, others can read neither the database nor what was not yet copied into it."""
    before = os.umask(0)
    try:
        with closing(_open_writer(path)) as connection:
            _insert(connection, ("one", None))
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}


def test_a_link_in_place_of_the_database_is_not_written_through(path: Path) -> None:
    """A link could lead to any file of this user: it is refused, and nothing is made where it leads."""
    path.symlink_to("elsewhere")

    with pytest.raises(UnfitFile, match="found a symbolic link"):
        _open_writer(path)
    assert not (path.parent / "elsewhere").exists()
