"""Random seeds. The first seed is printed before the runs; `nixfleet simulate --seed N` reproduces one."""

import secrets

import pytest

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.generate import draw

SEEDS = 10
HOSTS = 5
DAYS = 0.1


def test_under_all_faults_fresh_seeds_keep_every_promise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A little of the endless search, in every run of the tests."""
    first = secrets.randbits(48)
    with capsys.disabled():
        print(f"\n[simulated fleets from seed {first}]", flush=True)  # noqa: T201
    for seed in range(first, first + SEEDS):
        broken = run(draw(seed, HOSTS, DAYS)).broken

        assert broken is None, f"nixfleet simulate --seed {seed} --days {DAYS}: {broken}"
