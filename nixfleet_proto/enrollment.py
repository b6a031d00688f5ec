"""Enrollment: tokens, the list of valid nonces, and revocations. Frozen data.

Source: docs/spec/trust.md, Enrollment; docs/spec/trust.md, Revocations.
"""

from datetime import datetime

from attrs import frozen

from nixfleet_proto.checked import checked
from nixfleet_proto.fleet import SCHEMA_VERSION, Meta


@frozen
@checked
class BootstrapToken:
    """Signed by the org root key: `hostname` may enroll once, with the key of this fingerprint.

    expected_pubkey_fingerprint: SHA-256 of the 32 bytes of the public key, in hex.
    """

    hostname: str
    expected_pubkey_fingerprint: str
    issued_at: datetime
    expires_at: datetime
    nonce: str


@frozen
@checked
class SignedToken:
    """A token and the org root key's signature over its canonical JSON, in hex."""

    token: BootstrapToken
    signature: str


@frozen
@checked
class EnrollRequest:
    """A host's request to be enrolled with `public_key` (hex), which signs the request that carries this."""

    token: SignedToken
    public_key: str


@frozen
@checked
class BootstrapNonce:
    """A nonce that a token may use, for one host, until it expires."""

    nonce: str
    hostname: str
    expires_at: datetime


@frozen
@checked
class BootstrapNonces:
    """The artefact `bootstrap-nonces.json`: every valid nonce, sorted by nonce."""

    nonces: tuple[BootstrapNonce, ...]
    meta: Meta
    schema_version: int = SCHEMA_VERSION


@frozen
@checked
class Revocation:
    """Keys of `hostname` that were enrolled before `not_before` are refused."""

    hostname: str
    not_before: datetime
    reason: str | None = None


@frozen
@checked
class Revocations:
    """The artefact `revocations.json`, sorted by host name."""

    revocations: tuple[Revocation, ...]
    meta: Meta
    schema_version: int = SCHEMA_VERSION
