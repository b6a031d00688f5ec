"""The mirror as the control plane's runtime keeps it, explored in place of the plain reducer."""

from datetime import datetime

import pytest

from nixfleet_control_plane.engine.host_record import apply_fact, queued_record
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_testing.explore import Bounds, ReducerSet, explore


@pytest.mark.parametrize("policy", OnHealthFailure)
def test_the_mirror_of_the_runtime_agrees_with_agents_whenever_dispatches_are_withdrawn(
    policy: OnHealthFailure,
) -> None:
    """A dispatch that is withdrawn and made again moves no soak window, so no convergence is refused."""
    bounds = Bounds(hosts=2, waves=2, policy=policy, pause=True, clear=True, budget=1)
    report = explore(bounds, ReducerSet(step=_stepped, note_dispatch=queued_record))
    assert report.finding is None, report.finding
    assert report.is_complete


def _stepped(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, tuple[HostEffect, ...]]:
    match event:
        case Local():
            return step(state, event, now, policy)
        case Remote():
            return apply_fact(state, event.fact, now, policy)
