"""Enrollment: tokens signed by the org root key, the nonces and revocations signed by CI.

A token has no `signedAt` and no window: it carries its own period of validity. No clock: `now` is an
argument.
Source: docs/spec/trust.md, Enrollment; docs/spec/trust.md, Revocations.
"""

import hashlib
from datetime import datetime

from nixfleet_proto.codec.enrollment import bootstrap_nonces_of, revocations_of, token_payload
from nixfleet_proto.enrollment import BootstrapNonces, BootstrapToken, Revocations, SignedToken
from nixfleet_proto.signing.artefact import require_not_compromised, signer_of, verify
from nixfleet_proto.signing.key import SigningKey, public_key_bytes
from nixfleet_proto.signing.payload import sign_payload, signature_bytes
from nixfleet_proto.signing.refusal import (
    CLOCK_SKEW,
    NoOrgRootKey,
    TokenExpired,
    TokenNotYetIssued,
)
from nixfleet_proto.trust import TrustedKey, TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact


def fingerprint_of(key: TrustedKey) -> str:
    """Return the SHA-256 of the 32 bytes of `key`, in hex: the fingerprint in a token. Raises: MalformedKey."""
    return hashlib.sha256(public_key_bytes(key)).hexdigest()


def sign_token(token: BootstrapToken, org_root_key: SigningKey) -> SignedToken:
    """Return `token` with the signature of its canonical JSON."""
    return SignedToken(token, sign_payload(token_payload(token), org_root_key))


def verify_token(signed_token: SignedToken, trust: TrustRoot, now: datetime) -> BootstrapToken:
    """Return the token if the org root key signed it and `now` is within its period of validity.

    The control plane checks its nonce.
    Raises: as `require_token_signed`; TokenNotYetIssued, TokenExpired; looked for in this order.
    """
    require_token_signed(signed_token, trust)
    token = signed_token.token
    if token.issued_at - now > CLOCK_SKEW:
        raise TokenNotYetIssued(token.hostname, token.issued_at, now)
    # Without skew: a used nonce is kept until this time and no longer.
    if now >= token.expires_at:
        raise TokenExpired(token.hostname, token.expires_at, now)
    return token


def require_token_signed(signed_token: SignedToken, trust: TrustRoot) -> None:
    """Return if the org root key stands behind the token, whatever time it is.

    Raises: NoOrgRootKey, MalformedKey, MalformedSignature, UnsupportedAlgorithm, BadSignature,
    RejectedAsCompromised; looked for in this order.
    """
    keys = trust.org_root_key
    if keys is None:
        raise NoOrgRootKey
    token = signed_token.token
    signer_of(token_payload(token), signature_bytes(signed_token.signature), keys)
    require_not_compromised(token.issued_at, keys)


def verify_nonces(
    signed: SignedArtefact, trust: TrustRoot, now: datetime, *, freshness_window_minutes: int | None
) -> Verified[BootstrapNonces]:
    """As `verify`, for `bootstrap-nonces.json` and the CI release key."""
    return verify(
        signed,
        bootstrap_nonces_of,
        trust.ci_release_key,
        now,
        freshness_window_minutes=freshness_window_minutes,
    )


def verify_revocations(
    signed: SignedArtefact, trust: TrustRoot, now: datetime, *, freshness_window_minutes: int | None
) -> Verified[Revocations]:
    """As `verify`, for `revocations.json` and the CI release key."""
    return verify(
        signed,
        revocations_of,
        trust.ci_release_key,
        now,
        freshness_window_minutes=freshness_window_minutes,
    )
