"""Whether an operator's command can be carried out in the current state, and on which hosts. Pure: changes nothing.

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
from nixfleet_runtime.hold_scope import ChannelScope, HoldScope, HostScope, RolloutScope
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutRecord


def command_objection(state: State, command: OperatorCommand) -> str | None:
    """Return why the command cannot be carried out, as a message for the operator; `None` if it can."""
    match command:
        case PauseScope():
            if command.scope in state.holds:
                operator = state.holds[command.scope].operator
                return f"{command.scope} is already paused, by {operator}"
            if not _exists(state, command.scope):
                return f"expected a channel, a rollout or a host (host:NAME), found {str(command.scope)!r}"
            return None
        case ResumeScope():
            return None if command.scope in state.holds else f"{command.scope} is not paused"
        case ClearRollout():
            rollout = state.view.rollouts.get(command.rollout_id)
            if rollout is None:
                return f"no rollout {command.rollout_id} exists"
            if not rollout.state.is_halted:
                return f"expected {command.rollout_id} to be Reverted or Failed, found {rollout.state.value}"
            return _objection_to_excused(state, rollout, command.excused_hosts)
        case RetireQuarantine():
            if command.closure in state.quarantines.get(command.channel, ()):
                return None
            return f"{command.closure} is not quarantined on {command.channel}"
        case _:
            assert_never(command)


def _exists(state: State, scope: HoldScope) -> bool:
    match scope:
        case ChannelScope():
            return scope.channel in state.view.offers
        case RolloutScope():
            return scope.rollout_id in state.view.rollouts
        case HostScope():
            return any(state.view.host(each, scope.hostname) for each in state.view.rollouts)
        case _:
            assert_never(scope)


def _objection_to_excused(
    state: State, rollout: RolloutRecord, excused: frozenset[str]
) -> str | None:
    rollout_id = rollout.rollout_id
    unknown = excused - state.view.terms(rollout_id).targets.keys()
    if unknown:
        # They would be subtracted from a count that does not include them.
        return f"expected hosts of {rollout_id}, found {_listed(unknown)}"
    missing = failed_hosts(state, rollout_id) - rollout.excused_hosts - excused
    if excused and missing:
        return f"expected {_listed(missing)} too: they failed, and would keep {rollout_id} halted for ever"
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
