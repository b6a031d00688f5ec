"""Signatures of hosts, over each event envelope or a batch as a whole, so that the log proves the origin of each fact.

A signature covers the canonical form of the message as it was sent, which `codec.receive_envelope` returns to the
receiver. A log keeps the fact, not the received text.
Source: docs/spec/trust.md, Event signatures.
"""

import re

from attrs import evolve

from nixfleet_proto.codec.wire import batch_payload, envelope_payload
from nixfleet_proto.signing.key import SIGNATURE_LENGTH, SigningKey, is_signed_by
from nixfleet_proto.signing.refusal import BadSignature, MalformedSignature, NotSigned
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch

_HEX_SIGNATURE = re.compile(r"[0-9a-f]{128}")


def sign_envelope(envelope: AgentEventEnvelope, key: SigningKey) -> AgentEventEnvelope:
    """Return `envelope` with the signature of its `{hostname, rolloutId, event}`."""
    return evolve(envelope, signature=sign_payload(envelope_payload(envelope), key))


def verify_envelope(envelope: AgentEventEnvelope, key: TrustedKey) -> None:
    """Return if `key` signed `envelope`. Raises: as `verify_payload`."""
    verify_payload(envelope_payload(envelope), envelope.signature, key)


def sign_batch(batch: EventBatch, key: SigningKey) -> EventBatch:
    """Return `batch` with one signature over the whole."""
    return evolve(batch, signature=sign_payload(batch_payload(batch), key))


def verify_batch(batch: EventBatch, key: TrustedKey) -> None:
    """Return if `key` signed `batch` as a whole. Raises: as `verify_payload`."""
    verify_payload(batch_payload(batch), batch.signature, key)


def sign_payload(payload: bytes, key: SigningKey) -> str:
    """Return the signature of canonical bytes, in hex."""
    return key.sign(payload).hex()


def verify_payload(payload: bytes, signature: str | None, key: TrustedKey) -> None:
    """Return if `signature`, in hex, is `key`'s for canonical bytes.

    Raises: NotSigned, MalformedSignature, MalformedKey, UnsupportedAlgorithm, BadSignature.
    """
    if signature is None:
        raise NotSigned("signature")
    if not is_signed_by(key, payload, signature_bytes(signature)):
        raise BadSignature((key.public_key,))


def signature_bytes(signature: str) -> bytes:
    """Return the bytes of a signature in a message, which is in hex. Raises: MalformedSignature."""
    if not _HEX_SIGNATURE.fullmatch(signature):
        expected = f"{2 * SIGNATURE_LENGTH} lower-case hexadecimal digits"
        raise MalformedSignature(expected, f"{signature[:16]!r}… of length {len(signature)}")
    return bytes.fromhex(signature)
