"""Draws policies, and what they are for: hosts that are off or fail for a while, closures that do not come.

Only every second seed has any of it, so that the others give the histories that they always gave.
"""

from typing import Final

from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry, Tolerance
from nixfleet_simulation.scenario.acts import Act, Excuse, NoClosures, PowerOff, Skip, TryAgain
from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour
from nixfleet_simulation.scenario.randomness import Random, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout, PolicyLayout

POLICY_EVERY: Final = 2
"""One seed in this many has channels with a policy."""
PACE_EVERY: Final = 5
"""One seed in this many has channels whose budgets have a pace."""
TIMES_EVERY: Final = 13
"""One seed in this many has waves with a time."""
_OFF_SECONDS: Final = (600.0, 3600.0, 6 * 3600.0, 3 * 86_400.0)


def has_policy(seed: int) -> bool:
    """Return whether the channels of `seed` have policies."""
    return seed % POLICY_EVERY == 0


def with_policy(seed: int, channel: ChannelLayout) -> ChannelLayout:
    """Return `channel` with a policy, and with a budget that the failures that it tolerates leave open."""
    rng = stream(seed, "policy", channel.name)
    policy = PolicyLayout(
        tolerance=_tolerance(rng),
        of_waves=tuple(
            _tolerance(rng) if rng.random() < 0.4 else Tolerance() for _ in channel.waves
        ),
        deadlines=Deadlines(
            ack=_deadline(rng, (2, 5, 20)),
            activation=_deadline(rng, (1, 3, 10)),
            reboot=_deadline(rng, (2, 10, 30)),
            convergence=_deadline(rng, (channel.soak_minutes + 1, channel.soak_minutes + 6)),
        ),
        retry=Retry(rng.choice((1, 2, 2, 3)), rng.choice((0, 30, 120, 600)), rng.choice((1, 2, 3))),
    )
    # Under `halt` a tolerated host keeps its slot; `release check` refuses tolerances that take all of them.
    halts = channel.on_health_failure is OnHealthFailure.HALT
    return evolve(channel, policy=policy, max_in_flight=None if halts else channel.max_in_flight)


def has_times(seed: int) -> bool:
    """Return whether the waves of `seed` have times before which they do not begin."""
    return seed % TIMES_EVERY == TIMES_EVERY - 1


def with_times(seed: int, channel: ChannelLayout) -> ChannelLayout:
    """Return `channel` with a time of each wave, in order; the first one often begins at once."""
    rng = stream(seed, "times", channel.name)
    begins = sorted(rng.choice((0, 0, 120, 600, 1200)) for _ in channel.waves)
    return evolve(channel, begins_after_seconds=tuple(begins))


def has_pace(seed: int) -> bool:
    """Return whether the budgets of `seed` have a pace."""
    return seed % PACE_EVERY == PACE_EVERY - 1


def with_pace(seed: int, channel: ChannelLayout) -> ChannelLayout:
    """Return `channel` with a ramp, a number of beginnings in a minute, or both."""
    rng = stream(seed, "ramps", channel.name)
    limit = len(channel.hosts) if channel.max_in_flight is None else channel.max_in_flight
    ramp = rng.randint(1, max(1, limit - 1)), rng.choice((1, 2, 2, 3))
    per_minute = rng.choice((1, 1, 2, 3))
    which = rng.choice(("ramp", "minute", "both"))
    return evolve(
        channel,
        ramp=None if which == "minute" else ramp,
        per_minute=None if which == "ramp" else per_minute,
    )


def failing_for_a_while(rng: Random, behaviour: ClosureBehaviour) -> ClosureBehaviour:
    """Return `behaviour`, or one that is over after some switches: the host failed for reasons of its own."""
    return evolve(behaviour, times=rng.choice((0, 1, 1, 2)))


def of_absence(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return an absence of a host, or of its closures."""
    host = rng.choice([host for channel in channels for host in channel.hosts])
    if rng.random() < 0.4:
        return NoClosures(at, host, rng.uniform(60, 3600))
    return PowerOff(at, host, rng.choice(_OFF_SECONDS) * rng.uniform(0.5, 1.5))


def of_policy(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return what an operator does about a host."""
    channel = rng.choice(channels)
    host = rng.choice(channel.hosts)
    what = rng.choice(("excuse", "skip", "skip", "try again", "try again"))
    if what == "excuse":
        return Excuse(at, channel.name, host)
    if what == "skip":
        return Skip(at, channel.name, host)
    return TryAgain(at, channel.name, host if rng.random() < 0.5 else "")


def _tolerance(rng: Random) -> Tolerance:
    return Tolerance(rng.choice((None, None, 0, 1, 1, 2)), rng.choice((None, None, 34, 50, 100)))


def _deadline(rng: Random, minutes: tuple[int, ...]) -> Deadline | None:
    chosen = Deadline(rng.choice(minutes), rng.choice(tuple(AtDeadline)))
    return chosen if rng.random() < 0.6 else None
