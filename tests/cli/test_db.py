"""`nixfleet db upgrade`: what it says and how it ends, for files that are current, older, newer, damaged or in use."""

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from nixfleet import __version__ as version
from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_runtime.storage.instance_lock import only_process_on
from tests.cli.conftest import Invoke
from tests.upgrades.test_samples import SAMPLES


def _sample(name: str, into: Path) -> Path:
    into.write_bytes(gzip.decompress((SAMPLES / f"{name}.sqlite.gz").read_bytes()))
    return into


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return _sample("database-1", tmp_path / "control-plane.db")


def _names_in(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


def test_a_current_file_has_nothing_to_upgrade(database: Path, nixfleet: Invoke) -> None:
    """It is verified all the same, and not copied."""
    result = nixfleet("db", "upgrade", database)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "nothing to upgrade")
    assert "which this program writes" in result.stdout
    assert not any(".version-" in name for name in _names_in(database.parent))


def test_a_dry_run_says_what_would_be_done_and_does_nothing(older: Path, nixfleet: Invoke) -> None:
    """No byte of the file changes, and nothing is made beside it."""
    before = older.read_bytes()
    result = nixfleet("db", "upgrade", "--dry-run", "--json", older)
    shown = json.loads(result.stdout)
    assert (result.exit_code, shown["found"], shown["upgraded"], shown["copy"]) == (
        0,
        1,
        False,
        None,
    )
    assert [step["version"] for step in shown["steps"]] == list(range(2, shown["version"] + 1))
    assert all(step["summary"] for step in shown["steps"])
    assert shown["bytesNeeded"] == 3 * len(before)
    assert older.read_bytes() == before
    assert _names_in(older.parent) == {older.name}


def test_a_dry_run_finds_that_there_is_not_enough_space(
    older: Path, nixfleet: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much is missing, before anything is begun."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    for options in (("--dry-run",), ()):
        result = nixfleet("db", "upgrade", *options, older)
        assert result.exit_code == 2
        assert "found 4096: nothing was changed" in result.stderr
    assert _names_in(older.parent) <= {older.name, f"{older.name}.lock"}


def test_an_upgrade_says_where_the_copy_is_and_what_was_derived_anew(
    older: Path, nixfleet: Invoke
) -> None:
    """The copy is the file as it was, of its version."""
    result = nixfleet("db", "upgrade", "--json", older)
    shown = json.loads(result.stdout)
    assert (result.exit_code, shown["upgraded"], shown["logRows"]) == (0, True, 390)
    assert len(shown["corrected"]) == 1
    with closing(sqlite3.connect(shown["copy"])) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_newer_file_cannot_be_used(older: Path, nixfleet: Invoke) -> None:
    """The versions are named, and what reads the file."""
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("PRAGMA user_version=99")
    result = nixfleet("db", "upgrade", older)
    assert result.exit_code == 2
    assert "found 99: use the version that wrote it, or a newer one" in result.stderr


@pytest.mark.parametrize("content", [b"", b"[fleet]\n" * 100])
def test_a_foreign_file_cannot_be_used(content: bytes, nixfleet: Invoke, tmp_path: Path) -> None:
    """Both kinds that the command knows are named, and the file is left alone."""
    path = tmp_path / "foreign"
    path.write_bytes(content)
    result = nixfleet("db", "upgrade", path)
    assert result.exit_code == 2
    assert "expected" in result.stderr
    assert path.read_bytes() == content


def test_a_missing_file_stays_missing(nixfleet: Invoke, tmp_path: Path) -> None:
    """A new file is made by its service, not by an upgrade."""
    result = nixfleet("db", "upgrade", tmp_path / "none.db")
    assert (result.exit_code, _names_in(tmp_path)) == (2, set())


def test_an_unfinished_copy_cannot_be_used(older: Path, nixfleet: Invoke) -> None:
    """Also not by the commands that only read."""
    partial = Path(shutil.copy(older, f"{older}.version-1.partial"))
    for command in (["db", "upgrade"], ["status"], ["log", "verify"]):
        result = nixfleet(*command, partial)
        assert result.exit_code == 2
        assert "found a copy that was not finished" in result.stderr


def test_a_file_in_use_is_not_upgraded(older: Path, nixfleet: Invoke) -> None:
    """Its service would go on writing to what is being changed."""
    before = older.read_bytes()
    with only_process_on(older):
        result = nixfleet("db", "upgrade", older)
    assert result.exit_code == 2
    assert "is in use" in result.stderr
    assert older.read_bytes() == before


def test_a_damaged_file_is_found_and_left(older: Path, nixfleet: Invoke) -> None:
    """Exit code 1: the file was examined, and is not in order."""
    content = bytearray(older.read_bytes())
    content[-4096:-1024] = bytes(3072)
    older.write_bytes(content)
    result = nixfleet("db", "upgrade", older)
    assert result.exit_code == 1
    assert "expected a consistent database" in result.stderr
    assert not any(".version-" in name for name in _names_in(older.parent))


def test_views_that_differ_stop_an_upgrade_and_can_be_derived_anew(
    database: Path, nixfleet: Invoke
) -> None:
    """The error says how, and what it says works."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE rollouts SET channel = 'edge'")
        connection.execute("DELETE FROM program")
        connection.commit()
    refused = nixfleet("db", "upgrade", database)
    assert refused.exit_code == 1
    assert "the first: rollouts, stored, but not in the log" in refused.stderr
    assert "--rebuild" in refused.stderr
    assert nixfleet("log", "rebuild", "--check", database).exit_code == 1

    rebuilt = nixfleet("db", "upgrade", "--rebuild", "--json", database)

    shown = json.loads(rebuilt.stdout)
    assert rebuilt.exit_code == 0
    assert shown["copy"]
    assert shown["corrected"]
    assert nixfleet("log", "rebuild", "--check", database).exit_code == 0


def test_a_journal_has_no_views_to_rebuild(nixfleet: Invoke, tmp_path: Path) -> None:
    """The option is refused instead of ignored."""
    journal = _sample("journal-1", tmp_path / "journal.db")
    result = nixfleet("db", "upgrade", "--rebuild", journal)
    assert result.exit_code == 2
    assert "which has no views" in result.stderr


def test_a_program_names_the_versions_that_it_writes(nixfleet: Invoke) -> None:
    """Of both kinds of file."""
    lines = nixfleet("--version").stdout.splitlines()
    assert lines[0] == f"nixfleet {version}"
    assert lines[1:] == [
        f"the database of a control plane: writes version {DATABASE_FORMAT.version}, reads 1 and later",
        f"the journal of an agent: writes version {JOURNAL_FORMAT.version}, reads 1 and later",
    ]


def test_status_names_the_version_of_a_file_and_the_program_that_wrote_it(
    older: Path, nixfleet: Invoke, tmp_path: Path
) -> None:
    """Of a database and of a journal."""
    journal = _sample("journal-1", tmp_path / "journal.db")
    for path, file_format in ((older, DATABASE_FORMAT), (journal, JOURNAL_FORMAT)):
        assert nixfleet("db", "upgrade", path).exit_code == 0
        shown = nixfleet("status", path)
        expected = f"version {file_format.version} of the file; written by nixfleet {version}"
        assert shown.stdout.splitlines()[-1] == expected
        value = json.loads(nixfleet("status", "--json", path).stdout)
        assert (value["program"], value["version"]) == (version, file_format.version)
