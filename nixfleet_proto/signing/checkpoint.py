"""Signatures over checkpoints of a log: an operator's, or that of CI.

Source: docs/spec/log-proofs.md, Checkpoints.
"""

from attrs import define

from nixfleet_proto.audit.checkpoint import CI, Checkpoint, SignedCheckpoint
from nixfleet_proto.codec.checkpoint import checkpoint_payload
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing.key import SigningKey
from nixfleet_proto.signing.payload import sign_payload, verify_payload
from nixfleet_proto.signing.refusal import BadSignature
from nixfleet_proto.trust import TrustedKey, TrustRoot


@define
class UnknownSigner(NixfleetError):
    """The trust file knows no operator of the name that a checkpoint is signed with."""

    signer: str

    def __str__(self) -> str:
        return f"expected a checkpoint signed by CI or an operator of the trust file, found {self.signer!r}"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> SignedCheckpoint:
    """Return the checkpoint, signed by `key`."""
    return SignedCheckpoint(checkpoint, sign_payload(checkpoint_payload(checkpoint), key))


def verify_checkpoint(signed: SignedCheckpoint, trust: TrustRoot) -> Checkpoint:
    """Return the checkpoint if a key that `trust` gives to its signer signed it.

    Raises: UnknownSigner; NotSigned, MalformedSignature, MalformedKey, UnsupportedAlgorithm, BadSignature.
    """
    checkpoint = signed.checkpoint
    keys = _keys_of(checkpoint.signer, trust)
    if not keys:
        raise UnknownSigner(checkpoint.signer)
    payload = checkpoint_payload(checkpoint)
    for key in keys:
        try:
            verify_payload(payload, signed.signature, key)
        except BadSignature:
            continue
        return checkpoint
    raise BadSignature(tuple(key.public_key for key in keys))


def _keys_of(signer: str, trust: TrustRoot) -> tuple[TrustedKey, ...]:
    if signer == CI:
        return trust.ci_release_key.keys
    return tuple(each.public_key for each in trust.operators if each.name == signer)
