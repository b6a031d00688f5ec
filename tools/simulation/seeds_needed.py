"""Seeds needed per planted bug, for docs/explanation/quality.md. `python -m tools.simulation.seeds_needed [NAME…]`."""

import sys

import pytest

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.generate import draw
from tests.simulation.planted import PLANTED
from tests.simulation.planted_edges import PLANTED_AT_EDGES
from tests.simulation.planted_pace import PLANTED_IN_PACE
from tests.simulation.planted_policy import PLANTED_IN_POLICY
from tests.simulation.planted_steering import PLANTED_IN_STEERING

SEEDS_MAX = 2_000
HOSTS = 5
DAYS = 0.1


def main(names: list[str]) -> None:
    """Print, for each bug, the first seed that finds it, and what it broke."""
    plants = {
        **PLANTED,
        **PLANTED_AT_EDGES,
        **PLANTED_IN_POLICY,
        **PLANTED_IN_STEERING,
        **PLANTED_IN_PACE,
    }
    for name in names or plants:
        with pytest.MonkeyPatch.context() as patch:
            plants[name](patch)
            for seed in range(1, SEEDS_MAX + 1):
                broken = run(draw(seed, HOSTS, DAYS), rebuilds=False).broken
                if broken is not None:
                    print(
                        f"| {name.replace('_', ' ')} | {seed} | {broken.promise.value.partition(':')[0]} |",
                        flush=True,
                    )
                    print("   ", broken.found[:200], flush=True)
                    break
            else:
                print(f"| {name.replace('_', ' ')} | more than {SEEDS_MAX} | |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
