"""Letting one of several worlds stand for all loses none of them."""

import pytest

from nixfleet_testing.explore import Bounds, ReducerSet, explore
from nixfleet_testing.explore.space import Space
from tests.explore.walking import worlds_reached


@pytest.mark.parametrize(
    "bounds",
    [Bounds(hosts=2, waves=1, pause=True), Bounds(hosts=3, waves=1, probe_runs=0, on_the_way=1)],
)
def test_worlds_found_with_and_without_symmetry_are_the_same_up_to_twins(bounds: Bounds) -> None:
    """Each world that is reached has its representative among those reached by representatives alone."""
    space = Space(bounds, ReducerSet(), symmetric=True)
    every = worlds_reached(space, symmetric=False)
    representatives = worlds_reached(space, symmetric=True)
    assert {space.representative(world) for world in every} == representatives
    assert len(representatives) < len(every)


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(hosts=2, waves=1, budget=1),
        Bounds(hosts=2, waves=1, edges=True),
        Bounds(hosts=2, waves=1, own_closures=True),
        Bounds(hosts=2, waves=2),
    ],
)
def test_hosts_whose_names_or_waves_differ_have_no_twins(bounds: Bounds) -> None:
    """Where names make a difference, every world is walked."""
    assert explore(bounds).states == explore(bounds, symmetric=False).states
