"""What the commands say of files that are not a control plane's database: exit code 2, and what was expected."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from tests.cli.conftest import Invoke

COMMANDS = [("status",), ("log", "show"), ("log", "verify"), ("log", "rebuild", "--check")]
pytestmark = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)

READ_JOURNALS = (("status",), ("log", "show"))


def test_a_missing_file_is_unusable_and_stays_missing(
    command: tuple[str, ...], nixfleet: Invoke, tmp_path: Path
) -> None:
    """A file that does not exist is named, and is not made."""
    path = tmp_path / "none.db"

    result = nixfleet(*command, path)

    assert result.exit_code == 2
    assert f"expected a database at {path}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_is_unusable(command: tuple[str, ...], nixfleet: Invoke) -> None:
    result = nixfleet(*command, "a" * 5_000)

    assert result.exit_code == 2
    assert "File name too long" in result.stderr
    assert len(result.stderr) < 300


@pytest.mark.parametrize("content", [b"", b"[fleet]\nname = 'shop'\n" * 50])
def test_a_foreign_file_is_unusable_and_stays_as_it_is(
    content: bytes, command: tuple[str, ...], nixfleet: Invoke, tmp_path: Path
) -> None:
    """An empty file and one that is no database are told apart from ours, and not touched."""
    path = tmp_path / "foreign"
    path.write_bytes(content)

    result = nixfleet(*command, path)

    assert result.exit_code == 2
    assert "DB must be the database of a control plane" in result.stderr
    assert (" or an agent's journal" in result.stderr) is (command in READ_JOURNALS)
    assert path.read_bytes() == content


def test_an_agents_journal_is_unusable_but_for_those_that_read_it(
    command: tuple[str, ...], nixfleet: Invoke, files: Path
) -> None:
    """A database of the other side is not taken for one of this side; some know both."""
    if command in READ_JOURNALS:
        assert nixfleet(*command, files / "web-01.sqlite").exit_code == 0
        return
    result = nixfleet(*command, files / "web-01.sqlite")

    assert result.exit_code == 2
    assert "DB must be the database of a control plane" in result.stderr


def test_a_newer_schema_is_unusable(
    command: tuple[str, ...], nixfleet: Invoke, database: Path
) -> None:
    """A database of a newer version is left to that version."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version=99")

    result = nixfleet(*command, database)

    assert result.exit_code == 2
    assert f"expected a schema up to {DATABASE_FORMAT.version}, found 99" in result.stderr
