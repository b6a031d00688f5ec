"""One journal, one agent: the second is refused by name, and a dead one holds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nixfleet_agent.instance_lock import JournalInUse, only_agent_on

HOLD = """
import sys, pathlib
from nixfleet_agent.instance_lock import only_agent_on
with only_agent_on(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_agent_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    """The message names the journal and the process that works with it."""
    journal = tmp_path / "journal.db"
    with only_agent_on(journal), pytest.raises(JournalInUse) as refused, only_agent_on(journal):
        pass
    assert str(journal) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)


def test_two_journals_are_two_agents(tmp_path: Path) -> None:
    """Agents with journals of their own do not disturb each other."""
    with only_agent_on(tmp_path / "one.db"), only_agent_on(tmp_path / "other.db"):
        pass


def test_the_next_agent_may_begin_when_one_has_ended(tmp_path: Path) -> None:
    """The file stays, the lock does not."""
    for _ in range(2):
        with only_agent_on(tmp_path / "journal.db"):
            pass


def test_an_agent_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """The kernel lets go of the lock with the process, however that ended."""
    journal = tmp_path / "journal.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, journal],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(JournalInUse, match=f"process {other.pid}"), only_agent_on(journal):
            pass
        other.kill()
        other.wait()
        with only_agent_on(journal):
            pass
