"""Assigns the hosts of a channel to the waves of a policy. Pure; the rules in `check.rules.waves` judge the result.

Waves without limits have every host that they select, in whatever order. As soon as one wave of a policy has a limit,
they take hosts in turn: a wave takes from those that its selector selects and that no earlier wave took.
Source: docs/spec/declarations.md, Waves by limit.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Self

from attrs import frozen

from nixfleet_proto.codec import decode_fleet
from nixfleet_proto.fleet import FleetHost, FleetResolved, PolicyWave, RolloutPolicy, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release.written.declaration import PolicyDeclaration, WaveDeclaration, WaveOrder
from nixfleet_runtime.releases.directory import Release
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.selector import enabled_hosts


@frozen
class InForce:
    """The fleet that is in force, and the ref of each channel that it released."""

    fleet: FleetResolved
    refs: FrozenMap[str, str]

    @classmethod
    def of(cls, release: Release) -> Self:
        """Return what `release` puts in force. Nothing is verified. Raises: DecodeError."""
        refs = {rollout_id.channel: rollout_id.channel_ref for rollout_id in release.manifests}
        return cls(decode_fleet(release.fleet.body), FrozenMap(refs))


def waves_in_force(
    policy: PolicyDeclaration, channel: str, channel_ref: str, in_force: InForce | None
) -> Mapping[str, int]:
    """Return, by host, which of `policy.all_waves` it is in, if this ref of the channel is in force; else none.

    Asked for policies with limits alone: where there are none, the declaration says who is in which wave. Waves that a
    limit left empty are in no release. If the others cannot be told apart, none is returned: then the policy is another
    one, and its release is refused.
    """
    if in_force is None or in_force.refs.get(channel) != channel_ref or not policy.has_limits:
        return {}
    fleet, waves = in_force.fleet, in_force.fleet.waves.get(channel, ())
    numbers = list(range(len(policy.all_waves)))
    if len(numbers) != len(waves):
        members = enabled_hosts(fleet.hosts, fleet.channels).items()
        then = {name: host for name, host in members if host.channel == channel}
        staged = stage(policy, then, channel_ref)
        numbers = [number for number in numbers if staged[number]]
    if len(numbers) != len(waves):
        return {}
    return {
        host: number for number, wave in zip(numbers, waves, strict=True) for host in wave.hosts
    }


def stage(
    policy: PolicyDeclaration,
    hosts: Mapping[str, FleetHost],
    channel_ref: str = "",
    kept: Mapping[str, int] = FrozenMap(),
) -> tuple[tuple[str, ...], ...]:
    """Return the hosts of each of `policy.all_waves`, sorted by name.

    hosts: those of one channel. channel_ref: the ref it is released under, which rotates who is first under a limit.
    A wave of the rest, at any position, has the hosts that no other wave has.
    kept: the wave of hosts whose rollout is in force, as `waves_in_force` returns it. They stay there, and others join
    the wave that selects them without a limit, for a limit was filled when the rollout was released.
    """
    selected = tuple(_selected(wave, hosts) for wave in policy.all_waves)
    if kept:
        return _staying(policy.all_waves, selected, hosts, kept)
    waves = (
        tuple(_in_turn(policy.all_waves, selected, channel_ref)) if policy.has_limits else selected
    )
    staged = {name for wave in waves if wave for name in wave}
    rest = tuple(sorted(hosts.keys() - staged))
    return tuple(rest if wave is None else wave for wave in waves)


def released_waves(
    policy: PolicyDeclaration, staged: tuple[tuple[str, ...], ...]
) -> tuple[Wave, ...]:
    """Return all waves of a channel as they are released, empty ones too. staged: as `stage` returned them."""
    return tuple(
        Wave(
            hosts,
            wave.soak_minutes,
            wave.not_before,
            wave.max_failures,
            wave.max_failure_pct,
            wave.guards.resolved(),
        )
        for hosts, wave in zip(staged, policy.all_waves, strict=True)
    )


def released_policy(policy: PolicyDeclaration, waves: tuple[PolicyWave, ...] = ()) -> RolloutPolicy:
    """Return a policy as it is released. waves: as they were resolved; they say in which order hosts come, not more."""
    return RolloutPolicy(
        on_health_failure=policy.on_health_failure,
        strategy="waves" if policy.waves else "all-at-once",
        waves=waves,
        max_failures=policy.max_failures,
        max_failure_pct=policy.max_failure_pct,
        deadlines=policy.deadlines,
        retry=policy.retry,
        recall=policy.recall,
    )


def smallest_waves(policy: PolicyDeclaration, hosts: Mapping[str, FleetHost]) -> tuple[int, ...]:
    """Return the number of hosts that each wave has at least, under any ref. `0`: it may have none, and be left out."""
    if not policy.rotates:
        return tuple(map(len, stage(policy, hosts)))
    most = dict[int, tuple[frozenset[str], int]]()
    for index, wave in enumerate(policy.all_waves):
        names = frozenset(_selected(wave, hosts) or ())
        most[index] = (names, _at_most(wave, len(names)))
    return tuple(
        _at_least(index, wave, most, len(hosts)) for index, wave in enumerate(policy.all_waves)
    )


def _at_most(wave: WaveDeclaration, selected: int) -> int:
    return selected if wave.limit is None else min(selected, wave.limit.of(selected))


def _at_least(
    index: int,
    wave: WaveDeclaration,
    most: Mapping[int, tuple[frozenset[str], int]],
    count: int,
) -> int:
    if wave.is_rest:
        return max(0, count - sum(taken for _, taken in most.values()))
    names, limit = most[index]
    gone = sum(
        min(taken, len(names & others)) for it, (others, taken) in most.items() if it < index
    )
    return max(0, min(limit, len(names) - gone))


def possible_waves(
    policy: PolicyDeclaration, hosts: Mapping[str, FleetHost]
) -> Mapping[str, tuple[int, ...]]:
    """Return, by host, the waves that it may be in, sorted: under one ref or another, or in several by mistake.

    A host that may be in no wave under some ref has none.
    """
    selected = tuple(_selected(wave, hosts) for wave in policy.all_waves)
    if not policy.rotates:
        staged = stage(policy, hosts, "")
        return {
            name: tuple(index for index, wave in enumerate(staged) if name in wave)
            for name in hosts
        }
    return {name: _possible(name, policy.all_waves, selected) for name in hosts}


def _staying(
    waves: tuple[WaveDeclaration, ...],
    selected: tuple[tuple[str, ...] | None, ...],
    hosts: Iterable[str],
    kept: Mapping[str, int],
) -> tuple[tuple[str, ...], ...]:
    staged: list[list[str]] = [[] for _ in waves]
    for name in sorted(hosts):
        number = kept.get(name, _unlimited(name, waves, selected))
        if number is not None:
            staged[number].append(name)
    return tuple(map(tuple, staged))


def _unlimited(
    name: str, waves: tuple[WaveDeclaration, ...], selected: tuple[tuple[str, ...] | None, ...]
) -> int | None:
    for number, (wave, names) in enumerate(zip(waves, selected, strict=True)):
        if names is not None and name in names and _takes_all(wave, names):
            return number
    return next((number for number, names in enumerate(selected) if names is None), None)


def _takes_all(wave: WaveDeclaration, names: tuple[str, ...]) -> bool:
    return wave.limit is None or wave.limit.of(len(names)) >= len(names)


def _possible(
    name: str, waves: tuple[WaveDeclaration, ...], selected: tuple[tuple[str, ...] | None, ...]
) -> tuple[int, ...]:
    possible = list[int]()
    for index, (wave, names) in enumerate(zip(waves, selected, strict=True)):
        if names is not None and name in names:
            possible.append(index)
            if _takes_all(wave, names):
                return tuple(possible)  # whatever the ref, no later wave has it
    rests = [index for index, names in enumerate(selected) if names is None]
    return tuple(sorted((*possible, rests[0]))) if rests else ()


def _selected(wave: WaveDeclaration, hosts: Mapping[str, FleetHost]) -> tuple[str, ...] | None:
    return None if wave.selector is None else meant(wave.selector.expression, hosts)


def _in_turn(
    waves: tuple[WaveDeclaration, ...],
    selected: tuple[tuple[str, ...] | None, ...],
    channel_ref: str,
) -> Iterator[tuple[str, ...] | None]:
    taken = set[str]()
    for wave, names in zip(waves, selected, strict=True):
        if names is None:
            yield None
            continue
        left = [name for name in names if name not in taken]
        if wave.limit is not None:
            # A percentage is of all that the selector selects, so that earlier waves do not change what it means.
            left = sorted(_ordered(left, wave.order, channel_ref)[: wave.limit.of(len(names))])
        taken.update(left)
        yield tuple(left)


def _ordered(names: Iterable[str], order: WaveOrder, channel_ref: str) -> list[str]:
    if order is WaveOrder.NAME:
        return sorted(names)
    return sorted(names, key=lambda name: sha256(f"{channel_ref}\0{name}".encode()).digest())
