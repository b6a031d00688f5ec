"""Which commands may be advised: those that the engine would take now, by its own checks. Pure functions.

A command that is advised and refused costs an operator more than no advice, so every read model that names one asks
here. Commands are text as `nixfleet operator` takes it, without the options for the connection and the reason.
Source: docs/spec/overview.md, Advice.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from nixfleet_control_plane.engine.command_checks import command_objection
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind
from nixfleet_state_machine.rollout.state import Standing

_WHO: Final = ""
"""No command that is advised is refused because of who gives it, but for statements on a wave."""
_WHY: Final = "advice"


def halt_commands(state: State, rollout_id: RolloutId, now: datetime) -> tuple[str, ...]:
    """Return what answers a halt: to go on without the hosts that failed, to try them again, or to end it."""
    return _taken(
        state,
        now,
        (
            (f"clear {rollout_id}", ClearRollout(rollout_id, _WHO, _WHY)),
            (f"retry {rollout_id}", RetryHosts(rollout_id, frozenset(), _WHO, _WHY)),
            (f"abort {rollout_id}", AbortRollout(rollout_id, _WHO, _WHY)),
        ),
    )


def absent_commands(
    state: State, rollout_id: RolloutId, hosts: Sequence[str], now: datetime, *, may_skip: bool
) -> tuple[str, ...]:
    """Return what goes on without these hosts. may_skip: also what serves them once they are heard of."""
    named, all_of = " ".join(hosts), frozenset(hosts)
    skip = f"skip {rollout_id} {named}", SkipHosts(rollout_id, all_of, _WHO, _WHY)
    excuse = f"excuse {rollout_id} {named}", ExcuseHosts(rollout_id, all_of, _WHO, _WHY)
    return _taken(state, now, (skip, excuse) if may_skip else (excuse,))


def quarantine_commands(state: State, channel: str, closure: str, now: datetime) -> tuple[str, ...]:
    """Return what lets a closure be dispatched again."""
    retire = RetireQuarantine(channel, closure, _WHO, _WHY)
    return _taken(state, now, ((f"retire {channel} {closure}", retire),))


def hold_commands(state: State, hold: Hold, now: datetime) -> tuple[str, ...]:
    """Return what lifts a hold; nothing for one that no operator lifts."""
    scope, source = hold.scope, hold.source
    if source.kind is HoldKind.OPERATOR and source.name:
        release = ReleaseHold(scope, _WHO, _WHY, source.name)
        return _taken(state, now, ((f"release {scope} --of {source.name}", release),))
    return _taken(state, now, ((f"resume {scope}", ResumeScope(scope, _WHO, _WHY)),))


def host_commands(
    state: State, rollout_id: RolloutId, hostname: str, now: datetime
) -> tuple[str, ...]:
    """Return what an operator may do about a host that is not done in an open rollout: another attempt, or none."""
    record = state.view.host(rollout_id, hostname)
    if record is None or record.state is HostState.CONVERGED:
        return ()
    standing = state.view.rollout(rollout_id).standing_of(hostname)
    retry = RetryHosts(rollout_id, frozenset((hostname,)), _WHO, _WHY)
    found = _taken(state, now, ((f"retry {rollout_id} {hostname}", retry),))
    if standing is Standing.EXCUSED or standing is Standing.LEFT:
        return found
    may_skip = standing is Standing.COUNTED and not record.has_failed
    return (*found, *absent_commands(state, rollout_id, (hostname,), now, may_skip=may_skip))


def _taken(
    state: State, now: datetime, candidates: Iterable[tuple[str, OperatorCommand]]
) -> tuple[str, ...]:
    """Return those of the commands that would be taken, in their order."""

    def taken() -> Iterator[str]:
        for text, command in candidates:
            if command_objection(state, command, now) is None:
                yield text

    return tuple(taken())
