"""Files that earlier versions wrote: this one opens each, finds all of it, and goes on with it.

The law of upgrades: a database or a journal of any earlier version opens. `samples/README.md` tells how each was made;
a new version adds a sample of the one before it, and none is ever replaced.
"""

import gzip
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from nixfleet_agent.journal.journal import AppendEvent, SqliteJournal, require_readable
from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
from nixfleet_agent.journal.loading import load_state as load_agent
from nixfleet_cli.main import main
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.history.shadow import compare_views
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.codec import decode_event
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.file_format import FileFormat
from nixfleet_state_machine.planner.holds.hold import HoldKind
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost
from tests.upgrades.killing import killed_at

SAMPLES = Path(__file__).with_name("samples")
DATABASES = sorted(it.name.split(".")[0] for it in SAMPLES.glob("database-*.gz"))
JOURNALS = sorted(it.name.split(".")[0] for it in SAMPLES.glob("journal-*.gz"))
LOG_OF_BEFORE = "seq, ts, kind, host_id, rollout_id, payload, signature, prev_hash, hash"
"""The columns that a log has had from the first version on."""
UNCHANGED = ("event_log", "artefacts", "hosts", "revocations", "refused_events", "probe_failures")
"""Tables of a database that no version changed."""


def _unpacked(sample: str, into: Path) -> Path:
    into.write_bytes(gzip.decompress((SAMPLES / f"{sample}.sqlite.gz").read_bytes()))
    return into


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _unpacked(request.param, tmp_path / "control-plane.sqlite")


@pytest.fixture(params=JOURNALS)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _unpacked(request.param, tmp_path / "journal.sqlite")


def _names_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def _rows(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        columns = LOG_OF_BEFORE if table == "event_log" else "*"
        return connection.execute(f"SELECT {columns} FROM {table}").fetchall()


def _one(path: Path, query: str) -> tuple[int, ...]:
    with closing(sqlite3.connect(path)) as connection:
        row: tuple[int, ...] = connection.execute(query).fetchone()
    return row


def _last_row_id(journal: Path) -> int:
    with closing(sqlite3.connect(journal)) as connection:
        return int(connection.execute("SELECT max(row_id) FROM events").fetchone()[0])


def _shape(path: Path) -> list[tuple[object, ...]]:
    """Return every column, index and trigger, without comments and spaces."""
    with closing(sqlite3.connect(path)) as connection:
        columns = connection.execute(
            "SELECT m.name, c.name, c.type, c.pk, c.'notnull' FROM sqlite_master m, pragma_table_info(m.name) c"
        ).fetchall()
        others = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql NOT NULL"
        ).fetchall()
    return sorted([*columns, *((name, " ".join(sql.split())) for name, sql in others)])


def _samples_cover(file_format: FileFormat, samples: Sequence[str]) -> set[int]:
    found = {int(name.split("-")[1]) for name in samples}
    return set(range(1, file_format.version)) - found


def test_there_is_a_sample_of_every_earlier_version() -> None:
    """Who makes a new version keeps a file of the one before it."""
    assert _samples_cover(DATABASE_FORMAT, DATABASES) == set()
    assert _samples_cover(JOURNAL_FORMAT, JOURNALS) == set()


def test_a_sample_of_a_database_has_something_of_everything(database: Path) -> None:
    """A table without a row would be upgraded by any step, right or wrong."""
    names = _names_in(database)
    views = "rollouts", "quarantined_closures", "dispatch_queue", "deferrals"
    for table in names & {*UNCHANGED, *views, "holds", "operator_holds", "beginnings"}:
        assert _rows(database, table), table
    assert names & {"holds", "operator_holds"}


def test_a_database_of_any_version_opens_with_all_it_holds(database: Path) -> None:
    """Its log and views are what they were, the chain holds, and the views are those that a rebuild derives."""
    known = _names_in(database) & {*UNCHANGED}
    before = {table: _rows(database, table) for table in known}

    with closing(SqliteStore(database, compare_views)) as store:
        found = store.load()

    assert {table: _rows(database, table) for table in known} == before
    assert [(hold.scope, hold.source.kind) for hold in found.holds] == [
        (ChannelScope("late"), HoldKind.OPERATOR)
    ]
    assert found.quarantines
    assert found.dispatches
    assert bool(found.refused) is bool(before.get("refused_events"))
    with closing(open_for_reading(database)) as connection:
        assert check_chain(connection).problem is None
        assert check_views(connection).differences == ()


def test_an_upgraded_database_has_the_shape_of_a_new_one(database: Path, tmp_path: Path) -> None:
    """The steps and the script for new files are two ways to one schema."""
    new = tmp_path / "new.sqlite"
    for path in (database, new):
        SqliteStore(path, compare_views).close()
    assert _shape(database) == _shape(new)


def test_a_control_plane_goes_on_with_a_database_of_any_version(database: Path) -> None:
    """It takes the next release and the facts of its hosts, and restarts; what was paused is still held."""
    layout = Layout(waves=(("web-01",),), edges=())
    SqliteStore(database, compare_views).close()
    with closing(ScriptedControlPlane(database.parent, layout)) as control_plane:
        assert control_plane.state.left_out == ()
        control_plane.now = START + timedelta(days=30)
        rollout_id = control_plane.publish("after")
        ScriptedHost(control_plane, rollout_id, "web-01").finish()
        assert control_plane.rollout(rollout_id).state is RolloutState.TERMINAL
        held = control_plane.publish("after", Layout(waves=(("db-01",),), channel="late"))
        assert control_plane.queued() == []

        control_plane.restart_control_plane()

        assert control_plane.rollout(rollout_id).state is RolloutState.TERMINAL
        control_plane.resume("late")
        assert ("db-01", held) in control_plane.queued()
        assert control_plane.check_store().differences == ()


