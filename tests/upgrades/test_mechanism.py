"""Upgrades of any kind of file: all or nothing, a verified copy before, and a refusal that says what to do."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve

from nixfleet_runtime.storage.copies import (
    DamagedDatabase,
    NotEnoughSpace,
    UnfinishedCopy,
    content_digest,
    space_for_upgrade,
    verified_copy,
)
from nixfleet_runtime.storage.file_format import FileFormat, Step, statements
from nixfleet_runtime.storage.sqlite import SchemaTooNew, connect_reader, open_reader, transaction
from nixfleet_runtime.storage.upgrade import UpgradeRefused, stored_program
from nixfleet_runtime.storage.writer import bring_up_to_date, open_writer
from tests.upgrades.killing import killed_at

FIRST = FileFormat(
    "words",
    0x74657374,
    "CREATE TABLE words (word TEXT PRIMARY KEY, next TEXT REFERENCES words (word)) STRICT;",
)
PROGRAM = "CREATE TABLE program (only INTEGER PRIMARY KEY CHECK (only = 1), version TEXT) STRICT;"
THIRD = FileFormat(
    "words",
    0x74657374,
    "CREATE TABLE words (word TEXT PRIMARY KEY, next TEXT REFERENCES words (word),"
    f" length INTEGER) STRICT; {PROGRAM}",
    (
        Step(
            2,
            "-- A word has its length.\nALTER TABLE words ADD COLUMN length INTEGER;\n"
            "UPDATE words SET length = length(word);",
        ),
        Step(
            3,
            "-- The program is stored;\n-- and words are checked.\n"
            "CREATE TABLE checked (word TEXT REFERENCES words (word));\n"
            "CREATE TRIGGER no_empty BEFORE INSERT ON words WHEN NEW.word = ''\n"
            "BEGIN SELECT RAISE(ABORT, 'empty'); SELECT 1; END;\n"
            f"DROP TABLE checked; {PROGRAM}",
        ),
    ),
)
WORDS = ("ada", "grace", "lin")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the first version with three words."""
    path = tmp_path / "words.sqlite"
    with closing(open_writer(path, FIRST)) as writer:
        writer.executemany("INSERT INTO words VALUES (?, NULL)", [(word,) for word in WORDS])
    return path


def _content(path: Path) -> bytes:
    with closing(connect_reader(path)) as reader:
        return content_digest(reader)


def _version(path: Path) -> int:
    with closing(connect_reader(path)) as reader:
        return int(reader.execute("PRAGMA user_version").fetchone()[0])


def _copies(path: Path) -> list[str]:
    return sorted(it.name for it in path.parent.glob(f"{path.name}.version-*"))


def _nothing_to_say(_connection: sqlite3.Connection, _found: int) -> tuple[str, ...]:
    return ()


def test_an_older_file_has_every_step_made_and_a_copy_beside_it(path: Path) -> None:
    """What was in the file is still there, and the copy has it as it was."""
    before = _content(path)
    with closing(open_writer(path, THIRD)) as writer:
        found = writer.execute("SELECT word, length FROM words ORDER BY word").fetchall()
        foreign_keys = writer.execute("PRAGMA foreign_keys").fetchone()

    assert found == [("ada", 3), ("grace", 5), ("lin", 3)]
    assert (foreign_keys, _version(path)) == ((1,), 3)
    assert _copies(path) == ["words.sqlite.version-1"]
    copy = path.with_name("words.sqlite.version-1")
    assert (_content(copy), copy.stat().st_mode & 0o777) == (before, 0o600)


def test_a_current_file_is_not_copied(path: Path) -> None:
    """Only a file that a step will change needs a copy."""
    open_writer(path, FIRST).close()
    assert _copies(path) == []


def test_a_copy_is_a_file_of_its_version_and_can_be_upgraded_itself(path: Path) -> None:
    """Whoever goes back to it has a whole database, which a later start upgrades again."""
    open_writer(path, THIRD).close()
    copy = path.with_name("words.sqlite.version-1")

    open_writer(copy, THIRD).close()

    assert _content(copy) == _content(path)


@pytest.mark.parametrize("failing_at", [2, 3])
def test_a_step_that_fails_leaves_the_first_version(path: Path, failing_at: int) -> None:
    """Also a later step: no version in between is left, which no program ever wrote."""
    before = _content(path)
    failing = {failing_at: "nonsense;"}
    steps = tuple(
        evolve(it, script=f"{it.script} {failing.get(it.version, '')}") for it in THIRD.steps
    )
    with pytest.raises(sqlite3.OperationalError, match="nonsense"):
        open_writer(path, evolve(THIRD, steps=steps))
    assert _content(path) == before


