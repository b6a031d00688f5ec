"""Journals of earlier versions, opened by this one: nothing is lost, and the result is what a new journal is."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import APPLICATION_ID, SqliteJournal
from nixfleet_proto.agent_event import DispatchAck, OnHealthFailure
from nixfleet_proto.codec import encode_event
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.record_codec import encode_host_record
from nixfleet_state_machine.host.state import HostRolloutState
from tests.agent.lone_agent import T0

FIRST_SCHEMA = Path(__file__).with_name("journal_schema_1.sql")
R1 = RolloutId("stable@r1")
ACK = DispatchAck("old", T0, seq=1)
RECORD = HostRolloutState.pending(R1, "web-01", "stable", "new", T0, T0 + timedelta(minutes=5))


@pytest.fixture
def journal_of_version_1(tmp_path: Path) -> Path:
    """A journal with one rollout and one fact, as version 1 wrote them."""
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(FIRST_SCHEMA.read_text(encoding="utf-8"))
        old.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=1;")
        record = encode_host_record(RECORD).decode()
        old.execute("INSERT INTO rollouts VALUES (?,?,'halt',NULL,0)", (R1, record))
        old.execute(
            "INSERT INTO events (rollout_id, seq, fact, emitted_at) VALUES (?,1,?,'then')",
            (R1, encode_event(ACK).decode()),
        )
        old.commit()
    return path


def test_a_journal_of_version_1_is_upgraded_with_all_it_holds(journal_of_version_1: Path) -> None:
    """Its rollout and its fact are there, and it has obeyed no release that it would know of."""
    with closing(SqliteJournal(journal_of_version_1)) as journal:
        snapshot = journal.load()
        unsent = [row.fact for row in journal.unsent(10)]
    assert snapshot.rollouts == (LocalRollout(RECORD, RolloutPolicy(OnHealthFailure.HALT)),)
    assert (snapshot.newest_release, snapshot.rolled_back) == (None, ())
    assert unsent == [ACK]


def test_an_upgraded_journal_has_the_tables_of_a_new_one(
    journal_of_version_1: Path, tmp_path: Path
) -> None:
    """The migrations and the script for new journals are two ways to one schema."""
    new = tmp_path / "new.sqlite"
    for path in (journal_of_version_1, new):
        SqliteJournal(path).close()
    assert columns_of(journal_of_version_1) == columns_of(new)


def columns_of(path: Path) -> list[tuple[str, str, str, int]]:
    """Return table, name, type and place in the primary key of each column."""
    with closing(sqlite3.connect(path)) as database:
        return sorted(
            database.execute(
                "SELECT m.name, c.name, c.type, c.pk FROM sqlite_master m, pragma_table_info(m.name) c"
            )
        )
