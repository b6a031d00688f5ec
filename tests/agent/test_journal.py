"""The agent's journal on SQLite: what is durable, what is unsent, what a start finds."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import (
    AppendEvent,
    MarkAcknowledged,
    MarkRefused,
    MarkUnsent,
    PutIntent,
    PutRecord,
    RemoveIntent,
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


def append_both(journal: SqliteJournal) -> None:
    journal.commit([AppendEvent(R1, ACK, T0), AppendEvent(R1, STARTED, T0)])


def test_what_was_committed_is_found_by_the_next_start(journal: SqliteJournal, path: Path) -> None:
    """Records, policies and open intents survive; what was removed does not come back."""
    intents = [Intent(n, IntentKind.SWITCH, R1, "new") for n in (1, 2)]
    journal.commit([PutRecord(RECORD, HALT, None), *map(PutIntent, intents), RemoveIntent(2)])
    restarted = SqliteJournal(path)
    snapshot = restarted.load()
    restarted.close()
    assert snapshot.rollouts == (LocalRollout(RECORD, HALT),)
    assert snapshot.intents == (intents[0],)
    assert snapshot.last_intent_id == 2


def test_facts_are_unsent_in_order_until_acknowledged(journal: SqliteJournal) -> None:
    """An acknowledged row is kept and is not sent again."""
    append_both(journal)
    first, second = journal.unsent(10)
    assert (first.fact, second.fact) == (ACK, STARTED)
    journal.commit([MarkAcknowledged((first.row_id,))])
    assert journal.unsent(10) == (second,)
    assert journal.unsent(0) == ()


def test_a_refused_fact_stays_with_its_reason_and_is_not_sent(
    journal: SqliteJournal, path: Path
) -> None:
    """What the control plane will never take does not hold up the rest."""
    append_both(journal)
    first, second = journal.unsent(10)
    journal.commit([MarkRefused(first.row_id, "breaks rule soak-elapsed")])
    assert journal.unsent(10) == (second,)
    reason = sqlite3.connect(path).execute("SELECT refused_reason FROM events").fetchone()
    assert reason == ("breaks rule soak-elapsed",)


def test_a_replay_makes_acknowledged_facts_unsent_from_a_number_on(journal: SqliteJournal) -> None:
    """A control plane that lost its database gets the rows again, from where it lacks them."""
    append_both(journal)
    journal.commit([MarkAcknowledged(tuple(row.row_id for row in journal.unsent(10)))])
    journal.commit([MarkUnsent(R1, 2)])
    assert [row.fact for row in journal.unsent(10)] == [STARTED]


def test_a_commit_that_fails_leaves_nothing_behind(journal: SqliteJournal) -> None:
    """All writes of a commit are durable, or none."""
    with pytest.raises(sqlite3.IntegrityError):
        journal.commit([AppendEvent(R1, ACK, T0), AppendEvent(R1, ACK, T0)])
    assert journal.unsent(10) == ()
    append_both(journal)
    assert len(journal.unsent(10)) == 2


def test_a_forgotten_rollout_takes_its_facts_along(journal: SqliteJournal) -> None:
    """After retention neither the record nor the rows remain."""
    append_both(journal)
    journal.commit([PutRecord(RECORD, HALT, T0), RemoveRollout(R1)])
    assert journal.unsent(10) == ()
    assert journal.load().rollouts == ()


def test_the_last_numbers_are_those_of_the_records(journal: SqliteJournal) -> None:
    """A record that was taken over from the control plane counts though its facts are not here."""
    journal.commit([PutRecord(evolve(RECORD, last_event_seq=7), HALT, None)])
    assert journal.last_seqs() == {"stable@r1": 7}


def test_a_journal_from_a_newer_version_is_refused_by_name(path: Path) -> None:
    """The message names the file and both versions, and the file stays as it was."""
    SqliteJournal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNew, match="schema 99") as refused:
        SqliteJournal(path)
    assert refused.value.path == path
