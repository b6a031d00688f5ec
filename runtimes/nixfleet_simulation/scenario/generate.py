"""Draws a scenario from a seed: the fleet, the releases, and trouble of every family that is asked for.

Trouble comes in proportion to the time; each family has a stream of its own, so that leaving one out changes
nothing in the others.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Final

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_simulation.scenario.acts import (
    CONTROL_PLANE,
    Act,
    Boundary,
    Clear,
    ClockJump,
    Crash,
    Direction,
    Family,
    ForgeAnswers,
    ForgedRelease,
    Forgery,
    FullDisk,
    LoseDisk,
    Partition,
    Pause,
    Reboot,
    Release,
    Retire,
    Revoke,
    RotateKey,
    SlowDisk,
    StopSigning,
    Weather,
)
from nixfleet_simulation.scenario.closure_behaviour import Conduct, Health, RollbackWay, SwitchWay
from nixfleet_simulation.scenario.randomness import Chance, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario

ALL_FAULTS: Final = frozenset(Family) - {Family.RELEASE}
RELEASE_EVERY_SECONDS: Final = (10 * 60, 20 * 60, 40 * 60)
TROUBLE_EVERY_SECONDS: Final = (7 * 60, 15 * 60, 30 * 60)
"""How often trouble of one family comes, on average: some fleets have a wild life, some a quiet one."""
DAY_SECONDS: Final = 86_400
ODD_SHARE: Final = 0.3
"""How many closures do not behave."""

_SWITCHES = tuple(way for way in SwitchWay if way is not SwitchWay.WORKS)
_HEALTHS = tuple(health for health in Health if health is not Health.GOOD)


def draw(seed: int, hosts: int, days: float, faults: Collection[Family] = ALL_FAULTS) -> Scenario:
    """Return the scenario of `seed`. faults: the families of trouble that may come."""
    channels = _channels(stream(seed, "fleet"), hosts)
    seconds = days * DAY_SECONDS
    acts: list[Act] = list(_releases(seed, channels, seconds, faults))
    every = stream(seed, "pace").choice(TROUBLE_EVERY_SECONDS)
    for family, draw_one in _FAMILIES.items():
        if family in faults:
            acts += _troubles(stream(seed, family.value), channels, seconds, every, draw_one)
    acts.sort(key=lambda act: act.at_seconds)
    return Scenario(seed, channels, tuple(acts), seconds)


# The fleet.


def _channels(chance: Chance, hosts: int) -> tuple[ChannelLayout, ...]:
    names = [f"host-{number:02}" for number in range(1, hosts + 1)]
    two = hosts >= 4 and chance.random() < 0.4
    cut = hosts // 2 if two else hosts
    first = _channel(chance, "stable", names[:cut], ())
    if not two:
        return (first,)
    after = ("stable",) if chance.random() < 0.5 else ()
    return first, _channel(chance, "edge", names[cut:], after)


def _channel(chance: Chance, name: str, hosts: list[str], after: tuple[str, ...]) -> ChannelLayout:
    waves = _waves(chance, hosts)
    edges = tuple((wave[0], wave[1]) for wave in waves if len(wave) > 1 and chance.random() < 0.25)
    return ChannelLayout(
        name,
        waves,
        soak_minutes=chance.choice((0, 1, 3, 5)),
        max_in_flight=chance.choice((None, 1, 1, 2)),
        edges=edges,
        on_health_failure=chance.choice(
            (OnHealthFailure.HALT, *(OnHealthFailure.ROLLBACK_AND_HALT,) * 3)
        ),
        after=after,
    )


def _waves(chance: Chance, hosts: list[str]) -> tuple[tuple[str, ...], ...]:
    count = min(len(hosts), chance.choice((1, 2, 2, 3)))
    cuts = sorted(chance.sample(range(1, len(hosts)), count - 1))
    bounds = (0, *cuts, len(hosts))
    return tuple(tuple(hosts[begin:end]) for begin, end in pairwise(bounds))


# Releases.


def _releases(
    seed: int, channels: tuple[ChannelLayout, ...], seconds: float, faults: Collection[Family]
) -> Iterator[Release]:
    for channel in channels:
        chance = stream(seed, "releases", channel.name)
        at, number, every = chance.uniform(5, 300), 0, chance.choice(RELEASE_EVERY_SECONDS)
        closures: list[str] = []
        while at < seconds:
            number += 1
            yield _release(chance, channel, at, number, closures, faults)
            at += chance.expovariate(1 / every) + 60


def _release(
    chance: Chance,
    channel: ChannelLayout,
    at: float,
    number: int,
    closures: list[str],
    faults: Collection[Family],
) -> Release:
    ref = f"r{number}"
    closure = chance.choice(("", f"{channel.name}-{ref}", *closures[-2:]))
    is_new = closure not in closures
    if closure and is_new:
        closures.append(closure)
    conducts = {host: _conduct(chance) for host in channel.hosts}
    odd = {
        host: _as_asked(conduct, faults)
        for host, conduct in conducts.items()
        if chance.random() < ODD_SHARE
    }
    return Release(at, channel.name, ref, closure, tuple(odd.items()) if is_new else ())


def _conduct(chance: Chance) -> Conduct:
    switch = chance.choice(_SWITCHES) if chance.random() < 0.5 else SwitchWay.WORKS
    rollback = chance.choice((*(RollbackWay.WORKS,) * 4, RollbackWay.FAILS, RollbackWay.HANGS))
    health = chance.choice(_HEALTHS) if chance.random() < 0.6 else Health.GOOD
    return Conduct(switch, rollback, health)


def _as_asked(conduct: Conduct, faults: Collection[Family]) -> Conduct:
    usual = Conduct()
    is_host, is_probe = Family.HOST in faults, Family.PROBE in faults
    return Conduct(
        conduct.switch if is_host else usual.switch,
        conduct.rollback if is_host else usual.rollback,
        conduct.health if is_probe else usual.health,
    )


# Trouble.

_Draw = Callable[[Chance, tuple[ChannelLayout, ...], float], Act]


def _troubles(
    chance: Chance,
    channels: tuple[ChannelLayout, ...],
    seconds: float,
    every: float,
    draw_one: _Draw,
) -> Iterator[Act]:
    at = chance.expovariate(1 / every)
    while at < seconds:
        yield draw_one(chance, channels, at)
        at += chance.expovariate(1 / every)


def _hosts(channels: tuple[ChannelLayout, ...]) -> list[str]:
    return [host for channel in channels for host in channel.hosts]


def _node(chance: Chance, channels: tuple[ChannelLayout, ...]) -> str:
    return CONTROL_PLANE if chance.random() < 0.4 else chance.choice(_hosts(channels))


def _of_operator(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    channel = chance.choice(channels).name
    what = chance.choice(
        ("pause", "pause", "clear", "clear", "clear everybody", "retire", "revoke")
    )
    if what == "pause":
        return Pause(at, channel, chance.random() < 0.5, chance.uniform(20, 1500))
    if what == "revoke":
        return Revoke(at, chance.choice(_hosts(channels)), chance.uniform(60, 1800))
    if what == "retire":
        return Retire(at, channel)
    return Clear(at, channel, everybody=what == "clear everybody")


def _of_ci(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    what = chance.choice(("forged", "forged", "rotate", "stop", "answers", "answers"))
    if what == "forged":
        return ForgedRelease(at, chance.choice(channels).name, chance.choice(tuple(Forgery)))
    if what == "rotate":
        return RotateKey(at, chance.random() < 0.4)
    if what == "stop":
        return StopSigning(at, chance.uniform(3, 6) * 3600)
    return ForgeAnswers(at, chance.choice(_hosts(channels)), chance.uniform(60, 900))


def _of_network(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    host = "" if chance.random() < 0.3 else chance.choice(_hosts(channels))
    lasts = chance.uniform(10, 900)
    if chance.random() < 0.35:
        return Partition(at, host, lasts, chance.choice(tuple(Direction)))
    return Weather(
        at,
        host,
        lasts,
        lost=chance.choice((0.0, 0.1, 0.4)),
        repeated=chance.choice((0.0, 0.1, 0.4)),
        late_seconds=chance.choice((0.0, 1.0, 20.0, 60.0)),
    )


def _of_clock(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    by = chance.choice((1, 5, 20, 45, 300)) * chance.choice((-1, 1))
    return ClockJump(at, _node(chance, channels), by, chance.uniform(60, 1800))


def _of_disk(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    kind = chance.choice((FullDisk, SlowDisk))
    return kind(at, _node(chance, channels), chance.uniform(5, 600))


def _of_process(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    node = _node(chance, channels)
    if chance.random() < 0.1:
        return LoseDisk(at, node, chance.uniform(300, 900))
    boundary = chance.choice(tuple(Boundary))
    back = chance.choice((1.0, 5.0, 60.0, 600.0))
    return Crash(at, node, boundary, back, write_survives=chance.random() < 0.5)


def _of_host(chance: Chance, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    return Reboot(at, chance.choice(_hosts(channels)), chance.uniform(20, 300))


_FAMILIES: Final[dict[Family, _Draw]] = {
    Family.OPERATOR: _of_operator,
    Family.CI: _of_ci,
    Family.NETWORK: _of_network,
    Family.CLOCK: _of_clock,
    Family.DISK: _of_disk,
    Family.PROCESS: _of_process,
    Family.HOST: _of_host,
}
