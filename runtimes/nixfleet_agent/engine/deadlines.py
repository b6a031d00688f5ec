"""The deadlines of the signed policy that an agent holds itself to. Pure.

Time is what this process has seen to pass, so a step of the clock ends nothing. `then` says what follows when a host is
silent, which is for the control plane to see to; a deadline that is only to be waited for ends nothing here either.
Source: docs/spec/policy.md, Deadlines.
"""

from datetime import timedelta
from typing import Final

from nixfleet_agent.engine.observation import Observed
from nixfleet_agent.engine.state import LocalRollout
from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.policy import AtDeadline, Deadline
from nixfleet_state_machine.host.state import HostState

SWITCH_SECONDS_MIN: Final = 1.0
"""A switch that is finished after a restart gets this much even past its deadline: it may have ended already."""


def activation_left(rollout: LocalRollout, observed: Observed) -> timedelta | None:
    """Return how long the activation of `rollout` may still take, below zero when it is overdue.

    `None`: it may take for ever, or is not going on.
    """
    if rollout.record.state is not HostState.ACTIVATING:
        return None
    limit = _limit_of(rollout.policy.deadlines.activation)
    return None if limit is None else limit - observed.activating


def switch_limit_seconds(rollout: LocalRollout, observed: Observed) -> float | None:
    """Return how long a switch that begins now may take, `None` for as long as it needs."""
    left = activation_left(rollout, observed)
    return None if left is None else max(left.total_seconds(), SWITCH_SECONDS_MIN)


def is_convergence_overdue(rollout: LocalRollout, observed: Observed) -> bool:
    """Return whether `rollout` soaks for longer than it may."""
    if rollout.record.state is not HostState.SOAKING:
        return False
    limit = _limit_of(rollout.policy.deadlines.convergence)
    return limit is not None and observed.soaked >= limit


def probes_in_the_way(rollout: LocalRollout, observed: Observed) -> tuple[str, ...]:
    """Return the enforce probes that do not pass, or have not run since the start, by name."""
    record = rollout.record
    failing = {
        name
        for name, probe in record.probes.items()
        if probe.mode is ProbeMode.ENFORCE and probe.status is not ProbeStatus.PASS
    }
    silent = {
        declared.probe_name
        for declared in record.declared_probes or ()
        if declared.mode is ProbeMode.ENFORCE and declared.probe_name not in observed.reported
    }
    return tuple(sorted(failing | silent))


def _limit_of(deadline: Deadline | None) -> timedelta | None:
    if deadline is None or deadline.then is AtDeadline.WAIT:
        return None
    return timedelta(minutes=deadline.minutes)
