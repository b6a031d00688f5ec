"""Two control planes on one store: every promise holds, and each planted bug is found."""

import secrets

import pytest

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.family import Family
from nixfleet_simulation.scenario.generate import draw
from tests.simulation.planted_leadership import PLANTED, Plant

HOSTS = 4
DAYS = 0.05
LEADERSHIP = frozenset({Family.LEADERSHIP})
SEEDS_TRIED = 6
"""A change of the code changes a seed's trace; a seed nearby usually finds the same bug."""


def test_under_all_faults_two_control_planes_keep_every_promise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fresh seed in every run of the tests; it is printed first."""
    seed = secrets.randbits(48)
    with capsys.disabled():
        print(f"\n[two control planes from seed {seed}]", flush=True)  # noqa: T201
    broken = run(draw(seed, HOSTS, DAYS, control_planes=2)).broken
    how = f"nixfleet simulate --seed {seed} --hosts {HOSTS} --days {DAYS} --control-planes 2"
    assert broken is None, f"{how}: {broken}"


def test_two_control_planes_take_over_from_each_other() -> None:
    """The scenarios are not idle: leases are taken often, facts come, and one seed gives one trace."""
    scenario = draw(3, HOSTS, DAYS / 3, LEADERSHIP, control_planes=2)
    outcome, again = run(scenario, keeps_lines=True), run(scenario)
    takes = [text for _, who, text in outcome.trace.story if who == "store" and "gives" in text]
    assert len(takes) > 5
    assert outcome.facts > 100
    assert outcome.trace.digest() == again.trace.digest()


@pytest.mark.parametrize(("plant", "first"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_bug_of_leadership_is_found(
    plant: Plant, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some promise is broken, not long after the seed that found it first."""
    plant(monkeypatch)
    outcomes = (
        run(draw(seed, HOSTS, DAYS, LEADERSHIP, control_planes=2), rebuilds=False)
        for seed in range(first, first + SEEDS_TRIED)
    )
    assert any(outcome.broken is not None for outcome in outcomes), plant.__doc__
