"""Seals and opens secrets. No file access; randomness is from libsodium.

    content key ── sealed to each recipient's X25519 key (SealedBox)
         └─────── XChaCha20-Poly1305 over the secret; everything else is authenticated, not encrypted

So only someone who can open a sealed secret can change any byte of it, including the list of recipients. The hash of
the
content key is authenticated too, so a sealed secret opens to the same plaintext for every recipient. The sealer is not
authenticated.
Source: docs/spec/trust.md, Secrets.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import nacl.exceptions
import nacl.utils
from attrs import frozen
from nacl.secret import Aead

from nixfleet_proto.codec import canonical_bytes
from nixfleet_proto.signing import SigningKey, seal_to
from nixfleet_proto.trust import TrustedKey
from nixfleet_secrets.errors import NoRecipients, NotARecipient, SecretTooLong, TamperedSecret

FORMAT: Final = "nixfleet-sealed-secret"
VERSION: Final = 1
SECRET_BYTES_MAX: Final = 1024 * 1024

_COMMITMENT_PREFIX: Final = b"nixfleet sealed secret 1: content key\0"


@frozen
class Recipient:
    """A recipient: the public key, and the content key sealed to it. In hex."""

    public_key: str
    sealed_key: str


@frozen
class SealedSecret:
    """A secret that any of its recipients can open. recipients: sorted by public key. Hash and ciphertext are in
    hex.
    """

    recipients: tuple[Recipient, ...]
    content_key_hash: str
    ciphertext: str
    format: str = FORMAT
    version: int = VERSION

    @property
    def public_keys(self) -> tuple[str, ...]:
        """The public keys of the recipients."""
        return tuple(recipient.public_key for recipient in self.recipients)


def seal_secret(secret: bytes, recipients: Iterable[TrustedKey]) -> SealedSecret:
    """Return `secret` sealed to `recipients`. Not deterministic: each call gives different bytes.

    Raises: NoRecipients, SecretTooLong, MalformedKey, UnsupportedAlgorithm.
    """
    keys = sorted(set(recipients), key=lambda key: key.public_key)
    if not keys:
        raise NoRecipients
    if len(secret) > SECRET_BYTES_MAX:
        raise SecretTooLong(SECRET_BYTES_MAX)
    content_key = nacl.utils.random(Aead.KEY_SIZE)
    sealed_to = tuple(Recipient(key.public_key, seal_to(key, content_key).hex()) for key in keys)
    commitment = _commitment_to(content_key)
    ciphertext = Aead(content_key).encrypt(secret, _authenticated(sealed_to, commitment))
    return SealedSecret(sealed_to, commitment, bytes(ciphertext).hex())


def open_secret(sealed: SealedSecret, key: SigningKey) -> bytes:
    """Return the plaintext of a secret that is sealed to the public key of `key`.

    Raises: NotARecipient, TamperedSecret.
    """
    own = key.public_key.public_key
    sealed_key = next(
        (each.sealed_key for each in sealed.recipients if each.public_key == own), None
    )
    if sealed_key is None:
        raise NotARecipient(own, sealed.public_keys)
    content_key = key.unseal(bytes.fromhex(sealed_key))
    if content_key is None or len(content_key) != Aead.KEY_SIZE:
        raise TamperedSecret("the content key")
    if not hmac.compare_digest(_commitment_to(content_key), sealed.content_key_hash):
        raise TamperedSecret("the hash of the content key")
    header = _authenticated(sealed.recipients, sealed.content_key_hash)
    try:
        return Aead(content_key).decrypt(bytes.fromhex(sealed.ciphertext), header)
    except (nacl.exceptions.CryptoError, nacl.exceptions.ValueError) as error:
        raise TamperedSecret("the list of recipients or the ciphertext") from error


def reseal_secret(
    sealed: SealedSecret, key: SigningKey, recipients: Iterable[TrustedKey]
) -> SealedSecret:
    """Return the same secret sealed to `recipients` with a new content key, unknown to earlier recipients.

    Raises: as `open_secret` and `seal_secret`.
    """
    return seal_secret(open_secret(sealed, key), recipients)


def _commitment_to(content_key: bytes) -> str:
    return hashlib.sha256(_COMMITMENT_PREFIX + content_key).hexdigest()


def _authenticated(recipients: tuple[Recipient, ...], content_key_hash: str) -> bytes:
    return canonical_bytes(
        {
            "contentKeyHash": content_key_hash,
            "format": FORMAT,
            "recipients": [[each.public_key, each.sealed_key] for each in recipients],
            "version": VERSION,
        }
    )
