"""One database, one process: the second is refused by name, and a dead one holds nothing."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nixfleet_runtime.storage.instance_lock import DatabaseInUse, only_process_on
from nixfleet_runtime.storage.regular_file import UnfitFile

HOLD = """
import sys, pathlib
from nixfleet_runtime.storage.instance_lock import only_process_on
with only_process_on(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    """The message names the database and the process that works with it."""
    database = tmp_path / "database.db"
    with (
        only_process_on(database),
        pytest.raises(DatabaseInUse) as refused,
        only_process_on(database),
    ):
        pass
    assert str(database) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)


def test_two_databases_are_two_processes(tmp_path: Path) -> None:
    """Those with databases of their own do not disturb each other."""
    with only_process_on(tmp_path / "one.db"), only_process_on(tmp_path / "other.db"):
        pass


def test_the_next_may_begin_when_one_has_ended(tmp_path: Path) -> None:
    """The file stays, the lock does not."""
    for _ in range(2):
        with only_process_on(tmp_path / "database.db"):
            pass


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """The kernel lets go of the lock with the process, however that ended."""
    database = tmp_path / "database.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DatabaseInUse, match=f"process {other.pid}"), only_process_on(database):
            pass
        other.kill()
        other.wait()
        with only_process_on(database):
            pass


def refusal_by_another(name: Path, held: Path) -> str:
    """Return how `name` is refused while another process holds `held`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        if not name.exists():
            name.hardlink_to(held)
        with pytest.raises(DatabaseInUse) as refused, only_process_on(name):
            pass
        other.kill()
        assert refused.value.pid == str(other.pid)
        return str(refused.value)


def test_the_holder_is_named_with_its_command(tmp_path: Path) -> None:
    """An operator sees which process to stop, and how it was started."""
    database = tmp_path / "database.db"
    database.touch()

    assert f"({sys.executable} -c" in refusal_by_another(database, held=database)


def test_a_second_name_of_the_same_file_is_the_same_database(tmp_path: Path) -> None:
    """A hard link has a lock file of its own, and is refused all the same, with the holder's number."""
    message = refusal_by_another(tmp_path / "other name.db", held=tmp_path / "database.db")

    assert "other name.db is in use" in message


def test_the_same_file_through_a_linked_directory_is_the_same_database(tmp_path: Path) -> None:
    """A directory may be a link: both ways lead to one lock file."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    database = tmp_path / "link" / "database.db"
    (tmp_path / "real" / "database.db").touch()

    assert f"{database} is in use" in refusal_by_another(database, tmp_path / "real/database.db")


def test_a_database_with_two_names_is_refused(tmp_path: Path) -> None:
    """SQLite keeps the write-ahead log under one of the names, and would miss it under the other."""
    database = tmp_path / "database.db"
    database.touch()
    (tmp_path / "other.db").hardlink_to(database)

    with (
        pytest.raises(UnfitFile, match=r"a file with one name, found 2 \(hard links\)"),
        only_process_on(database),
    ):
        pass


@pytest.mark.parametrize("name", ["database.db", "database.db.lock"])
def test_a_link_in_place_of_the_database_or_its_lock_is_refused(tmp_path: Path, name: str) -> None:
    """Neither is opened through a link, which could lead to any file of this user; nothing is changed there."""
    (tmp_path / "elsewhere").write_text("text")
    (tmp_path / name).symlink_to("elsewhere")

    with (
        pytest.raises(UnfitFile, match=f"{name}: expected a regular file, found a symbolic link"),
        only_process_on(tmp_path / "database.db"),
    ):
        pass
    assert (tmp_path / "elsewhere").read_text() == "text"


def test_a_dangling_link_in_place_of_the_lock_makes_no_file(tmp_path: Path) -> None:
    """A file is not created where a link leads."""
    (tmp_path / "database.db.lock").symlink_to("elsewhere")

    with pytest.raises(UnfitFile), only_process_on(tmp_path / "database.db"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_database_and_lock_are_their_owners_alone(tmp_path: Path) -> None:
    """New files have mode 0600 whatever the umask, and files of an earlier version get it."""
    database = tmp_path / "database.db"
    for name in ("database.db", "database.db-wal", "database.db-shm"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)

    with only_process_on(database):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert set(modes.values()) == {0o600}
    assert len(modes) == 4
