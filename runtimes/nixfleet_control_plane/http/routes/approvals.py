"""What the operators' routes need for statements on waves: whose they are, and how guards are listed."""

from nixfleet_control_plane.engine.guard_verdicts import GuardedRollout
from nixfleet_control_plane.http.answers import refusal
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import SignedApproval
from nixfleet_runtime.http.listings import ListedGuard, ListedGuards
from nixfleet_state_machine.planner.guards.words import guard_line


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


def listed_guards(found: GuardedRollout | None) -> ListedGuards | None:
    """Return the guards of the next wave of a rollout as they are listed."""
    if found is None:
        return None
    return ListedGuards(
        found.guarded.wave,
        found.manifest_hash,
        tuple(
            ListedGuard(
                guard.name,
                guard.state,
                guard_line(guard, found.declared, found.author),
                guard.name in found.declared.waivable,
                guard.until,
            )
            for guard in found.guarded.guards
        ),
        found.guarded.since,
    )