def test_a_check_that_refuses_the_result_leaves_the_first_version(path: Path) -> None:
    """It sees the result of every step, and nothing of it is kept."""
    before, seen = _content(path), list[tuple[int, int]]()

    def refuse(connection: sqlite3.Connection, found: int) -> tuple[str, ...]:
        seen.append((found, connection.execute("SELECT sum(length) FROM words").fetchone()[0]))
        raise UpgradeRefused(path, "three words are too many")

    with pytest.raises(UpgradeRefused, match="not upgraded, and is as it was: three words"):
        open_writer(path, THIRD, check=refuse)
    assert seen == [(1, 11)]
    assert _content(path) == before


def test_a_step_that_leaves_a_row_without_what_it_refers_to_is_refused(path: Path) -> None:
    """References are checked once all steps are made, since a step may remove a table and make it anew."""
    with closing(open_writer(path, FIRST)) as writer:
        writer.execute("UPDATE words SET next = 'grace' WHERE word = 'ada'")
    before = _content(path)
    removing = Step(4, "DELETE FROM words WHERE word = 'grace';")
    with pytest.raises(UpgradeRefused, match=r"1 row\(s\) of words refer to rows of words"):
        open_writer(path, evolve(THIRD, steps=(*THIRD.steps, removing)))
    assert _content(path) == before


def test_a_failing_upgrade_that_is_tried_again_makes_one_copy(path: Path) -> None:
    """A service that is restarted again and again does not fill the disk."""
    failing = evolve(THIRD, steps=(*THIRD.steps, Step(4, "nonsense;")))
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError):
            open_writer(path, failing)
    assert _copies(path) == ["words.sqlite.version-1"]


def test_a_copy_with_another_content_is_kept_and_another_one_made(path: Path) -> None:
    """An operator went back to the copy and on with the older program, and then upgrades again."""
    open_writer(path, THIRD).close()
    first = path.with_name("words.sqlite.version-1")
    kept = first.read_bytes()
    path.write_bytes(kept)
    with closing(open_writer(path, FIRST)) as writer:
        writer.execute("INSERT INTO words VALUES ('mary', NULL)")

    open_writer(path, THIRD).close()

    assert _copies(path) == ["words.sqlite.version-1", "words.sqlite.version-1-2"]
    assert first.read_bytes() == kept


def test_a_copy_that_was_cut_off_is_not_taken_for_one(path: Path) -> None:
    """Something with the name of a copy lies there: it is left alone, and a good copy is made."""
    cut_off = path.with_name("words.sqlite.version-1")
    cut_off.write_bytes(path.read_bytes()[:5000])

    open_writer(path, THIRD).close()

    assert cut_off.stat().st_size == 5000
    with closing(open_reader(path.with_name("words.sqlite.version-1-2"), FIRST)) as reader:
        assert reader.execute("SELECT count(*) FROM words").fetchone() == (3,)


def test_an_unfinished_copy_is_refused_by_name_and_replaced(path: Path) -> None:
    """A crash while the copy was written leaves a file that nothing opens, and that hinders nothing."""
    partial = path.with_name("words.sqlite.version-1.partial")
    partial.write_bytes(path.read_bytes())

    with pytest.raises(UnfinishedCopy, match="found a copy that was not finished"):
        open_writer(partial, THIRD)
    with pytest.raises(UnfinishedCopy, match="use the database that it was made of"):
        open_reader(partial, FIRST)
    open_writer(path, THIRD).close()

    assert _copies(path) == ["words.sqlite.version-1"]


def test_a_damaged_file_is_refused_and_left(path: Path) -> None:
    """An upgrade would spread the damage, and its copy would be no copy of anything good."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(path.read_bytes())
    damaged[-4096:-2048] = b"\xff" * 2048  # within the last page, an index
    path.write_bytes(damaged)

    with pytest.raises(DamagedDatabase, match="expected a consistent database"):
        open_writer(path, THIRD)
    assert (_version(path), _copies(path)) == (1, [])


def test_a_disk_without_room_is_refused_with_how_much_is_missing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun that would end in the middle."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NotEnoughSpace, match=r"expected \d+ free bytes, .* found 1000"):
        open_writer(path, THIRD)
    assert (_version(path), _copies(path)) == (1, [])


def test_a_newer_file_is_refused_by_name_and_left(path: Path) -> None:
    """By a writer and by a reader: expected, found, and what to do."""
    open_writer(path, THIRD).close()
    before = _content(path)
    for opening in (open_writer, open_reader):
        with pytest.raises(
            SchemaTooNew, match="expected a schema up to 1, found 3: use the version"
        ):
            opening(path, FIRST)
    assert _content(path) == before


# The program.


def test_a_program_that_wrote_before_is_not_checked_again(path: Path) -> None:
    """The check is asked by the first start of each program, and says what it corrected."""
    asked: list[int] = []

    def check(_connection: sqlite3.Connection, found: int) -> tuple[str, ...]:
        asked.append(found)
        return ("a line",)

    done = [
        bring_up_to_date(path, THIRD, check, program=program)
        for program in ("1.0", "1.0", "1.1", "1.0")
    ]

    assert asked == [1, 3, 3]
    assert [it.corrected for it in done] == [("a line",), (), ("a line",), ("a line",)]
    with closing(connect_reader(path)) as reader:
        assert stored_program(reader) == "1.0"


def test_a_program_whose_check_fails_is_not_stored(path: Path) -> None:
    """So the next start asks again."""
    bring_up_to_date(path, THIRD, _nothing_to_say, program="1.0")

    def fail(_connection: sqlite3.Connection, _found: int) -> tuple[str, ...]:
        raise UpgradeRefused(path, "no")

    with pytest.raises(UpgradeRefused):
        bring_up_to_date(path, THIRD, fail, program="1.1")
    with closing(connect_reader(path)) as reader:
        assert stored_program(reader) == "1.0"


def test_a_file_without_a_program_says_none(path: Path) -> None:
    """Versions before the first with a promise stored none."""
    with closing(connect_reader(path)) as reader:
        assert stored_program(reader) is None


# Scripts.


def test_a_step_is_described_by_the_comment_it_begins_with() -> None:
    """All of its lines, and none of the rest."""
    assert THIRD.steps[1].summary == "The program is stored; and words are checked."


def test_a_script_is_cut_into_its_statements() -> None:
    """A trigger's statements belong to it, and a semicolon in a comment or a text ends nothing."""
    script = THIRD.steps[1].script + "-- a; b\nSELECT 'c; d';\n"
    heads = [it.split("\n")[-1].strip() for it in statements(script)]
    assert heads == [
        "CREATE TABLE checked (word TEXT REFERENCES words (word));",
        "BEGIN SELECT RAISE(ABORT, 'empty'); SELECT 1; END;",
        "DROP TABLE checked;",
        PROGRAM,
        "SELECT 'c; d';",
    ]


