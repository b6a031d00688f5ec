"""The four rules of convergence. The reducer refuses a `Converged` by them; an agent checks them before it reports one.

Probes in mode observe or disabled never hold. A topology that was not declared counts as an empty one: the wave gate,
not the host, waits for a missing topology.
Source: docs/spec/host-machine.md, Convergence.
"""

from datetime import datetime

from nixfleet_proto.agent_event import Converged, ProbeMode, ProbeStatus
from nixfleet_proto.members import members
from nixfleet_state_machine.host.errors import ConvergenceRule, InvariantViolation
from nixfleet_state_machine.host.state import HostRolloutState

_Mode, _Status = members(ProbeMode), members(ProbeStatus)


def require_convergence(state: HostRolloutState, fact: Converged) -> None:
    """Return if `fact` satisfies all four rules for `state`.

    Raises: InvariantViolation, naming the first rule that is broken.
    """
    broken = first_broken_rule(state, fact.current_closure, fact.converged_at)
    if broken is not None:
        rule, expected, found = broken
        raise InvariantViolation(state, fact, rule, expected, found)


def soak_end_of(state: HostRolloutState) -> datetime | None:
    """Return when the soak of `state` ends, `None` when it has none. Before the activation: the earliest end.

    The soak must pass since the dispatch, which is until `soak_due_at`, and since the activation: a host that activates
    late soaks as long as every other.
    """
    due = state.soak_due_at
    if due is None or state.dispatched_at is None or state.activation_completed_at is None:
        return due
    return max(due, state.activation_completed_at + (due - state.dispatched_at))


def first_broken_rule(
    state: HostRolloutState, current_closure: str, at: datetime
) -> tuple[ConvergenceRule, str, str] | None:
    """Return the first rule that keeps `state` from converging at `at`, with expected and found.

    `None`: a `Converged` with this closure and time would be accepted from Soaking.
    """
    if current_closure != state.target_closure:
        return ConvergenceRule.CLOSURE_IS_TARGET, state.target_closure, current_closure
    soak_ends_at = soak_end_of(state)
    if soak_ends_at is not None and at < soak_ends_at:
        return ConvergenceRule.SOAK_ELAPSED, f"{soak_ends_at.isoformat()} or later", at.isoformat()
    for name, probe in state.probes.items():
        if probe.mode is _Mode.ENFORCE and probe.status is not _Status.PASS:
            return (
                ConvergenceRule.ENFORCE_PROBES_PASS,
                f"probe {name!r} to pass",
                probe.failure_reason or probe.status.value,
            )
    for declared in state.declared_probes or ():
        if declared.mode is _Mode.ENFORCE and declared.probe_name not in state.probes:
            return (
                ConvergenceRule.DECLARED_PROBES_REPORTED,
                f"a result of probe {declared.probe_name!r}",
                "none since the activation",
            )
    return None
