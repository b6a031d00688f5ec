"""The production machines keep every law, in every interleaving of these worlds."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_testing.explore import Bounds, explore

WORLDS = {
    "operators at any moment": Bounds(hosts=3, waves=2, pause=True, clear=True),
    "one slot": Bounds(hosts=2, waves=1, budget=1, pause=True, clear=True, deferral=True),
    "edges": Bounds(hosts=2, waves=1, edges=True, pause=True, deferral=True),
    "edges to hosts that are excused": Bounds(
        hosts=2, waves=1, edges=True, own_closures=True, clear=True, deferral=True
    ),
    "closures of their own": Bounds(hosts=2, waves=2, own_closures=True, clear=True, retire=True),
    "a successor": Bounds(hosts=2, waves=2, releases=2, on_the_way=2, budget=1),
    "a successor after a pause": Bounds(hosts=1, waves=1, releases=2, pause=True, deferral=True),
    "three releases": Bounds(hosts=1, waves=1, releases=3, on_the_way=1),
    "every fact, and probes that change": Bounds(hosts=2, waves=1, probe_runs=2, every_fact=True),
    "no probes": Bounds(hosts=3, waves=1, probe_runs=0),
}


@pytest.mark.parametrize("policy", OnHealthFailure)
@pytest.mark.parametrize("world", WORLDS)
def test_every_world_within_bounds_keeps_every_law(world: str, policy: OnHealthFailure) -> None:
    """Whatever happens in the bounded world, and in whatever order, no law is broken."""
    report = explore(evolve(WORLDS[world], policy=policy))
    assert report.finding is None, report.finding
    assert report.is_complete


@pytest.mark.parametrize(
    ("hosts", "waves", "expected"), [(3, 2, (0, 0, 1)), (4, 2, (0, 0, 1, 1)), (3, 3, (0, 1, 2))]
)
def test_hosts_in_waves_are_spread_evenly(
    hosts: int, waves: int, expected: tuple[int, ...]
) -> None:
    """Waves are as even as can be, and an earlier one is never smaller than a later one."""
    assert Bounds(hosts=hosts, waves=waves).wave_of == expected


def test_more_waves_than_hosts_are_refused() -> None:
    """A wave needs a host."""
    with pytest.raises(ValueError, match="expected 1 to 2 waves, found 3"):
        Bounds(hosts=2, waves=3)


def test_exploring_up_to_a_number_of_states_is_not_complete() -> None:
    """An exploration that gives up does not claim to have seen every world."""
    report = explore(Bounds(hosts=2, waves=1), states_max=100)
    assert report.finding is None
    assert not report.is_complete
    assert report.states >= 100
