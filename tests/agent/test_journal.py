"""The agent's journal on SQLite: only what `JournalContract` does not say, the file itself."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.messages.writes import (
    AppendEvent,
    MarkAcknowledged,
    MarkRefused,
    PutRecord,
    RemoveRollout,
)
from nixfleet_proto.agent_event import ActivationStarted, DispatchAck, OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.sqlite import SchemaTooNew
from nixfleet_state_machine.host.state import HostRolloutState
from tests.agent.lone_agent import T0

R1 = RolloutId("stable@r1")
ACK = DispatchAck("old", T0, seq=1)
STARTED = ActivationStarted(T0, "directory", seq=2)
RECORD = HostRolloutState.pending(R1, "web-01", "stable", "new", T0, T0 + timedelta(minutes=5))
HALT = RolloutPolicy(OnHealthFailure.HALT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(path)
    yield journal
    journal.close()


def test_a_refused_fact_stays_with_its_reason_and_is_not_sent(
    journal: SqliteJournal, path: Path
) -> None:
    """What the control plane will never take does not hold up the rest."""
    journal.commit([AppendEvent(R1, ACK, T0), AppendEvent(R1, STARTED, T0)])
    first, second = journal.unsent(10)
    journal.commit([MarkRefused(first.row_id, "breaks rule soak-elapsed")])
    assert journal.unsent(10) == (second,)
    reason = sqlite3.connect(path).execute("SELECT refused_reason FROM events").fetchone()
    assert reason == ("breaks rule soak-elapsed",)


def test_a_year_of_rollouts_leaves_the_rows_of_those_that_are_kept(
    journal: SqliteJournal, path: Path
) -> None:
    """Each table has as many rows after 52 weeks as after 3, and so has the file, but for a page or two."""
    measured = list[tuple[dict[str, int], int]]()
    for week in range(52):
        rollout_id = RolloutId(f"stable@r{week}")
        record = evolve(RECORD, rollout_id=rollout_id)
        facts = [AppendEvent(rollout_id, evolve(STARTED, seq=seq), T0) for seq in range(1, 200)]
        journal.commit([PutRecord(record, HALT, None), *facts])
        sent = tuple(row.row_id for row in journal.unsent(1000))
        journal.commit([MarkAcknowledged(sent), RemoveRollout(RolloutId(f"stable@r{week - 1}"))])
        measured.append(_contents(path))
    (rows, pages), (last_rows, last_pages) = measured[2], measured[-1]
    assert rows["events"] == 199
    assert last_rows == rows
    assert last_pages <= pages + 2


def _contents(path: Path) -> tuple[dict[str, int], int]:
    """The number of rows of each table, and of pages of the file."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables
        }
        return counts, connection.execute("PRAGMA page_count").fetchone()[0]


def test_a_journal_from_a_newer_version_is_refused_by_name(path: Path) -> None:
    """The message names the file and both versions, and the file stays as it was."""
    SqliteJournal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNew, match="found 99") as refused:
        SqliteJournal(path)
    assert refused.value.path == path
