"""Enrollment as bytes: tokens, enrollment requests, the list of nonces, revocations.

Tokens and requests are messages. The other two are artefacts and written as such.
Source: docs/spec/wire.md, POST /v1/enroll; docs/spec/trust.md, Enrollment; docs/spec/trust.md, Revocations.
"""

from typing import Final

from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.enrollment import (
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocations,
    SignedToken,
)
from nixfleet_proto.json_value import JsonValue


def token_payload(token: BootstrapToken) -> bytes:
    """Return the bytes that the signature of `token` covers: its canonical JSON."""
    return _TOKEN.encode_canonical(token)


def encode_signed_token(signed: SignedToken) -> bytes:
    """Return the content of a token file, as canonical bytes."""
    return _SIGNED_TOKEN.encode_canonical(signed)


def decode_signed_token(data: bytes) -> SignedToken:
    """Return the token that a token file holds. Raises: DecodeError."""
    return _SIGNED_TOKEN.decode(data)


def encode_enroll_request(request: EnrollRequest) -> bytes:
    """Return the body of `POST /v1/enroll`."""
    return ENROLL_REQUEST.encode(request)


def decode_enroll_request(data: bytes) -> EnrollRequest:
    """Return the request that `data` holds. Raises: DecodeError."""
    return ENROLL_REQUEST.decode(data)


def encode_bootstrap_nonces(nonces: BootstrapNonces) -> bytes:
    """Return the canonical bytes of `bootstrap-nonces.json`."""
    return _NONCES.encode_canonical(nonces)


def decode_bootstrap_nonces(data: bytes) -> BootstrapNonces:
    """Return the nonces that `data` holds. Raises: DecodeError."""
    return _NONCES.decode(data)


def bootstrap_nonces_of(artefact: JsonValue) -> BootstrapNonces:
    """As `decode_bootstrap_nonces`, from parsed JSON. Raises: DecodeError."""
    return _NONCES.of_json(artefact)


def encode_revocations(revocations: Revocations) -> bytes:
    """Return the canonical bytes of `revocations.json`."""
    return _REVOCATIONS.encode_canonical(revocations)


def decode_revocations(data: bytes) -> Revocations:
    """Return the revocations that `data` holds. Raises: DecodeError."""
    return _REVOCATIONS.decode(data)


def revocations_of(artefact: JsonValue) -> Revocations:
    """As `decode_revocations`, from parsed JSON. Raises: DecodeError."""
    return _REVOCATIONS.of_json(artefact)


_TOKEN = Coder[BootstrapToken](ARTEFACT_SPELLING, BootstrapToken, "bootstrap token")
_SIGNED_TOKEN = Coder[SignedToken](ARTEFACT_SPELLING, SignedToken, "bootstrap token file")
ENROLL_REQUEST: Final = Coder[EnrollRequest](ARTEFACT_SPELLING, EnrollRequest, "enrollment request")
_NONCES = Coder[BootstrapNonces](ARTEFACT_SPELLING, BootstrapNonces, "list of bootstrap nonces")
_REVOCATIONS = Coder[Revocations](ARTEFACT_SPELLING, Revocations, "list of revocations")
