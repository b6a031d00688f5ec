"""Rules about waves: every host of a channel is in exactly one, none is empty, and none waits for a later one."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from attrs import frozen

from nixfleet_release.check.rules.names import wave_path
from nixfleet_release.check.staging import stage
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at, is_touched, listed


def rests(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a second wave of the rest, which would be empty."""
    for name, policy in fleet.policies.items():
        found = [index for index, wave in enumerate(policy.waves) if wave.is_rest]
        for index in found[1:]:
            path = at(wave_path(name, index), "rest")
            yield Problem(path, "no hosts are left for it", "one wave of the rest", "another one")


def staging(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse waves without hosts, and hosts that are in two waves or in none."""
    for staged in _staged(fleet, broken):
        yield from _empty_waves(staged)
        yield from _hosts_in_two_waves(staged)
        yield from _hosts_in_no_wave(staged)


def edges_against_waves(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a host that waits for a host of a later wave, which in turn waits for the earlier wave."""
    place_of = {
        host: (staged.channel, index)
        for staged in _staged(fleet, broken)
        if not staged.unclear
        for index, wave in staged.waves.items()
        for host in wave
    }
    for index, edge in enumerate(fleet.edges):
        gates, gated = place_of.get(edge.gates), place_of.get(edge.gated)
        if gates and gated and gates[0] == gated[0] and gates[1] > gated[1]:
            yield Problem(
                at("edges", index),
                "the two hosts would wait for each other",
                f"{edge.gates} in the wave of {edge.gated} or an earlier one",
                f"{edge.gates} in waves[{gates[1]}], {edge.gated} in waves[{gated[1]}]",
            )


@frozen
class _Staged:
    """The waves of a policy in one of the channels that use it.

    waves: by index, those whose hosts are known. unclear: whether there are waves whose hosts are unknown.
    """

    channel: str
    path: str
    hosts: frozenset[str]
    waves: Mapping[int, tuple[str, ...]]
    unclear: bool


def _staged(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[_Staged]:
    # Other rules report channels without hosts or without a policy.
    for name, channel in fleet.channels.items():
        policy, hosts = fleet.policies.get(channel.rollout_policy), fleet.hosts_of(name)
        if policy is None or not hosts:
            continue
        path = at(at("policies", channel.rollout_policy), "waves")
        waves = dict(enumerate(stage(policy, hosts)))
        clear = {i: wave for i, wave in waves.items() if not _is_unclear(at(path, i), broken)}
        yield _Staged(name, path, frozenset(hosts), clear, len(clear) < len(waves))


def _is_unclear(wave: str, broken: Collection[str]) -> bool:
    members = (at(wave, "selector"), at(wave, "rest"))
    return wave in broken or any(is_touched(path, broken) for path in members)


def _empty_waves(staged: _Staged) -> Iterator[Problem]:
    for index, wave in staged.waves.items():
        if not wave:
            path = at(staged.path, index)
            yield Problem(path, "empty wave", f"a host of channel {staged.channel}", "none")


def _hosts_in_two_waves(staged: _Staged) -> Iterator[Problem]:
    for earlier, later in combinations(staged.waves, 2):
        twice = set(staged.waves[earlier]) & set(staged.waves[later])
        if twice:
            yield Problem(
                at(staged.path, later),
                f"hosts of channel {staged.channel} in two waves",
                "each host in one wave",
                f"{listed(twice)} in waves[{earlier}] too",
            )


def _hosts_in_no_wave(staged: _Staged) -> Iterator[Problem]:
    left_out = staged.hosts.difference(*staged.waves.values())
    if left_out and not staged.unclear:
        yield Problem(
            staged.path,
            f"hosts of channel {staged.channel} in no wave",
            "each host in one wave (a wave with rest = true has the remaining hosts)",
            listed(left_out),
        )
