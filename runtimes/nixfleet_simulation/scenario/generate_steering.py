"""Draws how operators end rollouts by hand, and releases that cut hosts off.

Only some seeds have any of it, so that the others give the histories that they always gave.
"""

from typing import Final

from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.policy import Recall
from nixfleet_simulation.scenario.acts import Abort, Act, RecallRelease, Release
from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour
from nixfleet_simulation.scenario.randomness import Random, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout

GRANTED_SHARE: Final = 0.7
CUTTING_SHARE: Final = 0.5
"""The share of releases of own closures that cut a host off."""
STEERING_EVERY: Final = 4
"""One seed in this many has operators who end rollouts."""


def has_steering(seed: int) -> bool:
    """Return whether operators end rollouts of `seed`."""
    return seed % STEERING_EVERY == STEERING_EVERY - 1


def cutting_off(rng: Random, channel: ChannelLayout, release: Release) -> Release:
    """Return `release`, or one that cuts a host off, which is otherwise good, and can go back by itself."""
    host, cuts = rng.choice(channel.hosts), rng.random() < CUTTING_SHARE
    goes_back = channel.on_health_failure is OnHealthFailure.ROLLBACK_AND_HALT
    # A closure of its own has not run before, and another release does not bring it as a good one.
    if not (cuts and goes_back) or release.closure:
        return release
    others = [(name, each) for name, each in release.behaviours if name != host]
    cut = (host, ClosureBehaviour(cuts_network=True))
    return evolve(release, behaviours=(*others, cut))


def of_steering(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return an end that an operator makes."""
    channel = rng.choice(channels)
    if rng.random() < 0.3:
        return Abort(at, channel.name)
    host = rng.choice(("", rng.choice(channel.hosts)))
    return RecallRelease(at, channel.name, host, rng.choice((60.0, 600.0, 7200.0)))


def with_steering(seed: int, channel: ChannelLayout) -> ChannelLayout:
    """Return `channel`, mostly with a policy that grants recalls."""
    granted = stream(seed, "recall", channel.name).random() < GRANTED_SHARE
    return evolve(channel, recall=Recall.OPERATOR if granted else Recall.NEVER)
