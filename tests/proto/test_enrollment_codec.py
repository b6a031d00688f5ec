"""Tokens, enrollment requests, the list of nonces and revocations as bytes."""

import json
from datetime import UTC, datetime

import pytest

from nixfleet_proto.codec import (
    DecodeError,
    DecodeProblem,
    decode_bootstrap_nonces,
    decode_enroll_request,
    decode_revocations,
    decode_signed_token,
    encode_bootstrap_nonces,
    encode_enroll_request,
    encode_revocations,
    encode_signed_token,
    token_payload,
)
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.fleet import Meta

AT = datetime(2026, 5, 16, 12, tzinfo=UTC)
LATER = datetime(2026, 5, 17, 12, tzinfo=UTC)
TOKEN = BootstrapToken("web-01", "ab" * 32, AT, LATER, "n-1")
TOKEN_TEXT = (
    b'{"expectedPubkeyFingerprint":"' + b"ab" * 32 + b'","expiresAt":"2026-05-17T12:00:00Z",'
    b'"hostname":"web-01","issuedAt":"2026-05-16T12:00:00Z","nonce":"n-1"}'
)
META_TEXT = (
    b'"meta":{"ciCommit":"abc","schemaVersion":1,"signatureAlgorithm":"ed25519",'
    b'"signedAt":"2026-05-16T12:00:00Z"}'
)


def test_the_payload_of_a_token_is_its_canonical_json() -> None:
    """What is signed of a token has its names in order and nothing between them."""
    assert token_payload(TOKEN) == TOKEN_TEXT


def test_a_signed_token_is_written_and_read_with_its_signature_beside_it() -> None:
    """A token file holds the token and the signature, and comes back as it was."""
    signed = SignedToken(TOKEN, "cd" * 64)

    text = encode_signed_token(signed)

    assert text == b'{"signature":"' + b"cd" * 64 + b'","token":' + TOKEN_TEXT + b"}"
    assert decode_signed_token(text) == signed


def test_an_enrollment_request_is_written_and_read_with_its_public_key() -> None:
    """The body of an enrollment carries the signed token and the key in hex."""
    request = EnrollRequest(SignedToken(TOKEN, "cd" * 64), "ef" * 32)

    text = encode_enroll_request(request)

    assert set(json.loads(text)) == {"token", "publicKey"}
    assert decode_enroll_request(text) == request


def test_the_list_of_nonces_is_written_and_read_as_a_canonical_artefact() -> None:
    """`bootstrap-nonces.json` has the shape of every artefact: its content, meta, and schema version."""
    nonces = BootstrapNonces((BootstrapNonce("n-1", "web-01", LATER),), Meta(AT, "abc"))

    text = encode_bootstrap_nonces(nonces)

    assert text == (
        b"{" + META_TEXT + b',"nonces":[{"expiresAt":"2026-05-17T12:00:00Z","hostname":"web-01",'
        b'"nonce":"n-1"}],"schemaVersion":1}'
    )
    assert decode_bootstrap_nonces(text) == nonces


def test_revocations_are_written_and_read_as_a_canonical_artefact() -> None:
    """`revocations.json` says from when on keys are good again, and why if somebody said so."""
    revocations = Revocations(
        (Revocation("web-01", AT), Revocation("web-02", LATER, "stolen")), Meta(AT, "abc")
    )

    text = encode_revocations(revocations)

    assert text == (
        b"{"
        + META_TEXT
        + b',"revocations":[{"hostname":"web-01","notBefore":"2026-05-16T12:00:00Z",'
        b'"reason":null},{"hostname":"web-02","notBefore":"2026-05-17T12:00:00Z","reason":"stolen"}],'
        b'"schemaVersion":1}'
    )
    assert decode_revocations(text) == revocations


def test_a_malformed_enrollment_request_is_refused_with_every_problem() -> None:
    """A token with several faults gets one answer that names them all."""
    text = encode_enroll_request(EnrollRequest(SignedToken(TOKEN, "cd" * 64), "ef" * 32))
    broken = text.replace(b'"2026-05-16T12:00:00Z"', b'"noon"').replace(b'"n-1"', b"1")

    with pytest.raises(DecodeError) as refusal:
        decode_enroll_request(broken)

    assert refusal.value.what == "enrollment request"
    assert refusal.value.problems == (
        DecodeProblem("$.token.token.issuedAt", "an RFC 3339 time", '"noon"'),
        DecodeProblem("$.token.token.nonce", "a string", "1"),
    )
