"""Whether an operator's signed statement on a wave is taken, and what it says of which guards. Pure: changes nothing.

Each refusal says what was expected and what was found.
Source: docs/spec/guards.md, Approvals.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

from nixfleet_control_plane.engine.state import State
from nixfleet_proto.codec import encode_approval, format_time
from nixfleet_proto.signing import VerifyError, artefact_hash, verify_approval
from nixfleet_proto.steering.approval import (
    SIGNED_AHEAD_MAX,
    Approval,
    Decision,
    SignedApproval,
)
from nixfleet_proto.steering.guards import APPROVALS, WaveGuards
from nixfleet_proto.trust import OperatorRole, TrustRoot
from nixfleet_state_machine.rollout.event import Verdict
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import RolloutRecord


def approval_objection(
    state: State, signed: SignedApproval, trust: TrustRoot | None, now: datetime
) -> str | None:
    """Return why the statement is not taken, as a message for the operator; `None` if it is."""
    approval = signed.approval
    if not approval.reason.strip():
        return "expected a reason, found none"
    return _objection_to_signer(signed, trust) or _objection_to_place(state, approval, now)


def is_repeated(state: State, approval: Approval) -> bool:
    """Whether the same operator has stated the same before, of the same manifest: then nothing changes."""
    record = state.view.rollouts[approval.rollout_id]
    match approval.decision:
        case Decision.APPROVE:
            tally = record.guard_tally(approval.wave, APPROVALS)
            return tally is not None and tally.is_repeated_by(approval.operator, Outcome.PASS)
        case Decision.PROMOTE:
            return not any(True for _ in _waived(state, approval))
        case Decision.DENY:
            return False  # The first one ends the rollout.
        case _:
            assert_never(approval.decision)


def verdicts_of(state: State, signed: SignedApproval, now: datetime) -> tuple[Verdict, ...]:
    """Return what the statement says, one verdict for each guard; each has the statement as its evidence."""
    approval = signed.approval
    said: tuple[tuple[str, Outcome], ...]
    match approval.decision:
        case Decision.APPROVE:
            said = ((APPROVALS, Outcome.PASS),)
        case Decision.DENY:
            said = ((APPROVALS, Outcome.FAIL),)
        case Decision.PROMOTE:
            said = tuple((guard, Outcome.WAIVED) for guard in _waived(state, approval))
        case _:
            assert_never(approval.decision)
    evidence = encode_approval(approval).decode()
    return tuple(
        Verdict(
            approval.rollout_id,
            approval.wave,
            guard,
            approval.operator,
            outcome,
            approval.reason,
            now,
            evidence,
            signed.signature,
        )
        for guard, outcome in said
    )


def _objection_to_signer(signed: SignedApproval, trust: TrustRoot | None) -> str | None:
    name = signed.approval.operator
    operators = () if trust is None else trust.operators
    known = next((each for each in operators if each.name == name), None)
    if known is None:
        return f"expected an operator of the trust file, found {name!r}"
    if known.role is not OperatorRole.OPERATE:
        return f"expected {name} to have the role operate, found {known.role.value}"
    try:
        verify_approval(signed, known.public_key)
    except VerifyError as error:
        return f"expected a statement that {name} signed: {error}"
    return None


def _objection_to_place(state: State, approval: Approval, now: datetime) -> str | None:
    rollout_id, wave = approval.rollout_id, approval.wave
    record = state.view.rollouts.get(rollout_id)
    if record is None or rollout_id not in state.view.open_rollouts:
        return f"no rollout {rollout_id} is open"
    if not record.state.is_live or record.state.is_halted:
        found = f"expected {rollout_id} to go on, found it {record.state.value}"
        cleared = ": clear it first, after which all guards are asked anew"
        return found + cleared if record.state.is_clearable else found
    terms = state.view.terms(rollout_id)
    if wave > terms.last_wave:
        return f"expected a wave of {rollout_id}, 0 to {terms.last_wave}, found {wave}"
    if wave <= record.current_wave:
        return f"expected a wave that has not begun, found wave {wave}: {_where(record)}"
    manifest = state.manifests[rollout_id]
    expected = artefact_hash(manifest.artefact.body)
    if approval.manifest_hash != expected:
        return f"expected a statement on manifest {expected}, which is in force, found one on {approval.manifest_hash}"
    if approval.signed_at > now + SIGNED_AHEAD_MAX:
        return f"expected a statement of the past, found one of {approval.signed_at.isoformat()}: check both clocks"
    if record.unsaid_at is not None and approval.signed_at <= record.unsaid_at:
        after, signed = format_time(record.unsaid_at), format_time(approval.signed_at)
        expected = f"a statement signed after {after}, so none from before {rollout_id} was cleared"
        return f"expected {expected}, found one of {signed}: state it anew"
    return _objection_to_guards(approval, terms.guards_of(wave), manifest.manifest.meta.author)


def _where(record: RolloutRecord) -> str:
    return f"{record.rollout_id} is at wave {record.current_wave}"


def _objection_to_guards(approval: Approval, guards: WaveGuards, author: str | None) -> str | None:
    wave, name = approval.wave, approval.operator
    match approval.decision:
        case Decision.APPROVE | Decision.DENY:
            if guards.approvals is None:
                return f"wave {wave} of {approval.rollout_id} needs no approval"
            if name not in guards.approvals.names:
                listed = ", ".join(guards.approvals.names)
                return f"expected one of {listed}, who may approve wave {wave}, found {name}"
            if approval.decision is Decision.APPROVE and name == author:
                return f"{name} is the author of this release, and does not approve it"
            return None
        case Decision.PROMOTE:
            if not guards.waivable:
                return f"wave {wave} of {approval.rollout_id} has no guard that may be waived"
            return None
        case _:
            assert_never(approval.decision)


def _waived(state: State, approval: Approval) -> Iterator[str]:
    """Yield the guards that a promotion waives: those that may be waived, and are not yet."""
    record = state.view.rollouts[approval.rollout_id]
    for guard in state.view.terms(approval.rollout_id).guards_of(approval.wave).waivable:
        tally = record.guard_tally(approval.wave, guard)
        if tally is None or tally.waived_by is None:
            yield guard
