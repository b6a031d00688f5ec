"""A database whose log began in format 1: nothing of it is lost, and it goes on in format 2."""

import gzip
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.messages.entry_codec import entry_of, row_of
from nixfleet_control_plane.messages.inputs import HostEvents, Signed
from nixfleet_control_plane.messages.log_entry import FactRefused, FactReported, lines_of
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore, read_log
from nixfleet_proto.agent_event import ActivationStarted, DispatchAck
from nixfleet_proto.codec.wire import batch_payload
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.transport import EventsOutcome
from tests.engines.tampering import cut

FORMAT_1 = Path(__file__).parents[1] / "upgrades" / "samples" / "database-3.sqlite.gz"
"""Written by the last version with format 1 of the log."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "control-plane.sqlite"
    path.write_bytes(gzip.decompress(FORMAT_1.read_bytes()))
    return path


def _hashes(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [each for (each,) in connection.execute("SELECT hash FROM event_log ORDER BY seq")]


def test_rows_of_format_1_keep_their_hashes_when_the_database_is_upgraded(database: Path) -> None:
    """The chain holds over them, and who noted the head, or signed a checkpoint, finds it again."""
    before = _hashes(database)
    SqliteStore(database).close()

    assert _hashes(database) == before
    with closing(open_for_reading(database)) as connection:
        report = check_chain(connection)
    assert (report.rows, report.head_hash, report.problem) == (len(before), before[-1], None)


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "from the log"])
def test_a_log_that_began_in_format_1_goes_on_in_format_2(database: Path, is_cached: bool) -> None:
    """Views are those that the log gives, whichever rows a start folds, and one chain has both."""
    with closing(SqliteStore(database)) as store:
        if not is_cached:
            cut(database, "UPDATE host_records_through SET event_log_seq = 0")
        state = load_state(store)
        engine = ControlPlaneEngine(state)
        waiting = next(each for dispatches in state.dispatches.values() for each in dispatches)
        at = waiting.enqueued_at + timedelta(days=1)
        outcome = engine.handle(_reported(waiting.hostname, waiting.rollout_id, at), at)
        assert outcome.reply == EventsOutcome(2)
        store.commit(outcome.writes)
        after = load_state(store)
    assert set(after.view.rollouts) == set(state.view.rollouts)
    assert all(
        after.view.host(record.rollout_id, record.hostname) == record
        for rollout_id in state.view.open_rollouts
        for record in state.view.hosts_of(rollout_id)
    )
    with closing(open_for_reading(database)) as connection:
        assert check_chain(connection).problem is None
        assert check_views(connection).differences == ()
        Follower(connection).read_all()


def _reported(host: str, rollout_id: str, at: datetime) -> HostEvents:
    facts = DispatchAck("release-0", at, seq=1), ActivationStarted(at, "directory", seq=2)
    envelopes = tuple(AgentEventEnvelope(host, rollout_id, fact) for fact in facts)
    return HostEvents(host, envelopes, Signed(batch_payload(EventBatch(envelopes)), "ab" * 64))


def test_lines_of_format_1_are_read_like_those_of_format_2(database: Path) -> None:
    """The view, the pages of the API and the entries have one line for each fact."""
    SqliteStore(database).close()
    with closing(open_for_reading(database)) as connection:
        entries = [logged.entry for logged in log_entries(connection)]
        lines = connection.execute("SELECT count(*) FROM log_lines").fetchone()[0]
        facts = connection.execute(
            "SELECT count(*) FROM log_lines WHERE kind = 'agent_event'"
        ).fetchone()[0]
        rows = [
            row_of(line.seq, line.at, line.entry)
            for row in read_log(connection)
            for line in lines_of(entry_of(row))
        ]
    assert lines == len(entries)
    assert facts == sum(isinstance(each, FactReported) for each in entries) > 0
    assert any(isinstance(each, FactRefused) for each in entries)
    assert len(rows) == lines
    assert {"agent_event", "artefact_accepted"} <= {row.kind for row in rows}
