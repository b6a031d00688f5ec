"""`nixfleet status` of an agent's journal: one host, as it has lived it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import AppendEvent, MarkRefused, PutIntent
from nixfleet_proto.agent_event import ActivationStarted
from nixfleet_proto.ids import RolloutId
from tests.agent.lone_agent import T0
from tests.cli.conftest import Invoke

R2 = RolloutId("stable@r2")


@pytest.fixture
def journal(files: Path) -> Path:
    """web-01's: r1 converged and was superseded by r2, which was reverted; all is acknowledged."""
    return files / "web-01.sqlite"


def test_a_host_at_rest_is_shown_with_its_rollouts(nixfleet: Invoke, journal: Path) -> None:
    """Each rollout with its state, its closure and how far its numbers go; nothing waits, nothing was refused."""
    shown = nixfleet("status", journal)
    assert shown.exit_code == 0, shown.output
    about, _, rollouts = shown.stdout.partition("rollouts of this host\n")
    assert about == (
        "this host\n"
        "  runs        r1-web-01\n"
        "  should run  r2-web-01, by stable@r2\n"
        "  waits for   an operator or another release, as it has failed and rolled back\n"
        "\n"
        "probes of stable@r2\n"
        "  alive  enforce  fail  since 2026-05-16 01:16:00Z  expected 200, found 503\n"
        "\n"
        "stages of stable@r2\n"
        "  dispatched             2026-05-16 01:15:00Z\n"
        "  acknowledged           2026-05-16 01:15:30Z  after 30 s\n"
        "  switching              2026-05-16 01:15:30Z  after 0 s\n"
        "  switched               2026-05-16 01:15:30Z  after 0 s\n"
        "  first probed           2026-05-16 01:16:00Z  after 30 s\n"
        "  first failing a probe  2026-05-16 01:16:00Z  after 0 s\n"
        "  failed                 2026-05-16 01:17:00Z  after 60 s\n"
        "  rolled back            2026-05-16 01:17:00Z  after 0 s\n"
        "\n"
    )
    lines = rollouts.splitlines()
    assert lines[0].split()[:2] == ["stable@r1", "Converged"]
    assert "superseded 2026-05-16 01:15:30Z" in lines[0]
    assert lines[1].split()[:2] == ["stable@r2", "Reverted"]
    assert shown.stdout.count("  none") == 3


def test_what_was_refused_is_shown_with_the_reason_and_the_rest_waits(
    nixfleet: Invoke, journal: Path
) -> None:
    """The refused fact is named by number and kind; the others count as waiting."""
    with closing(SqliteJournal(journal)) as written:
        facts = [AppendEvent(R2, ActivationStarted(T0, "directory", seq), T0) for seq in (90, 91)]
        written.commit([*facts, PutIntent(Intent(99, IntentKind.SWITCH, R2, "r2-web-01"))])
        (refused, _) = written.unsent(10)
        written.commit([MarkRefused(refused.row_id, "breaks a rule")])
    shown = nixfleet("status", journal).stdout
    assert "stable@r2  fact 90, ActivationStarted  of 2026-05-16 01:00:00Z  breaks a rule" in shown
    assert "stable@r2  1 fact  since 2026-05-16 01:00:00Z" in shown
    assert "stable@r2  switch to r2-web-01  not begun yet" in shown


def test_a_damaged_row_is_named(nixfleet: Invoke, journal: Path) -> None:
    """What cannot be read is said, and is not shown as something else."""
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("UPDATE rollouts SET record = '{}'")
    result = nixfleet("status", journal)
    assert result.exit_code == 1
    assert "damaged" in result.stderr


def test_a_journal_of_a_newer_version_is_unusable(nixfleet: Invoke, journal: Path) -> None:
    """It is left to that version."""
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version=99")
    result = nixfleet("status", journal)
    assert result.exit_code == 2
    assert "found 99" in result.stderr
