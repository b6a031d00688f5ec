"""How NATS writes ed25519 keys, and what it asks to be signed. Pure; the keys themselves are nixfleet's.

A key is a byte that says whose it is, 32 bytes, and a CRC-16, in base32 without padding.
Source: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
"""

import base64
import binascii
import re
from enum import IntEnum
from typing import Final

from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import Signer
from nixfleet_proto.signing.key import public_key_bytes
from nixfleet_proto.trust import TrustedKey

_NKEY: Final = re.compile(r"[A-Z2-7]{56}")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{11,64}")


class Owner(IntEnum):
    """Whose key it is: the first byte, which makes the first letter."""

    ACCOUNT = 0 << 3  # A
    SERVER = 13 << 3  # N
    USER = 20 << 3  # U


class NonceRefused(NixfleetError):
    """A server asks for a signature over something that is no nonce. Nothing was signed. Attribute: `length`."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def __str__(self) -> str:
        return (
            "the server asks for a signature over something that is no nonce: expected 11 to 64 letters, digits, "
            f"'-' and '_', found {self.length} characters of another form; do not trust this server"
        )


def nkey_of(key: TrustedKey, owner: Owner) -> str:
    """Return `key` as NATS writes it. Raises: MalformedKey."""
    data = bytes([owner]) + public_key_bytes(key)
    return base64.b32encode(data + _checksum(data)).decode().rstrip("=")


def key_of(nkey: str, owner: Owner) -> TrustedKey | None:
    """Return the key in `nkey`; `None` if it is none, or not of this kind of owner."""
    if not _NKEY.fullmatch(nkey):
        return None
    data = base64.b32decode(nkey)
    if data[0] != owner or data[33:] != _checksum(data[:33]):
        return None
    return TrustedKey(data[1:33].hex())


def signed_nonce(nonce: str, key: Signer) -> bytes:
    """Return the signature by which a server knows the owner of `key`, in base64url.

    The same key signs facts and requests, so nothing is signed here that could be one of them: those have braces or
    line ends, and a token of NATS has dots. Raises: NonceRefused.
    """
    if not _NONCE.fullmatch(nonce):
        raise NonceRefused(len(nonce))
    return base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(b"=")


def is_nonce(text: str) -> bool:
    """Return whether `text` may be signed as a nonce."""
    return _NONCE.fullmatch(text) is not None


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
