"""Draws how operators end rollouts by hand.

Only some seeds have any of it, so that the others give the histories that they always gave.
"""

from typing import Final

from nixfleet_simulation.scenario.acts import Abort, Act
from nixfleet_simulation.scenario.randomness import Random
from nixfleet_simulation.scenario.scenario import ChannelLayout

STEERING_EVERY: Final = 4
"""One seed in this many has operators who end rollouts."""


def has_steering(seed: int) -> bool:
    """Return whether operators end rollouts of `seed`."""
    return seed % STEERING_EVERY == STEERING_EVERY - 1


def of_steering(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return an end that an operator makes."""
    return Abort(at, rng.choice(channels).name)
