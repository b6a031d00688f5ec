"""What holds for the bytes of every value: they come back, they are canonical, and damage is noticed."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import attrs
import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import (
    DecodeError,
    EventBatch,
    HealthCheckSet,
    Uncanonical,
    batch_payload,
    canonical_bytes,
    decode_dispatch,
    decode_envelope,
    decode_event,
    decode_event_batch,
    decode_fleet,
    decode_health_checks,
    decode_manifest,
    decode_trust_root,
    encode_dispatch,
    encode_envelope,
    encode_event,
    encode_event_batch,
    encode_fleet,
    encode_health_checks,
    encode_manifest,
    encode_trust_root,
    envelope_payload,
    format_time,
    parse_json,
    parse_time,
)
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.trust import TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
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
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import PlanAction
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.state import RolloutRecord
from property_tests.anything import CANONICAL_INTEGER_MAX, anything, json_values, times

Codec = tuple[Any, Callable[[Any], bytes], Callable[[bytes], Any]]

SENT: tuple[Codec, ...] = (
    (AgentEvent, encode_event, decode_event),
    (AgentEventEnvelope, encode_envelope, decode_envelope),
    (Dispatch, encode_dispatch, decode_dispatch),
)
STORED: tuple[Codec, ...] = (
    (HostRolloutState, encode_host_record, decode_host_record),
    (RolloutRecord, encode_rollout_record, decode_rollout_record),
    (RolloutEvent, encode_rollout_event, decode_rollout_event),
    (PlanAction, encode_plan_action, decode_plan_action),
)
SIGNED: tuple[Codec, ...] = (
    (FleetResolved, encode_fleet, decode_fleet),
    (RolloutManifest, encode_manifest, decode_manifest),
    (TrustRoot, encode_trust_root, decode_trust_root),
    (HealthCheckSet, encode_health_checks, decode_health_checks),
)


def _name(codec: Codec) -> str:
    return codec[1].__name__.removeprefix("encode_")


def _batches() -> st.SearchStrategy[EventBatch]:
    """Batches as agents make them: facts of one host and rollout, in order, with one signature over the whole."""
    facts = st.lists(anything(AgentEvent), min_size=1, max_size=4)
    return st.builds(_batch, st.text(), facts, st.integers(0, 2**63), st.none() | st.text())


def _batch(rollout_id: str, facts: list[Any], seq: int, signature: str | None) -> EventBatch:
    numbered = (attrs.evolve(fact, seq=seq + index) for index, fact in enumerate(facts))
    envelopes = (AgentEventEnvelope("web-01", rollout_id, fact) for fact in numbered)
    return EventBatch(tuple(envelopes), signature)


@pytest.mark.parametrize("codec", [*SENT, *STORED], ids=_name)
@given(data=st.data())
def test_decoding_what_was_encoded_gives_the_same_value(codec: Codec, data: st.DataObject) -> None:
    """Every value that is sent or stored comes back equal, and is written the same again."""
    form, encode, decode = codec
    value = data.draw(anything(form))

    written = encode(value)

    assert decode(written) == value
    assert encode(decode(written)) == written


@pytest.mark.parametrize("codec", SIGNED, ids=_name)
@given(data=st.data())
def test_decoding_an_encoded_artefact_gives_the_same_value_in_canonical_form(
    codec: Codec, data: st.DataObject
) -> None:
    """Every artefact comes back equal, and its bytes are what RFC 8785 makes of them."""
    form, encode, decode = codec
    value = data.draw(anything(form, CANONICAL_INTEGER_MAX))

    written = encode(value)

    assert decode(written) == value
    assert written == rfc8785.dumps(orjson.loads(written))


@given(_batches())
def test_decoding_an_encoded_batch_gives_the_same_batch(batch: EventBatch) -> None:
    """A batch of one host comes back equal."""
    assert decode_event_batch(encode_event_batch(batch)) == batch


@given(times())
def test_parsing_a_written_time_gives_the_same_time_from_the_shortest_text(at: datetime) -> None:
    """A time comes back exactly, from a fraction of 0, 3 or 6 digits that could not be shorter."""
    text = format_time(at)
    fraction = text.removesuffix("Z").partition(".")[2]

    assert parse_time(text) == at
    assert len(fraction) in (0, 3, 6)
    assert not fraction.endswith("000")


@given(anything(AgentEventEnvelope, CANONICAL_INTEGER_MAX))
def test_the_payload_of_an_envelope_is_rfc_8785_without_its_signature(
    envelope: AgentEventEnvelope,
) -> None:
    """Sorted orjson writes what a host signs exactly as RFC 8785 does."""
    spelt = orjson.loads(encode_envelope(envelope))
    spelt.pop("signature", None)

    assert envelope_payload(envelope) == rfc8785.dumps(spelt)
    assert set(spelt) == {"hostname", "rolloutId", "event"}


@given(st.lists(anything(AgentEventEnvelope, CANONICAL_INTEGER_MAX), min_size=1, max_size=3))
def test_the_payload_of_a_batch_is_rfc_8785_of_the_whole(events: list[AgentEventEnvelope]) -> None:
    """Sorted orjson writes what is signed of a batch exactly as RFC 8785 does."""
    batch = EventBatch(tuple(events), signature="00")
    whole = {"events": [orjson.loads(encode_envelope(event)) for event in events]}

    assert batch_payload(batch) == rfc8785.dumps(whole)


@given(json_values())
def test_the_canonical_bytes_of_any_json_are_those_of_rfc_8785(value: JsonValue) -> None:
    """The quick way and the reference agree on every value, names outside ASCII included."""
    plain = orjson.loads(orjson.dumps(value, default=dict))

    assert canonical_bytes(value) == rfc8785.dumps(plain)


@given(json_values(), st.floats() | st.integers(min_value=2**53) | st.integers(max_value=-(2**53)))
def test_a_number_with_no_canonical_form_is_refused_wherever_it_stands(
    value: JsonValue, number: float
) -> None:
    """A float or an integer beyond 2^53 - 1 is refused with the path to it."""
    with pytest.raises(Uncanonical) as refusal:
        canonical_bytes({"beside": value, "number": [number]})

    assert refusal.value.problem.path == "$.number[0]"


@given(json_values(), st.sampled_from((None, 1)), st.sampled_from(((",", ":"), (" , ", " : "))))
def test_json_in_any_layout_is_read_as_the_same_value(
    value: JsonValue, indent: int | None, separators: tuple[str, str]
) -> None:
    """White space and escapes mean nothing."""
    plain = orjson.loads(orjson.dumps(value, default=dict))

    assert parse_json(json.dumps(plain, indent=indent, separators=separators).encode()) == plain


@given(st.dictionaries(st.text(), json_values(), min_size=1), st.data())
def test_a_name_that_comes_twice_is_refused(
    members: dict[str, JsonValue], data: st.DataObject
) -> None:
    """Two equal names in one object are refused, whatever their values."""
    pairs = [(name, orjson.dumps(item, default=dict)) for name, item in members.items()]
    pairs.append(data.draw(st.sampled_from(pairs)))
    text = b",".join(orjson.dumps(name) + b":" + item for name, item in pairs)

    with pytest.raises(DecodeError, match="each name once"):
        parse_json(b"[{" + text + b"}]")


@given(st.binary())
def test_any_bytes_are_an_envelope_or_a_decode_error(data: bytes) -> None:
    """Nothing that comes from outside raises anything else."""
    with pytest.raises(DecodeError):
        decode_envelope(data)


@given(anything(AgentEventEnvelope), st.data())
def test_an_envelope_with_a_byte_changed_is_an_envelope_or_a_decode_error(
    envelope: AgentEventEnvelope, data: st.DataObject
) -> None:
    """Damage is either noticed or leaves an envelope that is whole by itself."""
    written = bytearray(encode_envelope(envelope))
    written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))

    try:
        damaged = decode_envelope(bytes(written))
    except DecodeError:
        return
    assert decode_envelope(encode_envelope(damaged)) == damaged


@given(anything(AgentEventEnvelope), st.data())
def test_an_envelope_with_parts_of_another_type_is_refused_with_all_their_paths(
    envelope: AgentEventEnvelope, data: st.DataObject
) -> None:
    """Every part of a wrong type is named by its path, and no other."""
    spelt = orjson.loads(encode_envelope(envelope))
    names = [name for name in spelt["event"] if name not in ("kind", "failureReason", "subResults")]
    wrong = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    spelt["event"].update({name: {"not": "this"} for name in wrong})

    with pytest.raises(DecodeError) as refusal:
        decode_envelope(orjson.dumps(spelt))

    paths = {problem.path for problem in refusal.value.problems}
    assert paths == {f"$.event.{name}" for name in wrong}
