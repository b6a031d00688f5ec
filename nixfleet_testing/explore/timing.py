"""For which hosts the passing of time means anything. Written from the specification, not from the planner's code.

Source: docs/spec/policy.md, Deadlines; docs/spec/policy.md, Attempts.
"""

from typing import assert_never

from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.policy import AtDeadline
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.world import Seat


def has_time(bounds: Bounds, rollout: RolloutRecord, seat: Seat) -> bool:
    """Return whether a deadline runs for the host that has a consequence, or its back-off does."""
    restores = bounds.on_drift is OnDrift.RESTORE and seat.has_drifted
    if not rollout.state.is_served or seat.standing not in (Standing.COUNTED, Standing.LATE):
        return False
    stage = stage_of(seat)
    if stage is None and restores and seat.record.state is HostState.CONVERGED:
        return seat.attempt == seat.record.attempt
    if stage is None:
        return seat.attempt == seat.record.attempt < bounds.attempts and seat.record.has_failed
    return stage is bounds.deadline and bounds.then is not AtDeadline.WAIT


def stage_of(seat: Seat) -> Stage | None:
    """Return what the host is at; `None`: at nothing, as far as the control plane knows."""
    if seat.is_queued and seat.needs_dispatch:
        return Stage.ACK
    match seat.record.state:
        case HostState.ACTIVATING:
            return Stage.ACTIVATION
        case HostState.DEFERRED:
            return Stage.REBOOT
        case HostState.SOAKING:
            return Stage.CONVERGENCE
        case HostState.FAILED:
            return Stage.ACTIVATION if seat.record.is_rolling_back else None
        case HostState.PENDING | HostState.CONVERGED | HostState.REVERTED:
            return None
        case _:
            assert_never(seat.record.state)
