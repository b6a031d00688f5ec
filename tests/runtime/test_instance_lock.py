"""One database, one process: the second is refused by name, and a dead one holds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nixfleet_runtime.storage.instance_lock import DatabaseInUse, only_process_on

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