def test_a_journal_of_any_version_opens_with_all_it_holds(journal: Path) -> None:
    """Every fact with its marks is there, and every rollout."""
    query = "SELECT row_id, rollout_id, seq, fact, is_acknowledged, refused_reason FROM events ORDER BY row_id"
    with closing(sqlite3.connect(journal)) as connection:
        events = connection.execute(query).fetchall()
        records = connection.execute("SELECT rollout_id, record FROM rollouts").fetchall()
    assert events
    assert records

    with closing(SqliteJournal(journal)) as opened:
        snapshot, unsent = opened.load(), opened.unsent(1000)

    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute(query).fetchall() == events
        assert connection.execute("SELECT rollout_id, record FROM rollouts").fetchall() == records
    assert len(snapshot.rollouts) == len(records)
    expected = [
        (it[0], decode_event(it[3].encode())) for it in events if not it[4] and it[5] is None
    ]
    assert [(row.row_id, row.fact) for row in unsent] == expected


def test_an_upgraded_journal_has_the_shape_of_a_new_one(journal: Path, tmp_path: Path) -> None:
    """The steps and the script for new files are two ways to one schema."""
    new = tmp_path / "new.sqlite"
    for path in (journal, new):
        SqliteJournal(path).close()
    assert _shape(journal) == _shape(new)


def test_a_journal_of_the_first_days_took_nothing_over(tmp_path: Path) -> None:
    """Then version 1 had no column for that: it begins with 0, and the rest is as it was."""
    path = _unpacked("journal-1", tmp_path / "journal.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE rollouts DROP COLUMN taken_over_seq")
        records = connection.execute("SELECT rollout_id, record FROM rollouts").fetchall()
        connection.commit()

    with closing(SqliteJournal(path)) as opened:
        rollouts = opened.load().rollouts

    assert [(it.record.rollout_id, it.taken_over_seq) for it in rollouts] == [
        (rollout_id, 0) for rollout_id, _ in records
    ]


def test_an_agent_goes_on_with_a_journal_of_any_version(journal: Path) -> None:
    """It loads its state, and what it commits has numbers that no row had."""
    rollout_id = RolloutId("stable@after")
    with closing(SqliteJournal(journal)) as opened:
        state = load_agent(opened, "host-01")
        last = _last_row_id(journal)
        opened.commit([AppendEvent(rollout_id, DispatchAck("old", START, seq=1), START)])
        added = [row for row in opened.unsent(1000) if row.rollout_id == rollout_id]
    assert state.rollouts
    assert [row.row_id > last for row in added] == [True]


@pytest.mark.parametrize(
    ("sample", "stride"), [("database-1-first", 10), ("database-5", 3), ("journal-1", 10)]
)
def test_a_sample_whose_upgrade_is_killed_is_upgraded_by_the_next_start(
    sample: str, stride: int, tmp_path: Path
) -> None:
    """At many statements of the real steps, on a real file: what is there is the old version or the new one."""
    path = tmp_path / "file.sqlite"
    whole = _unpacked(sample, path).read_bytes()

    def start() -> None:
        if sample.startswith("database"):
            SqliteStore(path, compare_views).close()
        else:
            SqliteJournal(path).close()

    (older,) = _one(path, "PRAGMA user_version")
    start()
    expected = _rows(path, "rollouts"), _shape(path)
    number, kills = 1, 0
    while True:
        for each in tmp_path.iterdir():
            each.unlink()
        path.write_bytes(whole)
        if not killed_at(number, start):
            break
        kills += 1
        (version,) = _one(path, "PRAGMA user_version")
        assert version in (older, DATABASE_FORMAT.version, JOURNAL_FORMAT.version)
        start()
        assert (_rows(path, "rollouts"), _shape(path)) == expected
        number += stride
    assert kills > 5


@pytest.mark.parametrize("sample", [*DATABASES, *JOURNALS])
def test_the_command_upgrades_a_file_of_any_version(sample: str, tmp_path: Path) -> None:
    """It finds out which kind of file it is; `log verify` and `rebuild --check` find the database in order."""
    path = _unpacked(sample, tmp_path / "file.sqlite")
    upgraded = CliRunner().invoke(main, ["db", "upgrade", str(path)])
    assert upgraded.exit_code == 0, upgraded.output
    assert "it was upgraded" in upgraded.output
    if sample in DATABASES:
        for command in (["log", "verify"], ["log", "rebuild", "--check"], ["status"]):
            assert CliRunner().invoke(main, [*command, str(path)]).exit_code == 0


def test_every_journal_that_was_kept_can_be_read_to_its_last_fact(journal: Path) -> None:
    """What the agent asks of a journal before it writes to it the first time."""
    SqliteJournal(journal).close()
    with closing(sqlite3.connect(journal)) as connection:
        assert require_readable(connection, 1) == ()
