"""Reports in the log: their rows are stored without what each envelope repeats, and read as the host signed them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.envelopes import lengthened, shortened
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore, read_log
from nixfleet_proto.codec.json_text import sorted_bytes
from nixfleet_proto.codec.wire import batch_payload, envelope_payload
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_testing.contracts.histories import CONVERGES, HOST, ROLLOUT
from property_tests.anything import json_values

SIGNATURE = "0f" * 64
ENVELOPES = tuple(AgentEventEnvelope(HOST, ROLLOUT, fact) for fact in CONVERGES)
BATCH = batch_payload(EventBatch(ENVELOPES)).decode()
SINGLE = envelope_payload(ENVELOPES[0]).decode()
NAMES = st.one_of(st.just(HOST), st.text(max_size=5))


def _row(payload: str, count: int, signature: str | None = SIGNATURE) -> LogRow:
    ts = "2026-05-16T01:00:00.000000Z"
    return LogRow(1, ts, "agent_events", HOST, ROLLOUT, payload, signature, 1, count)


def _stored(path: Path, row: LogRow) -> tuple[str, object]:
    """Commit the row; return its payload and its signature as the table has them."""
    with closing(SqliteStore(path)) as store:
        store.commit([row])
    with closing(sqlite3.connect(path)) as connection:
        payload, signature = connection.execute(
            "SELECT payload, signature FROM event_log"
        ).fetchone()
    return payload, signature


@pytest.mark.parametrize(
    ("payload", "count"), [(BATCH, len(CONVERGES)), (SINGLE, 1)], ids=["batch", "single"]
)
def test_a_report_is_stored_without_what_its_envelopes_repeat(
    tmp_path: Path, payload: str, count: int
) -> None:
    """Host and rollout are in no envelope, the signature is bytes, and what is stored is JSON with every fact."""
    path, row = tmp_path / "db", _row(payload, count)
    stored, signature = _stored(path, row)
    assert ',"hostname":' not in stored
    assert ',"rolloutId":' not in stored
    assert signature == bytes.fromhex(SIGNATURE)
    said, kept = json.loads(payload), json.loads(stored)
    assert [each["event"] for each in kept.get("events", [kept])] == [
        each["event"] for each in said.get("events", [said])
    ]
    with closing(open_for_reading(path)) as connection:
        assert list(read_log(connection)) == [row]
        lines = connection.execute("SELECT fact_seq, kind FROM log_lines").fetchall()
    assert lines == [(seq, "agent_event") for seq in range(1, count + 1)]


@pytest.mark.parametrize("signature", [None, "", "0F" * 64, "no hex", "0f 0f", "abc"])
def test_a_signature_is_read_as_it_was_written(tmp_path: Path, signature: str | None) -> None:
    """Also one that no key made, of which the chain has the hash."""
    path, row = tmp_path / "db", _row(SINGLE, 1, signature)
    _stored(path, row)
    with closing(open_for_reading(path)) as connection:
        assert list(read_log(connection)) == [row]


def test_an_envelope_with_more_members_keeps_them() -> None:
    """A later version may sign more: what lies between the fact and the host stays, and so does what comes after."""
    for payload in (
        SINGLE.replace(',"hostname"', ',"extra":[{"hostname":"x"}],"hostname"'),
        SINGLE[:-1] + ',"zone":1}',
    ):
        assert lengthened(shortened(payload, HOST, ROLLOUT), HOST, ROLLOUT) == payload


@given(
    host=NAMES,
    rollout_id=NAMES,
    events=st.lists(json_values(), max_size=4),
    strange=st.sampled_from(["", "\n", "\n\n", "\n}", "\n\n\n}", " "]),
    place=st.integers(0, 50),
)
def test_any_report_is_read_as_it_was_signed(
    host: str, rollout_id: str, events: list[JsonValue], strange: str, place: int
) -> None:
    """Byte for byte, whatever its facts and names have in them, and also if it is no canonical JSON."""
    envelopes: list[JsonValue] = [
        {"event": each, "hostname": host, "rolloutId": rollout_id} for each in events
    ]
    payload = sorted_bytes({"events": envelopes}).decode()
    payload = payload[:place] + strange + payload[place:]
    assert lengthened(shortened(payload, host, rollout_id), host, rollout_id) == payload
