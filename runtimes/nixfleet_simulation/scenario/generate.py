"""Draws a scenario from a seed: the fleet, the releases, and faults of the given families.

The number of faults is proportional to the time. Each family has its own random stream, so that leaving one out
changes nothing in the others.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Final

from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_simulation.scenario.acts import (
    CONTROL_PLANE,
    Act,
    Boundary,
    Clear,
    ClockJump,
    Crash,
    Direction,
    ForgeAnswers,
    ForgedRelease,
    Forgery,
    FullDisk,
    LoseDisk,
    LossyNetwork,
    Partition,
    Pause,
    Reboot,
    Release,
    Retire,
    Revoke,
    RotateKey,
    SlowDisk,
    StopSigning,
    TakeOver,
)
from nixfleet_simulation.scenario.closure_behaviour import (
    ClosureBehaviour,
    Health,
    RollbackResult,
    SwitchResult,
)
from nixfleet_simulation.scenario.family import Family
from nixfleet_simulation.scenario.generate_calendar import (
    calendar_acts,
    calendar_of,
    has_calendar,
    start_of,
)
from nixfleet_simulation.scenario.generate_guards import (
    STATED_EVERY_SECONDS,
    has_guards,
    of_guards,
    with_guards,
)
from nixfleet_simulation.scenario.generate_hostile import (
    of_exchange,
    of_identity,
    of_proxy,
    of_wire,
)
from nixfleet_simulation.scenario.generate_leadership import (
    LEADERSHIP_ACT_EVERY_SECONDS,
    of_leadership,
)
from nixfleet_simulation.scenario.generate_policy import (
    failing_for_a_while,
    has_pace,
    has_policy,
    has_times,
    of_absence,
    of_policy,
    with_pace,
    with_policy,
    with_times,
)
from nixfleet_simulation.scenario.generate_steering import (
    cutting_off,
    has_steering,
    of_steering,
    with_steering,
)
from nixfleet_simulation.scenario.randomness import Random, stream
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario

ALL_FAULTS: Final = frozenset(Family) - {Family.RELEASE}
RELEASE_EVERY_SECONDS: Final = (10 * 60, 20 * 60, 40 * 60)
FAULT_EVERY_SECONDS: Final = (7 * 60, 15 * 60, 30 * 60)
"""The mean time between faults of one family, drawn for each fleet: some have many faults, some few."""
TAKEOVER_EVERY_SECONDS: Final = 90 * 60
"""Rarer than other faults: what an honest control plane must keep is judged in between."""
DAY_SECONDS: Final = 86_400
REAL_SIGNATURES_EVERY: Final = 8
"""One seed in this many signs its requests with ed25519; a keyed hash stands for it in the others."""
FAULTY_SHARE: Final = 0.3
"""The share of faulty closures."""

_SWITCHES = tuple(way for way in SwitchResult if way is not SwitchResult.WORKS)
# A failing probe that decides nothing finds no fault.
_HEALTHS = tuple(it for it in Health if it not in (Health.GOOD, Health.OBSERVED_FAILS))


def draw(
    seed: int,
    hosts: int,
    days: float,
    faults: Collection[Family] = ALL_FAULTS,
    control_planes: int = 1,
) -> Scenario:
    """Return the scenario of `seed`. faults: the families of faults to draw. control_planes: one or two on a store."""
    channels = _channels(stream(seed, "fleet"), hosts)
    if has_policy(seed):
        channels = tuple(with_policy(seed, channel) for channel in channels)
    if has_pace(seed):
        channels = tuple(with_pace(seed, channel) for channel in channels)
    if has_times(seed):
        channels = tuple(with_times(seed, channel) for channel in channels)
    if has_steering(seed):
        channels = tuple(with_steering(seed, channel) for channel in channels)
    if has_guards(seed):
        channels = tuple(with_guards(seed, channel) for channel in channels)
    seconds = days * DAY_SECONDS
    acts: list[Act] = list(_releases(seed, channels, seconds, faults))
    every = stream(seed, "pace").choice(FAULT_EVERY_SECONDS)
    for family, draw_one in _FAMILIES.items():
        if family in faults and _has(seed, family):
            mean = TAKEOVER_EVERY_SECONDS if family is Family.TAKEOVER else every
            acts += _faults(stream(seed, family.value), channels, seconds, mean, draw_one)
    if Family.CALENDAR in faults and has_calendar(seed):
        draw_one = calendar_acts(seed, seconds)
        acts += _faults(stream(seed, Family.CALENDAR), channels, seconds, every, draw_one)
    if Family.GUARDS in faults and has_guards(seed):
        often = STATED_EVERY_SECONDS
        acts += _faults(stream(seed, Family.GUARDS), channels, seconds, often, of_guards)
    if control_planes > 1:
        acts = [act for act in acts if not _ends_the_log(act)]
        if Family.LEADERSHIP in faults:
            rng, mean = stream(seed, Family.LEADERSHIP), LEADERSHIP_ACT_EVERY_SECONDS
            acts += _faults(rng, channels, seconds, mean, of_leadership)
    acts.sort(key=lambda act: act.at_seconds)
    scenario = Scenario(
        seed,
        channels,
        tuple(acts),
        seconds,
        enrolling=_enrolling(stream(seed, "identities"), channels),
        real_signatures=seed % REAL_SIGNATURES_EVERY == 0,
        watches_home=has_steering(seed),
        control_planes=control_planes,
    )
    if not has_calendar(seed):
        return scenario
    calendar = calendar_of(seed, channels, seconds)
    return evolve(scenario, calendar=calendar, starts_at=start_of(seed, seconds))


def _ends_the_log(act: Act) -> bool:
    """Return whether the log that several control planes share would begin anew, which one alone is judged by."""
    return isinstance(act, TakeOver) or (isinstance(act, LoseDisk) and act.node == CONTROL_PLANE)


def _has(seed: int, family: Family) -> bool:
    if family is Family.STEERING:
        return has_steering(seed)
    return family not in _OF_POLICIES or has_policy(seed)


# The fleet.


def _enrolling(rng: Random, channels: tuple[ChannelLayout, ...]) -> tuple[str, ...]:
    share = rng.choice((0.0, 0.3, 1.0))
    return tuple(host for host in _hosts(channels) if rng.random() < share)


def _channels(rng: Random, hosts: int) -> tuple[ChannelLayout, ...]:
    names = [f"host-{number:02}" for number in range(1, hosts + 1)]
    two = hosts >= 4 and rng.random() < 0.4
    cut = hosts // 2 if two else hosts
    first = _channel(rng, "stable", names[:cut], ())
    if not two:
        return (first,)
    after = ("stable",) if rng.random() < 0.5 else ()
    return first, _channel(rng, "edge", names[cut:], after)


def _channel(rng: Random, name: str, hosts: list[str], after: tuple[str, ...]) -> ChannelLayout:
    waves = _waves(rng, hosts)
    edges = tuple((wave[0], wave[1]) for wave in waves if len(wave) > 1 and rng.random() < 0.25)
    return ChannelLayout(
        name,
        waves,
        soak_minutes=rng.choice((0, 1, 3, 5)),
        max_in_flight=rng.choice((None, 1, 1, 2)),
        edges=edges,
        on_health_failure=rng.choice(
            (OnHealthFailure.HALT, *(OnHealthFailure.ROLLBACK_AND_HALT,) * 3)
        ),
        after=after,
    )


def _waves(rng: Random, hosts: list[str]) -> tuple[tuple[str, ...], ...]:
    count = min(len(hosts), rng.choice((1, 2, 2, 3)))
    cuts = sorted(rng.sample(range(1, len(hosts)), count - 1))
    bounds = (0, *cuts, len(hosts))
    return tuple(tuple(hosts[begin:end]) for begin, end in pairwise(bounds))


# Releases.


def _releases(
    seed: int, channels: tuple[ChannelLayout, ...], seconds: float, faults: Collection[Family]
) -> Iterator[Release]:
    for channel in channels:
        rng = stream(seed, "releases", channel.name)
        networks = stream(seed, "networks", channel.name)
        hosts_own = stream(seed, "hosts' own reasons", channel.name)
        at, number, every = rng.uniform(5, 300), 0, rng.choice(RELEASE_EVERY_SECONDS)
        closures: list[str] = []
        while at < seconds:
            number += 1
            release = _release(rng, channel, at, number, closures, faults)
            if has_policy(seed):
                release = _failing_for_a_while(hosts_own, release)
            yield cutting_off(networks, channel, release) if has_steering(seed) else release
            at += rng.expovariate(1 / every) + 60


def _release(
    rng: Random,
    channel: ChannelLayout,
    at: float,
    number: int,
    closures: list[str],
    faults: Collection[Family],
) -> Release:
    ref = f"r{number}"
    closure = rng.choice(("", f"{channel.name}-{ref}", *closures[-2:]))
    is_new = closure not in closures
    if closure and is_new:
        closures.append(closure)
    behaviours = {host: _behaviour(rng) for host in channel.hosts}
    odd = {
        host: _as_asked(behaviour, faults)
        for host, behaviour in behaviours.items()
        if rng.random() < FAULTY_SHARE
    }
    return Release(at, channel.name, ref, closure, tuple(odd.items()) if is_new else ())


def _failing_for_a_while(rng: Random, release: Release) -> Release:
    behaviours = ((host, failing_for_a_while(rng, each)) for host, each in release.behaviours)
    return evolve(release, behaviours=tuple(behaviours))


def _behaviour(rng: Random) -> ClosureBehaviour:
    switch = rng.choice(_SWITCHES) if rng.random() < 0.5 else SwitchResult.WORKS
    rollback = rng.choice(
        (*(RollbackResult.WORKS,) * 4, RollbackResult.FAILS, RollbackResult.HANGS)
    )
    health = rng.choice(_HEALTHS) if rng.random() < 0.6 else Health.GOOD
    return ClosureBehaviour(switch, rollback, health)


def _as_asked(behaviour: ClosureBehaviour, faults: Collection[Family]) -> ClosureBehaviour:
    usual = ClosureBehaviour()
    is_host, is_probe = Family.HOST in faults, Family.PROBE in faults
    return ClosureBehaviour(
        behaviour.switch if is_host else usual.switch,
        behaviour.rollback if is_host else usual.rollback,
        behaviour.health if is_probe else usual.health,
    )


# Trouble.

_Draw = Callable[[Random, tuple[ChannelLayout, ...], float], Act]


def _faults(
    rng: Random,
    channels: tuple[ChannelLayout, ...],
    seconds: float,
    every: float,
    draw_one: _Draw,
) -> Iterator[Act]:
    at = rng.expovariate(1 / every)
    while at < seconds:
        yield draw_one(rng, channels, at)
        at += rng.expovariate(1 / every)


def _hosts(channels: tuple[ChannelLayout, ...]) -> list[str]:
    return [host for channel in channels for host in channel.hosts]


def _node(rng: Random, channels: tuple[ChannelLayout, ...]) -> str:
    return CONTROL_PLANE if rng.random() < 0.4 else rng.choice(_hosts(channels))


def _of_operator(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    channel = rng.choice(channels).name
    what = rng.choice(("pause", "pause", "clear", "clear", "clear everybody", "retire", "revoke"))
    if what == "pause":
        return Pause(at, channel, rng.random() < 0.5, rng.uniform(20, 1500))
    if what == "revoke":
        return Revoke(at, rng.choice(_hosts(channels)), rng.uniform(60, 1800))
    if what == "retire":
        return Retire(at, channel)
    return Clear(at, channel, everybody=what == "clear everybody")


def _of_ci(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    what = rng.choice(("forged", "forged", "rotate", "stop", "answers", "answers"))
    if what == "forged":
        return ForgedRelease(at, rng.choice(channels).name, rng.choice(tuple(Forgery)))
    if what == "rotate":
        return RotateKey(at, rng.random() < 0.4)
    if what == "stop":
        return StopSigning(at, rng.uniform(3, 6) * 3600)
    return ForgeAnswers(at, rng.choice(_hosts(channels)), rng.uniform(60, 900))


def _of_network(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    host = "" if rng.random() < 0.3 else rng.choice(_hosts(channels))
    lasts = rng.uniform(10, 900)
    if rng.random() < 0.35:
        return Partition(at, host, lasts, rng.choice(tuple(Direction)))
    return LossyNetwork(
        at,
        host,
        lasts,
        lost=rng.choice((0.0, 0.1, 0.4)),
        repeated=rng.choice((0.0, 0.1, 0.4)),
        late_seconds=rng.choice((0.0, 1.0, 20.0, 60.0)),
    )


def _of_clock(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    by = rng.choice((1, 5, 20, 45, 300)) * rng.choice((-1, 1))
    return ClockJump(at, _node(rng, channels), by, rng.uniform(60, 1800))


def _of_disk(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    kind = rng.choice((FullDisk, SlowDisk))
    return kind(at, _node(rng, channels), rng.uniform(5, 600))


def _of_process(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    node = _node(rng, channels)
    if rng.random() < 0.1:
        return LoseDisk(at, node, rng.uniform(300, 900))
    boundary = rng.choice(tuple(Boundary))
    back = rng.choice((1.0, 5.0, 60.0, 600.0))
    return Crash(at, node, boundary, back, write_survives=rng.random() < 0.5)


def _of_host(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    return Reboot(at, rng.choice(_hosts(channels)), rng.uniform(20, 300))


def _of_takeover(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    host = rng.choice(_hosts(channels)) if rng.random() < 0.5 else ""
    return TakeOver(at, rng.uniform(120, 1800), rng.random() < 0.25, host)


_FAMILIES: Final[dict[Family, _Draw]] = {
    Family.OPERATOR: _of_operator,
    Family.CI: _of_ci,
    Family.NETWORK: _of_network,
    Family.CLOCK: _of_clock,
    Family.DISK: _of_disk,
    Family.PROCESS: _of_process,
    Family.HOST: _of_host,
    Family.TAKEOVER: _of_takeover,
    Family.WIRE: of_wire,
    Family.PROXY: of_proxy,
    Family.IDENTITY: of_identity,
    Family.EXCHANGE: of_exchange,
    Family.ABSENCE: of_absence,
    Family.POLICY: of_policy,
    Family.STEERING: of_steering,
}
_OF_POLICIES: Final = frozenset({Family.ABSENCE, Family.POLICY})
