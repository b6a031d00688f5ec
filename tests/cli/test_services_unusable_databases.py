"""What the two services say of a file that is no database of theirs: its path once, and what to do. Exit code 2."""

import gzip
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.codec import encode_trust_root
from tests.cli.conftest import Invoke
from tests.support.control_plane_process import CONFIG
from tests.support.enrolling_server import TRUST
from tests.upgrades.test_samples import SAMPLES

Start = Callable[[Callable[[Path], object]], tuple[Path, int, str]]
"""Starts a service after its database was made by a function; returns the path, exit code and standard error."""


def _text(path: Path) -> None:
    path.write_text("To whom it may concern: this is a letter.\n" * 100)


def _foreign(path: Path) -> None:
    _run(path, "CREATE TABLE theirs (x)")


def _marked(path: Path) -> None:
    _run(path, "PRAGMA application_id=7", "CREATE TABLE theirs (x)")


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _newer(path: Path) -> None:
    SqliteStore(path).close()
    _run(path, "PRAGMA user_version=99")


def _malformed(path: Path) -> None:
    """One of ours whose pages were overwritten, but for the first."""
    SqliteStore(path).close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\x55" * (len(content) - 4096))


def _altered(path: Path) -> None:
    """One with a view that no log explains."""
    SqliteStore(path).close()
    _run(
        path,
        "PRAGMA foreign_keys=OFF",
        "INSERT INTO holds VALUES ('stable', 'operator:eve', 'why', NULL, '2026', 1)",
    )


def _older_and_damaged(path: Path) -> None:
    """One of version 1, which SQLite finds inconsistent."""
    content = (SAMPLES / "database-1.sqlite.gz").read_bytes()
    damaged = bytearray(gzip.decompress(content))
    damaged[-4096:-1024] = bytes(3072)
    path.write_bytes(damaged)


@pytest.fixture
def control_plane(nixfleet: Invoke, tmp_path: Path) -> Start:
    (tmp_path / "trust.json").write_bytes(encode_trust_root(TRUST))
    (tmp_path / "releases").mkdir()
    config, database = tmp_path / "control-plane.toml", tmp_path / "control-plane.db"
    config.write_text(CONFIG)

    def start(make: Callable[[Path], object]) -> tuple[Path, int, str]:
        make(database)
        ended = nixfleet("control-plane", "run", "--config", config)
        return database, ended.exit_code, ended.stderr

    return start


@pytest.fixture
def agent(nixfleet: Invoke, tmp_path: Path) -> Start:
    (tmp_path / "trust.json").write_bytes(encode_trust_root(TRUST))
    (tmp_path / "base").mkdir()
    directory = tmp_path / "web-01"
    init = ("agent", "init", directory, "--hostname", "web-01", "--closure", tmp_path / "base")
    address = ("--control-plane", "https://fleet.example.org", "--trust", tmp_path / "trust.json")
    assert nixfleet(*init, *address).exit_code == 0

    def start(make: Callable[[Path], object]) -> tuple[Path, int, str]:
        journal = directory / "journal.db"
        make(journal)
        ended = nixfleet("agent", "run", "--config", directory / "agent.toml")
        return journal, ended.exit_code, ended.stderr

    return start


FOREIGN: Iterable[Callable[[Path], None]] = (_text, _foreign, _marked, _link)


@pytest.mark.parametrize("make", FOREIGN)
def test_a_control_plane_names_a_foreign_file_once_and_says_what_belongs_there(
    control_plane: Start, make: Callable[[Path], None]
) -> None:
    """The option is named, and both ways out: another path, or an own database."""
    path, code, said = control_plane(make)

    assert (code, said.count(str(path))) == (2, 1), said
    assert "store.path must name the database of a control plane, or a path" in said


@pytest.mark.parametrize("make", FOREIGN)
def test_an_agent_names_a_foreign_file_once_and_says_what_belongs_there(
    agent: Start, make: Callable[[Path], None]
) -> None:
    """As the control plane, with its own option."""
    path, code, said = agent(make)

    assert (code, said.count(str(path))) == (2, 1), said
    assert "journal.path must name an agent's journal, or a path" in said


def test_a_service_given_the_database_of_the_other_side_says_what_belongs_there(
    control_plane: Start, agent: Start, files: Path
) -> None:
    """Both are SQLite databases of ours, with marks of their own."""
    journal, store = files / "web-01.sqlite", files / "control-plane.sqlite"

    _, code, said = control_plane(lambda path: shutil.copy(journal, path))
    assert (code, "must name the database of a control plane" in said) == (2, True), said
    _, code, said = agent(lambda path: shutil.copy(store, path))
    assert (code, "must name an agent's journal" in said) == (2, True), said


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (_newer, "use the version that wrote it"),
        (_malformed, "restore a backup, or move it away"),
        (_older_and_damaged, "restore a copy, or move it away"),
    ],
)
def test_a_control_plane_names_an_unusable_database_once_and_says_what_to_do(
    control_plane: Start, make: Callable[[Path], None], advice: str
) -> None:
    """One of a newer version, and one that SQLite cannot read."""
    path, code, said = control_plane(make)

    assert (code, said.count(str(path))) == (2, 1), said
    assert advice in said


def test_a_control_plane_that_derives_other_views_does_not_start(control_plane: Start) -> None:
    """It names the first row that differs, and both ways to go on."""
    path, code, said = control_plane(_altered)

    assert code == 2, said
    assert "holds, stored, but not in the log" in said
    assert "Go on with the program that wrote it" in said
    assert f"nixfleet db upgrade --rebuild {path}" in said
