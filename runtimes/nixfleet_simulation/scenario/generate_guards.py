"""Draws guards of waves, what operators state of them, and what judges say.

Only some seeds have any of it, so that the others give the histories that they always gave.
"""

from typing import Final

from attrs import evolve

from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_simulation.scenario.acts import Act
from nixfleet_simulation.scenario.randomness import Random, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout
from nixfleet_simulation.scenario.steering_acts import JudgeSays, Says, StateAgain, StateOn, Twist

GUARDS_EVERY: Final = 11
"""One seed in this many has guards."""
OPERATORS: Final = ("ada", "bob", "cyd")
GUARDED_SHARE: Final = 0.7
STATED_EVERY_SECONDS: Final = 150
"""Operators state something so often, on average, since releases follow each other within minutes."""


def has_guards(seed: int) -> bool:
    """Return whether waves of `seed` have guards."""
    return seed % GUARDS_EVERY == GUARDS_EVERY - 1


def with_guards(seed: int, channel: ChannelLayout) -> ChannelLayout:
    """Return `channel` with guards of some of its waves."""
    rng = stream(seed, "guards of waves", channel.name)
    guards = tuple(
        _guards(rng) if rng.random() < GUARDED_SHARE else WaveGuards() for _ in channel.waves
    )
    return evolve(channel, guards=guards)


def of_guards(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return what an operator states, or what a judge says from now on."""
    channel = rng.choice(channels).name
    what = rng.choice(("approve",) * 6 + ("twist", "deny", "promote", "again", "judge", "judge"))
    # Some sleep: not all state something.
    names = tuple(rng.sample(OPERATORS, rng.choice((1, 1, 2, 3))))
    match what:
        case "judge":
            return JudgeSays(at, channel, rng.choice((Says.PASS, Says.PASS, *Says)))
        case "again":
            return StateAgain(at, rng.choice((1, 2, 3, 8)))
        case "deny":
            return StateOn(at, channel, names[:1], Decision.DENY)
        case "promote":
            return StateOn(at, channel, names[:1], Decision.PROMOTE)
        case "twist":
            twist = rng.choice([each for each in Twist if each is not Twist.NONE])
            decision = rng.choice(
                (Decision.APPROVE, Decision.APPROVE, Decision.DENY, Decision.PROMOTE)
            )
            return StateOn(at, channel, names, decision, twist)
        case _:
            return StateOn(at, channel, names, Decision.APPROVE, again=rng.random() < 0.3)


def _guards(rng: Random) -> WaveGuards:
    names = tuple(rng.sample(OPERATORS, rng.choice((1, 2, 3))))
    approvals = Approvals(rng.randint(1, len(names)), names) if rng.random() < 0.5 else None
    checks = tuple(_check(rng, number) for number in range(rng.choice((0, 0, 1, 1, 2))))
    drawn = WaveGuards(rng.choice((0, 0, 1, 3, 8)), approvals, checks)
    waivable = tuple(name for name in drawn.names if rng.random() < 0.4)
    return evolve(drawn, waivable=waivable)


def _check(rng: Random, number: int) -> Check:
    return Check(
        f"check-{number}",
        "prometheus",
        "up",
        "== 1",
        rng.choice((1, 2, 3)),
        rng.choice((0, 1)),
        rng.choice((None, 0, 2)),
        rng.choice((5, 30, 60)),
    )
