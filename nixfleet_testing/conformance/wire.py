"""Event envelopes against recorded bytes: what was written, and what was taken or refused from outside.

A codec is an argument like any other function under test; no codec is imported here.
"""

from collections.abc import Callable, Iterator

from attrs import frozen

from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_state_machine.host.event import Event
from nixfleet_testing.conformance.answer import (
    JsonObject,
    Mismatch,
    Run,
    value_mismatches,
)
from nixfleet_testing.conformance.reference_json import (
    id_at,
    object_at,
    read_at,
    read_event,
    text_at,
    to_json_object,
    value_at,
)
from nixfleet_testing.conformance.unreadable import within

REFUSED = "refused"


@frozen
class WireCodec:
    """What is tested. `decode` raises `refusal` for bytes that are not an envelope."""

    encode: Callable[[AgentEventEnvelope], bytes]
    decode: Callable[[bytes], AgentEventEnvelope]
    refusal: type[Exception]


@frozen
class WireVector:
    """An envelope and the exact bytes that were written for it."""

    id: str
    envelope: AgentEventEnvelope
    wire: bytes


@frozen
class WireParseVector:
    """Bytes from outside, and the envelope that was read from them; `None` when they were refused."""

    id: str
    wire: bytes
    envelope: AgentEventEnvelope | None
    rewritten: bytes | None


def check_wire(vector: WireVector, codec: WireCodec) -> Run:
    """Decode and encode, once each: two steps."""
    mismatches = (
        *_decoded_mismatches(vector.envelope, vector.wire, codec),
        *_encoded_mismatches(vector.wire, vector.envelope, codec),
    )
    return Run.of(vector.id, 2, None, mismatches)


def check_wire_parse(vector: WireParseVector, codec: WireCodec) -> Run:
    """Decode, and encode again what was accepted: two steps, or one."""
    mismatches = tuple(_decoded_mismatches(vector.envelope, vector.wire, codec))
    if vector.envelope is None or vector.rewritten is None:
        return Run.of(vector.id, 1, None, mismatches)
    rewritten = tuple(_encoded_mismatches(vector.rewritten, vector.envelope, codec))
    return Run.of(vector.id, 2, None, (*mismatches, *rewritten))


def read_wire_vector(row: JsonObject) -> WireVector:
    """Return the envelope in `row`, of `wire_vectors`. Raises: ValueError."""
    event = read_at(row, "remote_event", read_event)
    return WireVector(
        id=id_at(row),
        envelope=read_at(row, "value", lambda value: _envelope(value, event)),
        wire=text_at(row, "wire").encode(),
    )


def read_wire_parse_vector(row: JsonObject) -> WireParseVector:
    """Return the text in `row`, of `wire_parse_vectors`. Raises: ValueError."""
    name, wire, result = text_at(row, "case"), text_at(row, "wire"), object_at(row, "result")
    if "err" in result:
        return WireParseVector(name, wire.encode(), None, None)
    with within("result"):
        envelope, rewritten = read_at(result, "ok", _accepted)
    return WireParseVector(name, wire.encode(), envelope, rewritten)


def _accepted(json: JsonObject) -> tuple[AgentEventEnvelope, bytes]:
    event = read_at(json, "remote_event", read_event)
    return _envelope(json, event), text_at(json, "reserialized").encode()


def _envelope(json: JsonObject, event: Event) -> AgentEventEnvelope:
    return AgentEventEnvelope(
        hostname=text_at(json, "hostname"),
        rollout_id=text_at(json, "rollout_id"),
        event=event.fact,
        signature=None if value_at(json, "signature") is None else text_at(json, "signature"),
    )


def _decoded_mismatches(
    expected: AgentEventEnvelope | None, wire: bytes, codec: WireCodec
) -> Iterator[Mismatch]:
    try:
        found = codec.decode(wire)
    except codec.refusal as refusal:
        if expected is not None:
            yield Mismatch("envelope", str(expected), f"{REFUSED}: {refusal}")
        return
    if expected is None:
        yield Mismatch("envelope", REFUSED, str(found))
    elif found != expected:
        yield from value_mismatches(to_json_object(expected), to_json_object(found), "envelope")


def _encoded_mismatches(
    expected: bytes, envelope: AgentEventEnvelope, codec: WireCodec
) -> Iterator[Mismatch]:
    found = codec.encode(envelope)
    if found != expected:
        yield Mismatch("wire", expected.decode(), found.decode(errors="replace"))
