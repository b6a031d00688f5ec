"""Whether a host that converged runs something else now. Pure.

Source: docs/spec/policy.md, Drift.
"""

from datetime import datetime

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.rollout.event import DriftEnded, HostDrifted


def strays(view: FleetView, rollout_id: RolloutId, hostname: str, running: str) -> bool:
    """Return whether a host that is at rest in this rollout runs another closure than it converged to.

    Nothing that was dispatched to it since explains that: neither another attempt nor another rollout.
    Raises: UnknownRollout.
    """
    record = view.host(rollout_id, hostname)
    if record is None or record.state is not HostState.CONVERGED:
        return False
    is_served = view.rollout(rollout_id).state.is_served
    is_asked = view.is_queued(rollout_id, hostname)
    explained = is_asked or any(
        _is_dispatched_after(view.host(other, hostname), record) for other in view.rollouts
    )
    return is_served and running != record.target_closure and not explained


def drift_change(
    view: FleetView, rollout_id: RolloutId, hostname: str, running: str, now: datetime
) -> HostDrifted | DriftEnded | None:
    """Return the event that is due when a host was seen to run `running`, twice if it strays; `None`: nothing is.

    Raises: UnknownRollout.
    """
    if strays(view, rollout_id, hostname, running):
        return HostDrifted(rollout_id, hostname, running, now)
    return drift_ended(view, rollout_id, hostname, running, now)


def drift_ended(
    view: FleetView, rollout_id: RolloutId, hostname: str, running: str | None, now: datetime
) -> DriftEnded | None:
    """Return the event that is due when a host that had drifted acts, or runs its target; `None`: nothing is.

    running: `None`: nothing is known of it.
    Raises: UnknownRollout.
    """
    record = view.host(rollout_id, hostname)
    if hostname not in view.rollout(rollout_id).drifted or record is None:
        return None
    is_at_rest = record.state is HostState.CONVERGED
    return (
        None
        if is_at_rest and running != record.target_closure
        else DriftEnded(rollout_id, hostname, now)
    )


def _is_dispatched_after(other: HostRolloutState | None, record: HostRolloutState) -> bool:
    if other is None or other.rollout_id == record.rollout_id:
        return False
    at, converged_at = other.dispatched_at, record.converged_at
    return at is not None and converged_at is not None and at >= converged_at
