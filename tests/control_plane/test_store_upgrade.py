"""Databases of earlier versions, opened by this one: nothing is lost, and the result is what a new database is."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import StoredDispatch
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.storage.record_codec import encode_rollout_record
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import ChannelScope, HostScope
from nixfleet_state_machine.rollout.state import Standing

OLD_SCHEMA = Path(__file__).with_name("store_schema_1.sql")
AT = "2026-05-16T01:00:00.000000Z"
OLD_ROLLOUT = (
    '{"rollout_id":"stable@r1","channel":"stable","target_ref":"r1","state":"Active","current_wave":0,'
    '"opened_event_log_seq":1,"last_transition_event_log_seq":1,"opened_at":"2026-05-16T01:00:00Z",'
    '"excused_hosts":["web-02","web-03"]}'
)


def _older(path: Path) -> Path:
    """Return a database of version 1 with one rollout, in which two hosts were excused, and one dispatch."""
    with closing(sqlite3.connect(path)) as old:
        old.executescript(OLD_SCHEMA.read_text(encoding="utf-8"))
        old.executescript(
            f"PRAGMA application_id={DATABASE_FORMAT.application_id}; PRAGMA user_version=1;"
        )
        old.execute(
            "INSERT INTO event_log (seq, ts, kind, payload, prev_hash, hash)"
            " VALUES (1,?,'operator_command',?,zeroblob(32),zeroblob(32))",
            (
                AT,
                '{"kind":"ClearRollout","rollout_id":"stable@r1","operator":"ada","reason":"x","excused_hosts":[]}',
            ),
        )
        old.execute(
            "INSERT INTO rollouts VALUES ('stable@r1','stable','r1','Active',0,1,1,?,NULL,NULL,?)",
            (AT, OLD_ROLLOUT),
        )
        old.execute(
            "INSERT INTO dispatch_queue VALUES ('web-01','stable@r1','new',?,?,1)", (AT, AT)
        )
        old.executemany(
            "INSERT INTO operator_holds VALUES (?,?,'why',?,1)",
            [("stable", "ada", AT), ("host:web-02", "(the control plane)", AT)],
        )
        old.commit()
    return path


def test_an_older_database_is_upgraded_with_all_it_holds(tmp_path: Path) -> None:
    """A dispatch is queued since its row of the log, an excused host has that standing, and a pause is a hold."""
    at = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
    with closing(SqliteStore(_older(tmp_path / "old.sqlite"))) as store:
        found = store.load()
    assert found.dispatches == (StoredDispatch(Dispatch("web-01", "stable@r1", "new", at, at), at),)
    ((record, _),) = found.rollouts
    assert set(found.holds) == {
        Hold(ChannelScope("stable"), HoldSource(HoldKind.OPERATOR, "ada"), "why", None, at),
        Hold(HostScope("web-02"), HoldSource(HoldKind.CONTRADICTION), "why", None, at),
    }
    assert record.standings == FrozenMap({"web-02": Standing.EXCUSED, "web-03": Standing.EXCUSED})


def test_a_record_of_an_older_database_is_stored_as_a_rebuild_spells_it(tmp_path: Path) -> None:
    """A rollout that nothing moves any more is never written again, and `log rebuild --check` compares the bytes."""
    path = _older(tmp_path / "old.sqlite")
    with closing(SqliteStore(path)) as store:
        ((record, _),) = store.load().rollouts

    with closing(sqlite3.connect(path)) as upgraded:
        stored = upgraded.execute("SELECT record FROM rollouts").fetchall()

    assert stored == [(encode_rollout_record(record).decode(),)]


def test_an_upgraded_database_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    """The migrations and the script for new databases are two ways to one schema."""
    old, new = _older(tmp_path / "old.sqlite"), tmp_path / "new.sqlite"
    for path in (old, new):
        SqliteStore(path).close()
    assert _columns(old) == _columns(new)


def _columns(path: Path) -> list[tuple[str, str, str, int]]:
    """Return table, name, type and place in the primary key of each column."""
    with closing(sqlite3.connect(path)) as database:
        return sorted(
            database.execute(
                "SELECT m.name, c.name, c.type, c.pk FROM sqlite_master m, pragma_table_info(m.name) c"
            )
        )
