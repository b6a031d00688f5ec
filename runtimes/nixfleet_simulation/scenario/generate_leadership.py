"""Draws the acts of several control planes on one store: half of them hit the one that serves."""

from nixfleet_simulation.scenario.leadership_acts import (
    CONTROL_PLANES,
    LEADER,
    CutFromStore,
    EndProcess,
    LeadershipAct,
    RestartStore,
    StandStill,
    Way,
)
from nixfleet_simulation.scenario.randomness import Random
from nixfleet_simulation.scenario.scenario import ChannelLayout

LEADERSHIP_ACT_EVERY_SECONDS = 90
"""The mean time between two of them. A takeover takes seconds, so most happen to a pair that has settled."""


def of_leadership(rng: Random, _: tuple[ChannelLayout, ...], at: float) -> LeadershipAct:
    """Return an act at `at`."""
    node = rng.choice((LEADER, LEADER, *CONTROL_PLANES))
    for_seconds = rng.choice((0.5, 2.0, 3.0, 3.3, 5.0, 20.0)) * rng.uniform(0.9, 1.1)
    kind = rng.random()
    if kind < 0.3:
        return StandStill(at, node, for_seconds)
    if kind < 0.75:
        return CutFromStore(at, node, rng.choice(tuple(Way)), for_seconds)
    if kind < 0.92:
        return EndProcess(at, node, rng.random() < 0.4, for_seconds)
    return RestartStore(at, for_seconds)
