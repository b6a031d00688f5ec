"""Warrants as bytes. What is signed is the canonical JSON of the warrant, `kind` included.

Source: docs/spec/warrants.md, Warrants.
"""

from typing import Final

from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.steering.warrant import SignedWarrant, Warrant


def warrant_payload(warrant: Warrant) -> bytes:
    """Return the bytes that the signature of `warrant` covers."""
    return _WARRANT.encode_canonical(warrant)


def decode_warrant(data: bytes) -> Warrant:
    """Return the order that `data` holds, without its signature. Raises: DecodeError."""
    return _WARRANT.decode(data)


def encode_signed_warrant(signed: SignedWarrant) -> bytes:
    """Return a warrant with its signature, as canonical bytes."""
    return SIGNED_WARRANT.encode_canonical(signed)


def decode_signed_warrant(data: bytes) -> SignedWarrant:
    """Return the warrant that `data` holds. Raises: DecodeError."""
    return SIGNED_WARRANT.decode(data)


_WARRANT = Coder[Warrant](ARTEFACT_SPELLING, Warrant, "warrant")
SIGNED_WARRANT: Final = Coder[SignedWarrant](ARTEFACT_SPELLING, SignedWarrant, "signed warrant")
