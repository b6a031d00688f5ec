"""Journals of earlier versions, opened by this one: nothing is lost, and the result is what a new journal is."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import AppendEvent, RemoveRollout
from nixfleet_proto.agent_event import DispatchAck, OnHealthFailure
from nixfleet_proto.codec import encode_event
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.record_codec import encode_host_record, encode_policy
from nixfleet_state_machine.host.state import HostRolloutState
from tests.agent.lone_agent import T0

OLDER = (1, 2, 3, 4, 5)
WHOLE_POLICY_SINCE = 5
ATTEMPTS_SINCE = 3
R1 = RolloutId("stable@r1")
ACK = DispatchAck("old", T0, seq=1)
RECORD = HostRolloutState.pending(R1, "web-01", "stable", "new", T0, T0 + timedelta(minutes=5))


@pytest.fixture(params=OLDER, ids=[f"version {number}" for number in OLDER])
def older_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A journal with one rollout, one fact and one intent, as an older version wrote them."""
    version: int = request.param
    schema = Path(__file__).with_name(f"journal_schema_{version}.sql")
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(schema.read_text(encoding="utf-8"))
        old.executescript(
            f"PRAGMA application_id={JOURNAL_FORMAT.application_id}; PRAGMA user_version={version};"
        )
        record = encode_host_record(RECORD).decode()
        policy = "rollback-and-halt"
        if version >= WHOLE_POLICY_SINCE:
            policy = encode_policy(RolloutPolicy(OnHealthFailure.ROLLBACK_AND_HALT)).decode()
        old.execute("INSERT INTO rollouts VALUES (?,?,?,NULL,0)", (R1, record, policy))
        old.execute(
            "INSERT INTO events (rollout_id, seq, fact, emitted_at) VALUES (?,1,?,'then')",
            (R1, encode_event(ACK).decode()),
        )
        attempts = ",0" if version >= ATTEMPTS_SINCE else ""
        old.execute(f"INSERT INTO intents VALUES (4,'switch',?,'new'{attempts})", (R1,))
        old.commit()
    return path


def test_an_older_journal_is_upgraded_with_all_it_holds(older_journal: Path) -> None:
    """What it has no room for begins with nothing: no release was obeyed, and no intent begun."""
    with closing(SqliteJournal(older_journal)) as journal:
        snapshot = journal.load()
        unsent = [row.fact for row in journal.unsent(10)]
    policy = RolloutPolicy(OnHealthFailure.ROLLBACK_AND_HALT)
    assert snapshot.rollouts == (LocalRollout(RECORD, policy),)
    assert snapshot.intents == (Intent(4, IntentKind.SWITCH, R1, "new", attempts=0),)
    assert (snapshot.newest_release, snapshot.rolled_back) == (None, ())
    assert unsent == [ACK]


def test_an_upgraded_journal_gives_no_number_of_a_row_twice(older_journal: Path) -> None:
    """The rows keep their numbers, and those that come after a removal have higher ones."""
    with closing(SqliteJournal(older_journal)) as journal:
        (before,) = journal.unsent(10)
        journal.commit([RemoveRollout(R1), AppendEvent(R1, ACK, T0)])
        (after,) = journal.unsent(10)
    assert (before.row_id, after.row_id) == (1, 2)


def test_an_upgraded_journal_has_the_tables_of_a_new_one(
    older_journal: Path, tmp_path: Path
) -> None:
    """The migrations and the script for new journals are two ways to one schema."""
    new = tmp_path / "new.sqlite"
    for path in (older_journal, new):
        SqliteJournal(path).close()
    assert columns_of(older_journal) == columns_of(new)


def columns_of(path: Path) -> list[tuple[str, str, str, int]]:
    """Return table, name, type and place in the primary key of each column."""
    with closing(sqlite3.connect(path)) as database:
        return sorted(
            database.execute(
                "SELECT m.name, c.name, c.type, c.pk FROM sqlite_master m, pragma_table_info(m.name) c"
            )
        )
