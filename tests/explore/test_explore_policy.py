"""What a policy allows keeps every law too: tolerances, deadlines and attempts, each in small worlds of its own."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.policy import AtDeadline
from nixfleet_state_machine.planner.blast_radius import budget_wedges, worst_failed
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_testing.explore import Bounds, explore

TOLERANT = {
    "one of a wave may fail": Bounds(hosts=3, waves=2, tolerance=1),
    "one may fail, with operators": Bounds(hosts=2, waves=1, tolerance=1, clear=True, pause=True),
    "one may fail, for two slots": Bounds(hosts=3, waves=1, tolerance=1, budget=2, probe_runs=0),
    "one may fail, for one slot": Bounds(hosts=2, waves=1, tolerance=1, budget=1),
    "one may fail that another waits for": Bounds(
        hosts=3, waves=1, tolerance=1, edges=True, own_closures=True
    ),
    "two attempts": Bounds(hosts=2, waves=1, tolerance=1, attempts=2, probe_runs=0),
}
"""Worlds in which the worst case can be computed."""

OFF = {
    "off when it is dispatched": Bounds(
        hosts=2, waves=2, deadline=Stage.ACK, probe_runs=0, clear=True
    ),
    "off, and counts as failed": Bounds(
        hosts=2,
        waves=1,
        tolerance=1,
        budget=1,
        deadline=Stage.ACK,
        then=AtDeadline.FAIL,
        probe_runs=0,
    ),
    "off in its switch": Bounds(
        hosts=2, waves=2, deadline=Stage.ACTIVATION, probe_runs=0, pause=True
    ),
    "off in its switch, and counts as failed": Bounds(
        hosts=2, waves=2, deadline=Stage.ACTIVATION, then=AtDeadline.FAIL, probe_runs=0
    ),
    "not rebooted": Bounds(
        hosts=2, waves=2, deadline=Stage.REBOOT, deferral=True, probe_runs=0, on_the_way=1
    ),
    "not converging": Bounds(hosts=2, waves=2, deadline=Stage.CONVERGENCE),
    "off while another waits for it": Bounds(
        hosts=2, waves=1, deadline=Stage.ACK, edges=True, probe_runs=0, clear=True
    ),
}

ENDED_BY_HAND = {
    "aborted at any time": Bounds(hosts=3, waves=2, abort=True, clear=True, probe_runs=0),
    "aborted before its successor": Bounds(
        hosts=2, waves=1, releases=2, abort=True, probe_runs=0, on_the_way=1
    ),
}

AGAIN = {
    "tried again when it is cleared": Bounds(
        hosts=2, waves=2, attempts=2, probe_runs=0, clear=True, retire=True
    ),
    "off between two attempts": Bounds(
        hosts=1, waves=1, attempts=2, deadline=Stage.ACK, clear=True, retire=True
    ),
    "a successor between two attempts": Bounds(
        hosts=1, waves=1, tolerance=1, attempts=2, releases=2, on_the_way=1
    ),
}

WORLDS = {**TOLERANT, **OFF, **AGAIN, **ENDED_BY_HAND}


@pytest.mark.parametrize("policy", OnHealthFailure)
@pytest.mark.parametrize("world", WORLDS)
def test_every_world_of_a_policy_keeps_every_law(world: str, policy: OnHealthFailure) -> None:
    """Whatever fails, is off, comes back or tries again, and in whatever order, no law is broken."""
    report = explore(evolve(WORLDS[world], policy=policy))
    assert report.finding is None, report.finding
    assert report.is_complete


@pytest.mark.parametrize("policy", OnHealthFailure)
@pytest.mark.parametrize("tolerance", [0, 1, 2])
@pytest.mark.parametrize("budget", [None, 1, 2])
def test_the_worst_that_is_computed_is_reached_and_never_passed(
    policy: OnHealthFailure, tolerance: int, budget: int | None
) -> None:
    """In some world as many hosts failed as the policy may cost, and in none more did."""
    bounds = Bounds(
        hosts=3, waves=2, policy=policy, tolerance=tolerance, budget=budget, probe_runs=0
    )
    report = explore(bounds)
    assert report.finding is None, report.finding
    assert report.failed_most == worst_failed(bounds.terms[0], policy)


def test_a_budget_that_failed_hosts_fill_is_told_before_the_rollout_stands_still() -> None:
    """A world that comes to rest so keeps the laws only because it was announced."""
    told = evolve(TOLERANT["one may fail, for one slot"], policy=OnHealthFailure.HALT)
    assert budget_wedges(told.terms[0], told.policy)
