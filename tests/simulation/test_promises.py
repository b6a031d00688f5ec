"""Fixed seeds: every promise holds under all faults."""

import pytest

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.family import Family
from nixfleet_simulation.scenario.generate import ALL_FAULTS, draw


@pytest.mark.parametrize("seed", range(1, 9))
def test_under_all_faults_every_promise_holds(seed: int) -> None:
    """A quarter of a day in a life with everything in it."""
    outcome = run(draw(seed, 5, 0.25))

    assert outcome.broken is None


@pytest.mark.parametrize("family", sorted(ALL_FAULTS))
def test_under_one_kind_of_fault_every_promise_holds(family: Family) -> None:
    """Each kind of trouble alone."""
    control_planes = 2 if family is Family.LEADERSHIP else 1
    outcome = run(draw(1, 5, 0.1, frozenset({family}), control_planes))

    assert outcome.broken is None
    assert outcome.facts
