"""What the operators' routes need for statements on waves: whose they are."""

from nixfleet_control_plane.http.answers import refusal
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import SignedApproval


def require_own(signed: SignedApproval, operator: str, rollout_id: RolloutId) -> None:
    """Return if the statement is by the operator who sends it, about the rollout of the path. Raises: Refusal."""
    approval = signed.approval
    if approval.operator != operator:
        raise refusal(
            "not-for-you",
            "The statement is another operator's",
            403,
            f"expected a statement of {operator}, who signed the request, found one of {approval.operator!r}",
        )
    if approval.rollout_id != rollout_id:
        raise refusal(
            "command-refused",
            "The command is refused",
            409,
            f"expected a statement on {rollout_id}, found one on {approval.rollout_id}",
        )
