"""A simulation that finds nothing may be blind: each planted bug is found, by a seed that is written down."""

from collections.abc import Callable

import pytest

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.generate import draw
from tests.simulation.planted import FOUND_BY, PLANTED
from tests.simulation.planted_calendar import (
    DIRECTED_IN_CALENDARS,
    FOUND_BY_IN_CALENDARS,
    PLANTED_IN_CALENDARS,
)
from tests.simulation.planted_directed import DIRECTED, Directed
from tests.simulation.planted_edges import FOUND_BY_AT_EDGES, PLANTED_AT_EDGES
from tests.simulation.planted_guards import (
    DIRECTED_IN_GUARDS,
    FOUND_BY_IN_GUARDS,
    PLANTED_IN_GUARDS,
)
from tests.simulation.planted_pace import FOUND_BY_IN_PACE, PLANTED_IN_PACE
from tests.simulation.planted_people import FOUND_BY_FOR_PEOPLE, PLANTED_FOR_PEOPLE
from tests.simulation.planted_policy import FOUND_BY_IN_POLICY, PLANTED_IN_POLICY
from tests.simulation.planted_steering import (
    DIRECTED_IN_STEERING,
    FOUND_BY_IN_STEERING,
    PLANTED_IN_STEERING,
)

HOSTS = 5
DAYS = 0.1
SEEDS_TRIED = 12
"""A change of the code changes a seed's trace; a seed nearby usually finds the same bug."""


ALL_PLANTED = {
    **PLANTED,
    **PLANTED_AT_EDGES,
    **PLANTED_IN_POLICY,
    **PLANTED_IN_STEERING,
    **PLANTED_IN_PACE,
    **PLANTED_IN_CALENDARS,
    **PLANTED_IN_GUARDS,
    **PLANTED_FOR_PEOPLE,
}
ALL_FOUND_BY = {
    **FOUND_BY,
    **FOUND_BY_AT_EDGES,
    **FOUND_BY_IN_POLICY,
    **FOUND_BY_IN_STEERING,
    **FOUND_BY_IN_PACE,
    **FOUND_BY_IN_CALENDARS,
    **FOUND_BY_IN_GUARDS,
    **FOUND_BY_FOR_PEOPLE,
}


@pytest.mark.parametrize("plant", ALL_PLANTED.values(), ids=ALL_PLANTED)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some promise is broken, not long after the seed that found it first."""
    plant(monkeypatch)
    first = ALL_FOUND_BY[plant.__name__]
    outcomes = (run(draw(seed, HOSTS, DAYS)) for seed in range(first, first + SEEDS_TRIED))

    assert any(outcome.broken is not None for outcome in outcomes), plant.__doc__


ALL_DIRECTED = {
    **DIRECTED,
    **DIRECTED_IN_CALENDARS,
    **DIRECTED_IN_GUARDS,
    **DIRECTED_IN_STEERING,
}


@pytest.mark.parametrize("directed", ALL_DIRECTED.values(), ids=ALL_DIRECTED)
def test_a_planted_bug_that_few_seeds_find_is_found_by_its_scenario(
    directed: Directed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same scenario breaks nothing without the bug."""
    assert run(directed.scenario).broken is None

    directed.plant(monkeypatch)
    assert run(directed.scenario).broken is not None, directed.plant.__doc__
