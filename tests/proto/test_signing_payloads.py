"""What hosts sign: envelopes and batches."""

from datetime import UTC, datetime

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.codec import (
    EventBatch,
    decode_envelope,
    decode_event_batch,
    encode_envelope,
    encode_event_batch,
    envelope_payload,
)
from nixfleet_proto.signing import (
    BadSignature,
    MalformedKey,
    MalformedSignature,
    NotSigned,
    SigningKey,
    sign_batch,
    sign_envelope,
    sign_payload,
    verify_batch,
    verify_envelope,
    verify_payload,
)
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import AgentEventEnvelope

AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
HOST, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2))
ENVELOPE = AgentEventEnvelope("web-01", "stable@a1b2", DispatchAck("closure-1", AT, seq=1))
BATCH = EventBatch((ENVELOPE, evolve(ENVELOPE, event=DispatchAck("closure-1", AT, seq=2))))


def test_a_signed_envelope_is_verified_after_its_journey() -> None:
    """The signature of an envelope survives being written and read."""
    signed = sign_envelope(ENVELOPE, HOST)

    received = decode_envelope(encode_envelope(signed))

    assert received.signature == HOST.sign(envelope_payload(ENVELOPE)).hex()
    verify_envelope(received, HOST.public_key)


@pytest.mark.parametrize(
    "changed",
    [
        evolve(ENVELOPE, hostname="web-02"),
        evolve(ENVELOPE, rollout_id="stable@c3d4"),
        evolve(ENVELOPE, event=DispatchAck("closure-1", AT, seq=2)),
    ],
)
def test_a_signature_moved_to_another_envelope_is_refused(changed: AgentEventEnvelope) -> None:
    """Host, rollout and event are all under the signature."""
    moved = evolve(changed, signature=sign_envelope(ENVELOPE, HOST).signature)

    with pytest.raises(BadSignature):
        verify_envelope(moved, HOST.public_key)


def test_an_envelope_signed_by_another_host_is_refused() -> None:
    """A host cannot speak for another one."""
    with pytest.raises(BadSignature) as refusal:
        verify_envelope(sign_envelope(ENVELOPE, STRANGER), HOST.public_key)

    assert refusal.value.tried == (HOST.public_key.public_key,)


def test_an_envelope_without_a_signature_is_refused_as_not_signed() -> None:
    """A missing signature is told from a bad one."""
    with pytest.raises(NotSigned):
        verify_envelope(ENVELOPE, HOST.public_key)


@pytest.mark.parametrize("signature", ["", "00", "AB" * 64, "xy" * 64, " " + "ab" * 64])
def test_a_signature_that_is_not_hex_of_its_length_is_refused_as_malformed(signature: str) -> None:
    """A signature has one spelling, so that the log has one too."""
    with pytest.raises(MalformedSignature, match="128 lower-case hexadecimal digits"):
        verify_payload(b"payload", signature, HOST.public_key)


def test_a_host_key_that_is_no_key_is_refused_as_malformed() -> None:
    """A broken record of a host's key is reported as that."""
    with pytest.raises(MalformedKey):
        verify_payload(b"payload", sign_payload(b"payload", HOST), TrustedKey("00"))


def test_a_signed_batch_is_verified_after_its_journey() -> None:
    """One signature stands for all events of a batch."""
    received = decode_event_batch(encode_event_batch(sign_batch(BATCH, HOST)))

    verify_batch(received, HOST.public_key)


def test_a_batch_with_an_event_left_out_or_moved_is_refused() -> None:
    """Which events are in a batch, and in which order, is under its signature."""
    signed = sign_batch(BATCH, HOST)

    for events in (BATCH.events[:1], BATCH.events[::-1]):
        with pytest.raises(BadSignature):
            verify_batch(evolve(signed, events=events), HOST.public_key)
