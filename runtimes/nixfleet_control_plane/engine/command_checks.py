"""Whether an operator's command can be carried out as things are, and on whom. Pure: nothing is changed here.

Source: docs/spec/wire.md, Operator calls.
"""

from collections.abc import Iterable
from typing import assert_never

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    OperatorCommand,
    PauseScope,
    ResumeScope,
    RetireQuarantine,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutRecord


def command_objection(state: State, command: OperatorCommand) -> str | None:
    """Return why the command cannot be carried out, in words for who gave it; `None` if it can."""
    match command:
        case PauseScope():
            if command.scope in state.holds:
                return (
                    f"{command.scope} is paused already, by {state.holds[command.scope].operator}"
                )
            if command.scope not in state.view.offers and command.scope not in state.view.rollouts:
                return f"expected a channel or a rollout, found {command.scope!r}"
            return None
        case ResumeScope():
            return None if command.scope in state.holds else f"{command.scope} is not paused"
        case ClearRollout():
            rollout = state.view.rollouts.get(command.rollout_id)
            if rollout is None:
                return f"there is no rollout {command.rollout_id}"
            if not rollout.state.is_halted:
                return f"{command.rollout_id} is {rollout.state.value}, not Reverted or Failed"
            return _objection_to_excused(state, rollout, command.excused_hosts)
        case RetireQuarantine():
            if command.closure in state.quarantines.get(command.channel, ()):
                return None
            return f"{command.closure} is not quarantined on {command.channel}"
        case _:
            assert_never(command)


def _objection_to_excused(
    state: State, rollout: RolloutRecord, excused: frozenset[str]
) -> str | None:
    rollout_id = rollout.rollout_id
    strangers = excused - state.view.terms(rollout_id).targets.keys()
    if strangers:
        # They would be taken out of a count that they are not in.
        return f"expected hosts of {rollout_id}, found {_listed(strangers)}"
    left = failed_hosts(state, rollout_id) - rollout.excused_hosts - excused
    if excused and left:
        return f"expected also {_listed(left)}: failed, and would hold {rollout_id} for ever"
    return None


def failed_hosts(state: State, rollout_id: RolloutId) -> frozenset[str]:
    """Return the hosts of the rollout that failed or reverted."""
    return frozenset(
        record.hostname
        for record in state.view.hosts_of(rollout_id)
        if record.state in (HostState.FAILED, HostState.REVERTED)
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
