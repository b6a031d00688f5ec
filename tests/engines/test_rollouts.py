"""Whole rollouts through both engines and both stores."""

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.small_fleet import Behaviour, SmallFleet


def test_a_good_release_converges_everywhere_in_waves(fleet: SmallFleet) -> None:
    """Every host of a good release converges and the rollout ends Terminal."""
    rollout_id = fleet.publish("r1")
    fleet.pass_time(minutes=3)
    assert fleet.states(rollout_id) == {
        "web-01": HostState.SOAKING,
        "web-02": HostState.PENDING,
        "web-03": HostState.PENDING,
    }
    fleet.pass_time(minutes=15)
    assert set(fleet.states(rollout_id).values()) == {HostState.CONVERGED}
    assert fleet.rollout(rollout_id).state is RolloutState.TERMINAL
    assert fleet.check_store().differences == ()


def test_a_bad_canary_reverts_is_quarantined_and_nobody_else_is_dispatched(
    fleet: SmallFleet,
) -> None:
    """A canary whose enforce probe keeps failing rolls back and stops the rollout for all."""
    first = fleet.publish("r1")
    fleet.pass_time(minutes=15)
    fleet.behaviour = Behaviour(
        probe={"r2-web-01": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
    )
    second = fleet.publish("r2")
    fleet.pass_time(minutes=15)
    assert fleet.rollout(first).state is RolloutState.SUPERSEDED
    assert fleet.states(second) == {
        "web-01": HostState.REVERTED,
        "web-02": HostState.PENDING,
        "web-03": HostState.PENDING,
    }
    assert fleet.agents["web-01"].running == "r1-web-01"
    assert fleet.rollout(second).state is RolloutState.REVERTED
    assert fleet.state.quarantines["stable"] == {"r2-web-01"}
    third = fleet.publish("r3")
    fleet.pass_time(minutes=20)
    assert set(fleet.states(third).values()) == {HostState.CONVERGED}
    assert fleet.check_store().differences == ()
    for rollout_id in (first, second, third):
        for host, agent in fleet.agents.items():
            if rollout_id in agent.state.rollouts:
                assert agent.record(rollout_id) == fleet.mirrored(rollout_id, host)
