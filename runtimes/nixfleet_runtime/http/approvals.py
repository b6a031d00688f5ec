"""The call by which an operator gives a signed statement on a wave: its body, and the answer.

Source: docs/spec/wire.md, Operator calls.
"""

from typing import Final

from attrs import frozen

from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.steering.approval import SignedApproval
from nixfleet_runtime.http.request_limits import RequestCoder


@frozen
class ApprovalTaken:
    """The statement was taken. note: what the operator should know, such as that it was given before."""

    note: str | None = None


# As it was signed, so that who receives it can check the signature of what was decoded.
SIGNED_APPROVAL: Final = RequestCoder[SignedApproval](
    ARTEFACT_SPELLING, SignedApproval, "signed approval"
)
APPROVAL_TAKEN: Final = Coder[ApprovalTaken](
    Spelling(camel_case, Absent.LEFT_OUT), ApprovalTaken, "answer to an approval"
)
