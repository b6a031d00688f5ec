"""Signatures: signing, and verification of origin and freshness. ed25519 over canonical JSON.

The only package that makes `Verified`. `artefact` verifies what CI signed, `payload` what hosts sign, `enrollment`
tokens, nonces and revocations. `key` has private keys and their files, `refusal` a class for each reason of a refusal.
Nothing here shows a secret.
Source: docs/spec/trust.md, Artefacts; docs/spec/trust.md, Keys.
"""

from nixfleet_proto.codec.json_text import Uncanonical, canonical_bytes
from nixfleet_proto.signing.approval import sign_approval, verify_approval
from nixfleet_proto.signing.artefact import (
    artefact_hash,
    canonical_form,
    require_anchor,
    sign_artefact,
    verify,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.signing.enrollment import (
    fingerprint_of,
    require_token_signed,
    sign_token,
    verify_nonces,
    verify_revocations,
    verify_token,
)
from nixfleet_proto.signing.evidence import verify_evidence
from nixfleet_proto.signing.key import (
    InsecureKeyFile,
    MalformedKeyFile,
    Signer,
    SigningKey,
    is_signed_by,
    openssh_line,
    read_public_key,
    require_usable,
    seal_to,
)
from nixfleet_proto.signing.payload import (
    sign_batch,
    sign_envelope,
    sign_payload,
    verify_batch,
    verify_envelope,
    verify_payload,
)
from nixfleet_proto.signing.refusal import (
    CLOCK_SKEW,
    BadSignature,
    FutureDated,
    MalformedArtefact,
    MalformedKey,
    MalformedSignature,
    NoOrgRootKey,
    NotSigned,
    RejectedAsCompromised,
    Stale,
    TokenExpired,
    TokenNotYetIssued,
    UnsupportedAlgorithm,
    UnsupportedSchema,
    VerifyError,
    WrongAnchor,
    WrongRolloutId,
)

__all__ = [
    "CLOCK_SKEW",
    "BadSignature",
    "FutureDated",
    "InsecureKeyFile",
    "MalformedArtefact",
    "MalformedKey",
    "MalformedKeyFile",
    "MalformedSignature",
    "NoOrgRootKey",
    "NotSigned",
    "RejectedAsCompromised",
    "Signer",
    "SigningKey",
    "Stale",
    "TokenExpired",
    "TokenNotYetIssued",
    "Uncanonical",
    "UnsupportedAlgorithm",
    "UnsupportedSchema",
    "VerifyError",
    "WrongAnchor",
    "WrongRolloutId",
    "artefact_hash",
    "canonical_bytes",
    "canonical_form",
    "fingerprint_of",
    "is_signed_by",
    "openssh_line",
    "read_public_key",
    "require_anchor",
    "require_token_signed",
    "require_usable",
    "seal_to",
    "sign_approval",
    "sign_artefact",
    "sign_batch",
    "sign_envelope",
    "sign_payload",
    "sign_token",
    "verify",
    "verify_approval",
    "verify_batch",
    "verify_envelope",
    "verify_evidence",
    "verify_fleet",
    "verify_manifest",
    "verify_nonces",
    "verify_payload",
    "verify_revocations",
    "verify_token",
]
