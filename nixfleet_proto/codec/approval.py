"""Operators' statements on waves, as bytes.

Source: docs/spec/guards.md, Approvals.
"""

from typing import Final

from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.steering.approval import Approval, SignedApproval

_DOMAIN: Final = b"nixfleet approval\n"


def encode_approval(approval: Approval) -> bytes:
    """Return the canonical bytes of a statement. Raises: Uncanonical."""
    return _APPROVAL.encode_canonical(approval)


def decode_approval(data: bytes) -> Approval:
    """Return the statement that `data` holds. Raises: DecodeError."""
    return _APPROVAL.decode(data)


def approval_payload(approval: Approval) -> bytes:
    """Return the bytes that the signature of a statement covers: nothing else that is signed begins like them."""
    return _DOMAIN + encode_approval(approval)


_APPROVAL = Coder[Approval](ARTEFACT_SPELLING, Approval, "approval")
SIGNED_APPROVAL: Final = Coder[SignedApproval](ARTEFACT_SPELLING, SignedApproval, "signed approval")