# A process that is killed.


def test_a_process_that_is_killed_at_any_statement_leaves_the_old_file_or_the_new_one(
    path: Path, tmp_path: Path
) -> None:
    """And the next start upgrades it all the same, from whatever was left beside it."""
    before = _content(path)
    original = path.read_bytes()
    versions: list[int] = []
    was_killed = True
    while was_killed:
        directory = tmp_path / str(len(versions))
        directory.mkdir()
        file = directory / path.name
        file.write_bytes(original)
        upgrading = partial(open_writer, file, THIRD, check=_nothing_to_say)
        was_killed = killed_at(len(versions) + 1, upgrading)
        versions.append(_version(file))
        if versions[-1] == 1:
            assert _content(file) == before
        open_writer(file, THIRD, check=_nothing_to_say).close()
        assert (_version(file), _copies(file)) == (3, ["words.sqlite.version-1"])
    assert (versions[0], versions[-1]) == (1, 3)
    assert len(versions) > 30, "the process was killed nowhere near the upgrade"


# A disk that is full.


@pytest.mark.parametrize("spare_pages", range(0, 12, 2))
def test_a_disk_that_is_full_during_an_upgrade_leaves_the_old_file(
    path: Path, spare_pages: int
) -> None:
    """SQLite itself finds no room, at the first page that the upgrade adds or at a later one."""
    with closing(open_writer(path, FIRST)) as writer:
        writer.executemany(
            "INSERT INTO words VALUES (?, NULL)", [(f"{number:0500}",) for number in range(40)]
        )
    before = _content(path)
    filling = Step(4, "CREATE TABLE more (x); INSERT INTO more SELECT zeroblob(9000) FROM words;")
    with closing(sqlite3.connect(path)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    limited = Step(2, f"PRAGMA max_page_count={pages + spare_pages};\n{THIRD.steps[0].script}")
    full = evolve(THIRD, steps=(limited, THIRD.steps[1], filling))

    with pytest.raises(sqlite3.OperationalError, match="full"):
        open_writer(path, full)
    assert _content(path) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system with 4 MB, on which a database fits and its copy does not."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    return disk


def test_a_real_disk_that_is_full_during_the_copy_leaves_the_old_file_and_nothing_beside_it(
    small_disk: Path,
) -> None:
    """With room again, the next attempt succeeds."""
    try:
        path, ballast = small_disk / "words.sqlite", small_disk / "ballast"
        with closing(open_writer(path, FIRST)) as writer, transaction(writer):
            writer.executemany(
                "INSERT INTO words VALUES (?, NULL)",
                [(f"{number:04}" * 50,) for number in range(800)],
            )
        before = _content(path)
        with closing(connect_reader(path)) as reader:
            needed = space_for_upgrade(reader, path).needed
            ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 65536))
            assert needed > 3 * 65536
            with pytest.raises((sqlite3.OperationalError, OSError), match=r"full|No space"):
                verified_copy(reader, path, 1)
        with pytest.raises(NotEnoughSpace):
            open_writer(path, THIRD)
        assert (_content(path), _copies(path)) == (before, [])

        ballast.unlink()
        open_writer(path, THIRD).close()
        assert (_version(path), _copies(path)) == (3, ["words.sqlite.version-1"])
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)
