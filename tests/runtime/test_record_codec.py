"""Records and decisions as JSON for stores and snapshots."""

from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode, ProbeStatus, ProbeTopologyEntry
from nixfleet_proto.codec import DecodeError, DecodeProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.record_codec import (
    decode_host_record,
    decode_plan_action,
    decode_rollout_event,
    decode_rollout_record,
    encode_host_record,
    encode_plan_action,
    encode_rollout_event,
    encode_rollout_record,
)
from nixfleet_state_machine import HostRolloutState, HostState, ProbeRecord
from nixfleet_state_machine.planner.action import DeferDispatch, Gate
from nixfleet_state_machine.rollout.event import HostStateChanged, OperatorClearance
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing

AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
ROLLOUT = RolloutId("stable@a1b2")
PENDING = HostRolloutState.pending(ROLLOUT, "web-01", "stable", "closure-2", AT, None)
PENDING_TEXT = (
    b'{"rollout_id":"stable@a1b2","hostname":"web-01","channel":"stable","state":"Pending",'
    b'"target_closure":"closure-2","dispatched_at":"2026-05-16T01:00:00Z"}'
)
RECORD = RolloutRecord(
    rollout_id=ROLLOUT,
    channel="stable",
    target_ref="a1b2",
    state=RolloutState.ACTIVE,
    current_wave=0,
    opened_event_log_seq=7,
    last_transition_event_log_seq=9,
    opened_at=AT,
)


def test_encoding_a_host_record_leaves_out_what_has_its_default() -> None:
    """A record that nothing happened to yet is a small row."""
    assert encode_host_record(PENDING) == PENDING_TEXT
    assert decode_host_record(PENDING_TEXT) == PENDING


def test_decoding_an_encoded_host_record_gives_every_field_back() -> None:
    """A record in the middle of its life comes back exactly: probes in their order, types and all."""
    record = HostRolloutState(
        rollout_id=ROLLOUT,
        hostname="web-01",
        channel="stable",
        state=HostState.FAILED,
        target_closure="closure-2",
        policy_applied=OnHealthFailure.HALT,
        probes=FrozenMap(
            {
                "nginx": ProbeRecord(ProbeStatus.FAIL, ProbeMode.ENFORCE, AT, None, "503", AT),
                "disk": ProbeRecord(ProbeStatus.PASS, ProbeMode.OBSERVE, AT, AT),
            }
        ),
        last_event_seq=2**64 - 1,
        declared_probes=(ProbeTopologyEntry("nginx", "http", ProbeMode.ENFORCE),),
    )

    restored = decode_host_record(encode_host_record(record))

    assert restored == record
    assert list(restored.probes) == ["nginx", "disk"]
    assert isinstance(restored.rollout_id, RolloutId)
    assert isinstance(restored.probes, FrozenMap)


def test_an_empty_topology_is_not_taken_for_none_declared() -> None:
    """A host that declared no probes differs from one that declared nothing yet."""
    declared = HostRolloutState(
        ROLLOUT, "web-01", "stable", HostState.SOAKING, "closure-2", declared_probes=()
    )

    assert decode_host_record(encode_host_record(declared)).declared_probes == ()
    assert decode_host_record(PENDING_TEXT).declared_probes is None


def test_decoding_an_encoded_rollout_record_gives_every_field_back() -> None:
    """Retention is exact to the microsecond, and so are standings and attempts."""
    record = RolloutRecord(
        rollout_id=ROLLOUT,
        channel="stable",
        target_ref="a1b2",
        state=RolloutState.SUPERSEDED,
        current_wave=1,
        opened_event_log_seq=7,
        last_transition_event_log_seq=9,
        opened_at=AT,
        superseded_at=AT,
        retention=timedelta(hours=1, microseconds=1),
        standings=FrozenMap({"web-02": Standing.EXCUSED, "db-01": Standing.LATE}),
        attempts=FrozenMap({"db-01": 2}),
    )
    written = encode_rollout_record(record)

    assert (
        b'"retention":3600000001,"standings":{"web-02":"excused","db-01":"late"},"attempts":{"db-01":2}'
        in written
    )
    assert decode_rollout_record(written) == record


def test_a_rollout_event_is_tagged_with_its_kind() -> None:
    """A rollout event says what it is; `from_` is spelt `from`."""
    event = HostStateChanged(ROLLOUT, "web-01", HostState.SOAKING, HostState.CONVERGED, AT)
    text = (
        b'{"kind":"HostStateChanged","rollout_id":"stable@a1b2","host_id":"web-01",'
        b'"from":"Soaking","to":"Converged","at":"2026-05-16T01:00:00Z"}'
    )

    assert encode_rollout_event(event) == text
    assert decode_rollout_event(text) == event


def test_encoding_a_clearance_writes_the_excused_hosts_in_order() -> None:
    """The same clearance is the same bytes, whatever the order of its set."""
    event = OperatorClearance(ROLLOUT, "alice", "disk", frozenset({"web-02", "db-01"}), AT)

    assert b'"excused_hosts":["db-01","web-02"]' in encode_rollout_event(event)


def test_a_plan_action_is_tagged_with_its_kind() -> None:
    """A decision says what it is, and its gate by the name that the wire has for it."""
    action = DeferDispatch("web-01", ROLLOUT, Gate.HOST_EDGE, "waits for db-01")
    text = (
        b'{"kind":"DeferDispatch","host":"web-01","rollout_id":"stable@a1b2",'
        b'"gate":"host-edge","reason":"waits for db-01"}'
    )

    assert encode_plan_action(action) == text
    assert decode_plan_action(text) == action


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "$: expected JSON"),
        (PENDING_TEXT[:-1], "$: expected JSON"),
        (PENDING_TEXT.replace(b"Pending", b"Done"), "$.state: expected one of 'Pending', "),
        (PENDING_TEXT.replace(b"stable@", b"@"), "$.rollout_id: expected a rollout id"),
        (PENDING_TEXT.replace(b'"hostname"', b'"host"'), "$.hostname: expected a string"),
    ],
)
def test_decoding_a_damaged_host_record_is_refused(text: bytes, problem: str) -> None:
    """Damage to a row is reported with the path to it."""
    with pytest.raises(DecodeError) as refusal:
        decode_host_record(text)

    assert str(refusal.value).startswith(f"not a valid host record: {problem}")


def test_decoding_a_record_from_before_standings_excuses_the_same_hosts() -> None:
    """The hosts that it lists as excused are excused, and nobody else has a standing."""
    text = encode_rollout_record(RECORD)[:-1] + b',"excused_hosts":["web-02","db-01"]}'

    assert decode_rollout_record(text) == RECORD.with_standings(
        ["web-02", "db-01"], Standing.EXCUSED
    )


def test_decoding_a_damaged_rollout_record_names_every_problem() -> None:
    """A retention that is no count and hosts that are no names are both reported."""
    text = encode_rollout_record(RECORD)[:-1] + b',"retention":"72h","excused_hosts":["a",1]}'

    with pytest.raises(DecodeError) as refusal:
        decode_rollout_record(text)

    assert refusal.value.problems == (
        DecodeProblem("$.retention", "an integer", '"72h"'),
        DecodeProblem("$.standings", "an object", "a list"),
    )
