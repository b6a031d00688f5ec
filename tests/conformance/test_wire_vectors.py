"""Our codec writes and reads envelopes as recorded, byte for byte."""

from collections import Counter

import pytest
from attrs import evolve

from nixfleet_proto.codec import DecodeError, decode_envelope, encode_envelope
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_testing.conformance.wire import (
    WireCodec,
    check_wire,
    check_wire_parse,
    read_wire_parse_vector,
    read_wire_vector,
)
from tests.conformance.recorded import differences, recorded

OURS = WireCodec(encode_envelope, decode_envelope, DecodeError)


def test_running_the_recorded_envelopes_gives_the_recorded_bytes_and_values() -> None:
    """All 201 envelopes are read as recorded and written back to the same bytes."""
    runs = [check_wire(vector, OURS) for vector in recorded("wire_vectors", read_wire_vector)]

    assert differences(runs) == []
    assert len(runs) == 201


def test_running_the_recorded_parses_accepts_and_refuses_the_same() -> None:
    """All 45 texts from outside are taken, with the recorded value, or refused, as recorded."""
    vectors = recorded("wire_parse_vectors", read_wire_parse_vector)

    assert differences(check_wire_parse(vector, OURS) for vector in vectors) == []
    assert Counter(vector.envelope is None for vector in vectors) == {True: 25, False: 20}


def _drops_the_signature(envelope: AgentEventEnvelope) -> bytes:
    return encode_envelope(evolve(envelope, signature=None))


def _forgets_the_signature(data: bytes) -> AgentEventEnvelope:
    return evolve(decode_envelope(data), signature=None)


def _refuses_everything(data: bytes) -> AgentEventEnvelope:
    raise DecodeError("envelope", ())


@pytest.mark.parametrize(
    ("codec", "path"),
    [
        (evolve(OURS, encode=_drops_the_signature), "wire"),
        (evolve(OURS, decode=_forgets_the_signature), "envelope.signature"),
        (evolve(OURS, decode=_refuses_everything), "envelope"),
    ],
)
def test_running_the_vectors_against_a_wrong_codec_names_what_is_wrong(
    codec: WireCodec, path: str
) -> None:
    """A codec with a defect is told apart from the recorded one, at what it gets wrong."""
    vectors = recorded("wire_vectors", read_wire_vector)

    assert {found.path for found in differences(check_wire(v, codec) for v in vectors)} == {path}


def test_running_the_parses_against_a_lax_codec_names_what_it_should_have_refused() -> None:
    """A codec that takes what was refused is told apart."""

    def takes_everything(data: bytes) -> AgentEventEnvelope:
        try:
            return decode_envelope(data)
        except DecodeError:
            return known

    vectors = recorded("wire_parse_vectors", read_wire_parse_vector)
    known = decode_envelope(vectors[0].wire)
    lax = evolve(OURS, decode=takes_everything)
    refused = {vector.id for vector in vectors if vector.envelope is None}

    found = differences(check_wire_parse(vector, lax) for vector in vectors)
    assert {difference.vector_id for difference in found} == refused
