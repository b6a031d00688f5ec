"""Histories in which a promise broke once. What was found by a seed is here as the few acts that it takes."""

from typing import Final

import pytest

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.acts import CONTROL_PLANE, LoseDisk, Release
from nixfleet_simulation.scenario.generate import draw
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario

ONE_HOST: Final = (ChannelLayout("stable", (("host-01",),), soak_minutes=0),)


def test_a_host_whose_first_facts_both_sides_lost_begins_its_rollout_anew() -> None:
    """Its new journal took over what the control plane knew, which then lost that too. It was held as two machines."""
    acts = (
        Release(10, "stable", "r1", "stable-r1"),
        LoseDisk(600, "host-01", 350),
        LoseDisk(1800, CONTROL_PLANE, 600),
    )

    outcome = run(Scenario(5010, ONE_HOST, acts, 3600, real_signatures=False))

    assert outcome.broken is None
    assert outcome.facts > 6


@pytest.mark.parametrize("seed", [7622, 11406, 12275, 700081, 700122])
def test_a_seed_that_broke_a_promise_keeps_it(seed: int) -> None:
    """7622: a wave was denied before the first dispatch, and with that all others of the same plan were made.

    11406: all hosts were excused before the first dispatch, which completed the rollout; the others were made too.

    12275: a host with a full disk went back by an order that expired while its commit waited.

    700081: a host converged by the times of a lie, and by a clock that was set back since it acknowledged.

    700122: a host waited for one that was skipped while the rollout was still held by another channel.
    """
    assert run(draw(seed, 5, 0.1)).broken is None
