"""What the OpenAPI document says of a body is what the codec reads: one way, other ways, and when it is spoilt."""

import json
from typing import Any

import jsonschema_rs
import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from nixfleet_control_plane.http.app import ALL_CALLS
from nixfleet_control_plane.http.openapi import openapi_document
from nixfleet_proto.codec import DecodeError, encode_envelope, encode_event_batch
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.codec.wire import ENVELOPE
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.http.bodies import HEARTBEAT
from nixfleet_runtime.http.commands import CLEARANCE, ClearanceBody
from property_tests.spoiling import SPOILS, spoiled

DOCUMENT = orjson.loads(openapi_document(ALL_CALLS))


def validator(name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**DOCUMENT, "$ref": f"#/components/schemas/{name}"})


ENVELOPES, BATCHES, HEARTBEATS, CLEARANCES = map(
    validator, ("AgentEventEnvelope", "EventBatch", "Heartbeat", "ClearanceBody")
)


@given(st.from_type(AgentEventEnvelope))
def test_every_envelope_is_as_the_document_says(envelope: AgentEventEnvelope) -> None:
    """All kinds of facts, with and without their options."""
    assert ENVELOPES.is_valid(orjson.loads(encode_envelope(envelope)))


@given(st.lists(st.from_type(AgentEventEnvelope), max_size=4))
def test_a_batch_is_as_the_document_says_unless_it_is_empty(
    envelopes: list[AgentEventEnvelope],
) -> None:
    """1 to 256 events."""
    batch = orjson.loads(encode_event_batch(EventBatch(tuple(envelopes))))
    assert BATCHES.is_valid(batch) == bool(envelopes)


@given(st.from_type(AgentEventEnvelope), st.data())
def test_an_envelope_that_is_spoilt_is_refused_by_both_or_by_neither(
    envelope: AgentEventEnvelope, data: st.DataObject
) -> None:
    """Whichever field has something else in it, or nothing."""
    spoilt = data.draw(spoiled(orjson.loads(encode_envelope(envelope))))
    assume(not isinstance(spoilt, list))  # the old spelling, which is not offered
    assert_agree(ENVELOPES, ENVELOPE, spoilt)


@given(
    st.recursive(
        SPOILS,
        lambda inner: st.dictionaries(
            st.sampled_from(["hostname", "currentClosure", "lastSeqs", "a@b"]), inner
        ),
    )
)
def test_a_heartbeat_is_refused_by_both_or_by_neither(body: JsonValue) -> None:
    """Rollout ids are names in an object there."""
    assert_agree(HEARTBEATS, HEARTBEAT, body)


@given(st.from_type(ClearanceBody), st.data())
def test_a_command_that_is_spoilt_is_refused_by_both_or_by_neither(
    body: ClearanceBody, data: st.DataObject
) -> None:
    """What has a default may be left out."""
    assert_agree(CLEARANCES, CLEARANCE, data.draw(spoiled(CLEARANCE.to_json(body))))


def assert_agree(schema: jsonschema_rs.Validator, coder: Coder[Any], value: JsonValue) -> None:
    reads = True
    try:
        coder.decode(json.dumps(value).encode())
    except DecodeError:
        reads = False
    assert reads == schema.is_valid(value), list(map(str, schema.iter_errors(value)))
