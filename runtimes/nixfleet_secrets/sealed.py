"""Sealing and opening. Touches no file; takes chance from libsodium.

    content key ── sealed to each recipient's X25519 key (SealedBox)
         └─────── XChaCha20-Poly1305 over the secret; with it goes, unencrypted but authenticated, all else

So whoever cannot open a sealed secret cannot change a byte of it either, its recipients included. The hash of the
content key is among what is authenticated: no sealer can make a file that opens to one secret for one recipient and
to another for the next. Who sealed it is not proven.
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
    """Somebody who can open it: the public key, and the content key sealed to it. In hex."""

    public_key: str
    sealed_key: str


@frozen
class SealedSecret:
    """A secret that any of its recipients can open. recipients: sorted by public key. All but `version` in hex."""

    recipients: tuple[Recipient, ...]
    content_key_hash: str
    ciphertext: str
    format: str = FORMAT
    version: int = VERSION

    @property
    def public_keys(self) -> tuple[str, ...]:
        """The public keys of those who can open it."""
        return tuple(it.public_key for it in self.recipients)


def seal_secret(secret: bytes, recipients: Iterable[TrustedKey]) -> SealedSecret:
    """Return `secret` so that any of `recipients` can open it. Each call gives other bytes.

    Raises: NoRecipients, SecretTooLong, MalformedKey, UnsupportedAlgorithm.
    """
    keys = sorted(set(recipients), key=lambda it: it.public_key)
    if not keys:
        raise NoRecipients
    if len(secret) > SECRET_BYTES_MAX:
        raise SecretTooLong(SECRET_BYTES_MAX)
    content_key = nacl.utils.random(Aead.KEY_SIZE)
    sealed_to = tuple(Recipient(it.public_key, seal_to(it, content_key).hex()) for it in keys)
    commitment = _commitment_to(content_key)
    ciphertext = Aead(content_key).encrypt(secret, _authenticated(sealed_to, commitment))
    return SealedSecret(sealed_to, commitment, bytes(ciphertext).hex())


def open_secret(sealed: SealedSecret, key: SigningKey) -> bytes:
    """Return the secret, if it was sealed to the public half of `key`.

    Raises: NotARecipient, TamperedSecret.
    """
    own = key.public_key.public_key
    sealed_key = next((it.sealed_key for it in sealed.recipients if it.public_key == own), None)
    if sealed_key is None:
        raise NotARecipient(own, sealed.public_keys)
    content_key = key.unseal(bytes.fromhex(sealed_key))
    if content_key is None or len(content_key) != Aead.KEY_SIZE:
        raise TamperedSecret("the key that was sealed to you")
    if not hmac.compare_digest(_commitment_to(content_key), sealed.content_key_hash):
        raise TamperedSecret("the hash of the content key")
    header = _authenticated(sealed.recipients, sealed.content_key_hash)
    try:
        return Aead(content_key).decrypt(bytes.fromhex(sealed.ciphertext), header)
    except (nacl.exceptions.CryptoError, nacl.exceptions.ValueError) as error:
        raise TamperedSecret("the list of recipients, or the secret itself") from error


def reseal_secret(
    sealed: SealedSecret, key: SigningKey, recipients: Iterable[TrustedKey]
) -> SealedSecret:
    """Return the same secret for other recipients, under a content key that earlier ones never had.

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
            "recipients": [[it.public_key, it.sealed_key] for it in recipients],
            "version": VERSION,
        }
    )
