"""Signatures of operators over their statements on waves.

Source: docs/spec/guards.md, Approvals.
"""

from nixfleet_proto.codec.approval import approval_payload
from nixfleet_proto.signing.key import SigningKey
from nixfleet_proto.signing.payload import sign_payload, verify_payload
from nixfleet_proto.steering.approval import Approval, SignedApproval
from nixfleet_proto.trust import TrustedKey


def sign_approval(approval: Approval, key: SigningKey) -> SignedApproval:
    """Return the statement, signed by `key`."""
    return SignedApproval(approval, sign_payload(approval_payload(approval), key))


def verify_approval(signed: SignedApproval, key: TrustedKey) -> None:
    """Return if `key` signed the statement. Raises: as `verify_payload`."""
    verify_payload(approval_payload(signed.approval), signed.signature, key)
