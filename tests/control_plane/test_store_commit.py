"""The SQLite store beyond `StoreContract`: the hash chain, the append-only log, references to its rows."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.inputs import PauseScope
from nixfleet_control_plane.messages.log_entry import ArtefactRefused, LogRow
from nixfleet_control_plane.messages.writes import PutHold, PutHostRecord
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.sqlite_store import AnotherWriter, OutOfOrder, SqliteStore
from nixfleet_runtime.storage.sqlite import SchemaTooNew
from nixfleet_runtime.storage.writer import open_writer
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_testing.pauses import pause_of
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START
from tests.engines.story import STEPS, Story, recall_another

REFERENCES = (
    ("host_rollout_records", "event_log_seq", True),
    ("rollouts", "opened_event_log_seq", True),
    ("rollouts", "last_transition_event_log_seq", True),
    ("probe_failures", "event_log_seq", True),
    ("probe_failures", "cleared_by_seq", False),
    ("quarantined_closures", "triggering_event_log_seq", True),
    ("quarantined_closures", "cleared_by_seq", False),
    ("dispatch_queue", "event_log_seq", True),
    ("deferrals", "event_log_seq", True),
    ("beginnings", "event_log_seq", True),
    ("holds", "event_log_seq", True),
    ("warrants", "event_log_seq", True),
    ("artefacts", "event_log_seq", True),
    ("refused_events", "event_log_seq", True),
    ("hosts", "event_log_seq", True),
    ("token_replay", "event_log_seq", True),
    ("revocations", "event_log_seq", True),
)
"""Every column that names a row of the log, and whether it must name one."""


def _row(seq: int) -> LogRow:
    return row_of(seq, START, ArtefactRefused("x", "y"))


@pytest.fixture
def eventful(story: Story) -> Path:
    """A database with rows in every table."""
    for step in STEPS[:40]:
        step(story)
    story.control_plane.pause("late")
    story.control_plane.publish("r4")
    recall_another(story)
    story.control_plane.flush()
    story.control_plane.store.close()
    return story.control_plane.database


def test_a_commit_after_a_refused_one_continues_the_chain(
    control_plane: ScriptedControlPlane,
) -> None:
    """A commit that failed leaves no trace in the hashes of the next."""
    control_plane.publish("r1")
    commit = control_plane.engine.handle(
        PauseScope(ChannelScope("stable"), "ada", "why"), control_plane.now
    )
    broken = PutHold(evolve(pause_of("other"), since=START), event_log_seq=999)
    with pytest.raises(sqlite3.IntegrityError):
        control_plane.store.commit([*commit.writes, broken])
    control_plane.engine.roll_back()
    control_plane.pause("stable")

    assert control_plane.check_store().differences == ()


def test_a_cached_record_never_goes_back(story: Story) -> None:
    """Of two versions of a host's record, the one of the later log row stays."""
    for step in STEPS[:10]:
        step(story)
    story.control_plane.flush()
    store = story.control_plane.store
    newest = store.load().hosts[0]
    older = evolve(newest.record, last_event_seq=0)

    store.commit([PutHostRecord(older, newest.event_log_seq - 1)])

    assert newest in store.load().hosts


def test_a_store_that_lost_its_database_to_another_writer_writes_nothing(story: Story) -> None:
    """A commit after another process's is refused, also one that only writes cached records."""
    for step in STEPS[:10]:
        step(story)
    story.control_plane.flush()
    newest = story.control_plane.store.load().hosts[0]
    with closing(SqliteStore(story.control_plane.database)) as loser:
        story.control_plane.pause("late")
        with pytest.raises(AnotherWriter, match="another process writes to it"):
            loser.commit([PutHostRecord(newest.record, newest.event_log_seq)])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event_log SET payload = '{}' WHERE seq = 1",
        "DELETE FROM event_log WHERE seq = 1",
        "DELETE FROM event_log",
        "INSERT OR REPLACE INTO event_log SELECT * FROM event_log WHERE seq = 1",
    ],
    ids=["update", "delete", "delete all", "replace"],
)
def test_rows_of_the_log_cannot_be_changed(
    control_plane: ScriptedControlPlane, statement: str
) -> None:
    """Nor removed, nor replaced, over a connection as the store has it."""
    control_plane.publish("r1")
    with (
        closing(_writer(control_plane.database)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="event_log is append-only"),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("step", [0, 2, 1000], ids=["the last", "the one after", "a later one"])
def test_a_commit_with_another_row_than_the_next_one_is_refused(
    control_plane: ScriptedControlPlane, step: int
) -> None:
    """Rows are added one after the other; nothing of the commit is written, and the next one may succeed."""
    control_plane.publish("r1")
    head = len(control_plane.rows())
    with pytest.raises(OutOfOrder, match=f"expected the number after the last, {head + 1}"):
        control_plane.store.commit([_row(head + step)])
    assert len(control_plane.rows()) == head
    control_plane.store.commit([_row(head + 1)])


def _writer(path: Path) -> sqlite3.Connection:
    return open_writer(path, DATABASE_FORMAT)


def test_every_column_that_names_a_log_row_is_known_to_these_tests(eventful: Path) -> None:
    """No table has a column for a row of the log that the tests below leave out."""
    with closing(sqlite3.connect(eventful)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        found = {
            (table, column[3])
            for table in tables
            for column in connection.execute(f"PRAGMA foreign_key_list({table})")
        }
        named = {
            (table, column[1])
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})")
            if column[1].endswith("_seq")
        }

    known = {(table, column) for table, column, _ in REFERENCES}
    assert found == known
    # No references: what an agent numbers, what a view shows, where the log begins, and the mark of the cache.
    assert named - known == {
        ("host_rollout_records", "last_event_seq"),
        ("host_records_through", "event_log_seq"),
        ("event_log", "first_fact_seq"),
        ("log_start", "first_seq"),
        ("log_lines", "event_log_seq"),
        ("log_lines", "fact_seq"),
    }


@pytest.mark.parametrize(("table", "column", "is_needed"), REFERENCES)
def test_a_view_row_that_names_no_log_row_is_refused(
    eventful: Path, table: str, column: str, is_needed: bool
) -> None:
    """A row that says nothing of where it came from, or names a row that is not there, is refused."""
    wrong = ["NULL", "999999"] if is_needed else ["999999"]
    with closing(sqlite3.connect(eventful)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() > (0,)
        for value in wrong:
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(f"UPDATE {table} SET {column} = {value}")


def test_a_log_row_with_a_number_that_is_taken_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """Two writers of one log are found out by the first number that both give."""
    control_plane.publish("r1")
    with closing(control_plane.open_store()) as other:
        other.commit([_row(control_plane.state.head_seq + 1)])
    with pytest.raises(AnotherWriter):
        control_plane.pause("stable")


def test_a_database_of_a_newer_version_is_refused_by_name(
    control_plane: ScriptedControlPlane,
) -> None:
    """A store does not open what a newer version wrote."""
    control_plane.store.close()
    with closing(sqlite3.connect(control_plane.database)) as connection:
        connection.execute(f"PRAGMA user_version={DATABASE_FORMAT.version + 1}")
    with pytest.raises(SchemaTooNew, match=f"found {DATABASE_FORMAT.version + 1}"):
        SqliteStore(control_plane.database)
