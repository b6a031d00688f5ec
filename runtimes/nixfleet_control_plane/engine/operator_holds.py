"""Which holds an operator's pause, resume and release are about. Pure.

A pause is an operator's hold without an end. A resume lifts the pause of a scope, whoever paused it, as it did before
operators' holds had names and ends; a release lifts one hold, by name.
Source: docs/spec/holds.md, Operators.
"""

from nixfleet_control_plane.engine.state import CONTRADICTION, State
from nixfleet_control_plane.messages.inputs import ReleaseHold, ResumeScope, operator_source
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind
from nixfleet_state_machine.planner.holds.scope import HoldScope


def pause_objection(state: State, scope: HoldScope) -> str | None:
    """Return why `scope` cannot be paused: it is; `None`: it is not."""
    for hold in _pauses(state, scope):
        name = hold.source.name or "the control plane"
        return f"{scope} is already paused, by {name}"
    return None


def resume_objection(state: State, command: ResumeScope) -> str | None:
    """Return why there is nothing that the resume lifts; `None`: there is."""
    if resumed(state, command):
        return None
    names = [hold.source.name for hold in _pauses(state, command.scope)]
    if names:
        shown = ", ".join(sorted(names))
        return f"{command.scope} is paused by {shown}: release the hold of each by name"
    return f"{command.scope} is not paused"


def resumed(state: State, command: ResumeScope) -> tuple[Hold, ...]:
    """Return what a resume lifts: the operator's own pause, else that of the only other one; and a contradiction's."""
    pauses = _pauses(state, command.scope)
    lifted = [hold for hold in pauses if hold.source == CONTRADICTION]
    by_operators = [hold for hold in pauses if hold.source != CONTRADICTION]
    own = [hold for hold in by_operators if hold.source == operator_source(command.operator)]
    if own or len(by_operators) == 1:
        lifted += own or by_operators
    return tuple(lifted)


def release_objection(state: State, command: ReleaseHold) -> str | None:
    """Return why the hold cannot be released: there is none of that name; `None`: it can."""
    if state.view.holds.get(command.scope, command.source) is not None:
        return None
    on = state.view.holds.on(str(command.scope))
    names = sorted(hold.source.name for hold in on if hold.source.kind is HoldKind.OPERATOR)
    holders = f"; it is held by {', '.join(names)}" if names else ""
    return f"{command.source.name} holds nothing on {command.scope}{holders}"


def _pauses(state: State, scope: HoldScope) -> tuple[Hold, ...]:
    return tuple(
        hold
        for hold in state.view.holds.on(str(scope))
        if hold.until is None
        and (hold.source.kind is HoldKind.OPERATOR or hold.source == CONTRADICTION)
    )
