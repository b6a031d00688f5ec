"""The pace of a budget keeps every law too, in small worlds of its own, and what breaks it is found."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore import Bounds, explore
from nixfleet_testing.explore.laws import Law
from tests.explore import planted_pace

WORLDS = {
    "a ramp": Bounds(hosts=3, waves=1, ramp=(1, 2), probe_runs=0),
    "a ramp of two slots in two waves": Bounds(hosts=3, waves=2, ramp=(1, 3), budget=2),
    "a ramp in which one may fail": Bounds(
        hosts=3, waves=1, ramp=(1, 2), tolerance=1, probe_runs=0
    ),
    "a ramp with two attempts": Bounds(
        hosts=2, waves=1, ramp=(1, 2), tolerance=1, attempts=2, probe_runs=0
    ),
    "a ramp for two releases": Bounds(
        hosts=2, waves=1, ramp=(1, 2), releases=2, probe_runs=0, on_the_way=1
    ),
    "one a minute": Bounds(hosts=2, waves=1, per_minute=1, pause=True, probe_runs=0),
    "one a minute for two releases": Bounds(
        hosts=2, waves=1, per_minute=1, releases=2, probe_runs=0, on_the_way=1
    ),
    "two a minute on a ramp": Bounds(
        hosts=3, waves=1, ramp=(1, 2), per_minute=2, tolerance=1, probe_runs=0
    ),
}


@pytest.mark.parametrize("policy", OnHealthFailure)
@pytest.mark.parametrize("world", WORLDS)
def test_every_world_with_a_pace_keeps_every_law(world: str, policy: OnHealthFailure) -> None:
    """Slots grow and come back in whatever order, and every rollout still comes to an end."""
    report = explore(evolve(WORLDS[world], policy=policy))
    assert report.finding is None, report.finding
    assert report.is_complete


@pytest.mark.parametrize(
    ("planted", "bounds", "law", "moves"),
    [
        (planted_pace.budgets_hold_nobody(), WORLDS["a ramp"], Law.RAMP, 1),
        (planted_pace.budgets_hold_nobody(), WORLDS["one a minute"], Law.MINUTE, 1),
        (planted_pace.minutes_give_nothing_back(), WORLDS["one a minute"], Law.MINUTE, 2),
    ],
)
def test_a_broken_pace_is_found_by_the_shortest_path(
    planted: ReducerSet, bounds: Bounds, law: Law, moves: int
) -> None:
    """A host that begins too early, or a slot that does not come back, breaks its law at once."""
    finding = explore(bounds, planted).finding

    assert finding is not None
    assert (finding.law, len(finding.path)) == (law, moves)
