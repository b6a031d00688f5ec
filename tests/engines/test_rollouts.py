"""Whole rollouts through both engines and both stores."""

from attrs import evolve

from nixfleet_agent.activation.activator import SwitchFailed, SwitchPhase
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


def test_a_control_plane_that_lost_its_database_hears_everything_again(fleet: SmallFleet) -> None:
    """When agents tell a rebuilt control plane what they lived, it comes to the same end."""
    rollout_id = fleet.publish("r1")
    fleet.pass_time(minutes=8)
    before = fleet.states(rollout_id)
    assert before["web-01"] is HostState.CONVERGED
    fleet.destroy_control_plane()
    fleet.publish("r1")
    for agent in fleet.agents.values():
        fleet.compare(agent)
        fleet.send(agent)

    assert fleet.states(rollout_id) == before
    fleet.pass_time(minutes=15)
    assert set(fleet.states(rollout_id).values()) == {HostState.CONVERGED}
    assert fleet.rollout(rollout_id).state is RolloutState.TERMINAL
    assert fleet.check_store().differences == ()


def test_a_rebuilt_control_plane_differs_from_its_agents_in_nothing_but_the_dispatch(
    fleet: SmallFleet,
) -> None:
    """After a replay the mirror is what the host lived, save for the dispatch, of which no fact tells."""
    rollout_id = fleet.publish("r1")
    fleet.pass_time(minutes=8)
    fleet.destroy_control_plane()
    fleet.publish("r1")
    agent = fleet.agents["web-01"]
    fleet.compare(agent)
    fleet.send(agent)

    mirrored = fleet.mirrored(rollout_id, "web-01")
    lived = agent.record(rollout_id)
    assert (
        evolve(lived, dispatched_at=mirrored.dispatched_at, soak_due_at=mirrored.soak_due_at)
        == mirrored
    )


def test_a_failed_switch_reverts_and_halts(fleet: SmallFleet) -> None:
    """A canary whose switch fails goes back, and its closure is not barred, since it never ran."""
    fleet.publish("r1")
    fleet.pass_time(minutes=15)
    broken = SwitchFailed(SwitchPhase.SWITCH, 4, "no such unit")
    fleet.behaviour = Behaviour(switch={"r2-web-01": broken})
    second = fleet.publish("r2")
    fleet.pass_time(minutes=3)

    assert fleet.states(second)["web-01"] is HostState.REVERTED
    assert fleet.rollout(second).state is RolloutState.REVERTED
    assert fleet.agents["web-01"].running == "r1-web-01"
    assert fleet.queued() == []
    assert fleet.state.quarantines == {}


def test_a_host_that_was_cut_off_catches_up(fleet: SmallFleet) -> None:
    """What a host lived while nobody could hear it is heard when it is back."""
    rollout_id = fleet.publish("r1")
    fleet.pass_time(minutes=2)
    fleet.agents["web-01"].is_cut_off = True
    fleet.pass_time(minutes=10)
    unheard = fleet.states(rollout_id)["web-01"]
    fleet.agents["web-01"].is_cut_off = False
    fleet.pass_time(minutes=15)

    assert unheard is HostState.SOAKING
    assert set(fleet.states(rollout_id).values()) == {HostState.CONVERGED}


def test_a_fleet_that_crashes_all_the_time_converges(fleet: SmallFleet) -> None:
    """Crashes of the control plane and of agents, every half minute, cost nothing but time."""
    rollout_id = fleet.publish("r1")
    for _ in range(40):
        fleet.pass_time(minutes=0.5)
        fleet.restart_control_plane()
        for agent in fleet.agents.values():
            agent.restart()

    assert set(fleet.states(rollout_id).values()) == {HostState.CONVERGED}
    assert fleet.check_store().differences == ()
