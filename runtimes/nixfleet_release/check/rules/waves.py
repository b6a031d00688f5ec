"""Rules about waves: every host of a channel is in exactly one, none is empty, and none waits for a later one.

Where limits let the ref decide who is in which wave, the rules hold for every ref: a release never fails by chance.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from attrs import frozen

from nixfleet_proto.fleet import FleetHost
from nixfleet_release.check.rules.names import wave_path
from nixfleet_release.check.staging import possible_waves
from nixfleet_release.written.declaration import FleetDeclaration, PolicyDeclaration
from nixfleet_runtime.documents.problems import Problem, at, is_touched, listed
from nixfleet_state_machine.scopes.expression import meant


def rests(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a second wave of the rest, which would be empty."""
    for name, policy in fleet.policies.items():
        paths = [wave_path(name, index) for index, wave in enumerate(policy.waves) if wave.is_rest]
        # A wave that says nothing of its hosts is reported as that, and is not meant as the rest.
        for path in [path for path in paths if path not in broken][1:]:
            yield Problem(
                at(path, "rest"), "no hosts are left for it", "one wave of the rest", "another one"
            )


def staging(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse waves without hosts, and hosts that are in two waves or in none."""
    for staged in _staged(fleet, broken):
        yield from _empty_waves(staged)
        if not staged.policy.has_limits:  # with limits, the earlier wave takes them
            yield from _hosts_in_two_waves(staged)
        yield from _hosts_in_no_wave(staged)


def edges_against_waves(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse a host that waits for a host of a later wave, which in turn waits for the earlier wave."""
    place_of = {
        host: (staged, places)
        for staged in _staged(fleet, broken)
        if not staged.unclear
        for host, places in possible_waves(staged.policy, staged.hosts).items()
        if places
    }
    for index, edge in enumerate(fleet.edges):
        if not {edge.gates, edge.gated} <= place_of.keys():
            continue
        (staged, gates), (gated_staged, gated) = place_of[edge.gates], place_of[edge.gated]
        if staged.channel == gated_staged.channel and gates[-1] > gated[0]:
            yield Problem(
                at("edges", index),
                "the two hosts would wait for each other"
                + (" under some refs" if staged.policy.rotates else ""),
                f"{edge.gates} in the wave of {edge.gated} or an earlier one"
                + (
                    f" (leave {edge.gated} out of the selectors with a limit)"
                    if staged.policy.rotates
                    else ""
                ),
                f"{edge.gates} in waves[{gates[-1]}], {edge.gated} in waves[{gated[0]}]",
            )


@frozen
class _Staged:
    """A policy in one of the channels that use it.

    waves: the hosts that each wave may have, by its index, where they are known. unclear: whether there are waves whose
    hosts are unknown.
    """

    channel: str
    policy: PolicyDeclaration
    path: str
    hosts: Mapping[str, FleetHost]
    disabled: frozenset[str]
    waves: Mapping[int, tuple[str, ...]]
    unclear: bool


def _staged(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[_Staged]:
    # Other rules report channels without hosts or without a policy; a disabled host is in no wave.
    for name, channel in fleet.channels.items():
        policy, hosts = fleet.policies.get(channel.rollout_policy), fleet.enabled_hosts_of(name)
        if policy is None or not hosts:
            continue
        path = at(at("policies", channel.rollout_policy), "waves")
        waves = dict(enumerate(_candidates(policy, hosts)))
        clear = {i: wave for i, wave in waves.items() if not _is_unclear(at(path, i), broken)}
        disabled = fleet.hosts_of(name).keys() - hosts
        yield _Staged(
            name, policy, path, hosts, frozenset(disabled), clear, len(clear) < len(waves)
        )


def _candidates(
    policy: PolicyDeclaration, hosts: Mapping[str, FleetHost]
) -> Iterator[tuple[str, ...]]:
    places = possible_waves(policy, hosts)
    for index, wave in enumerate(policy.all_waves):
        if wave.selector is not None and policy.has_limits:
            # Whom an earlier wave takes depends on the size of the channel: only a selector itself can be wrong.
            yield meant(wave.selector.expression, hosts)
        else:
            yield tuple(sorted(name for name, possible in places.items() if index in possible))


def _is_unclear(wave: str, broken: Collection[str]) -> bool:
    members = (at(wave, "selector"), at(wave, "rest"), at(wave, "limit"))
    return wave in broken or any(is_touched(path, broken) for path in members)


def _empty_waves(staged: _Staged) -> Iterator[Problem]:
    for index, wave in staged.waves.items():
        declared = staged.policy.all_waves[index]
        if wave or (staged.policy.has_limits and declared.is_rest):
            continue
        an = "an enabled" if staged.disabled else "a"
        expected = f"{an} host of channel {staged.channel}"
        disabled = f" ({listed(staged.disabled)} disabled)" if staged.disabled else ""
        if declared.limit is None:
            yield Problem(at(staged.path, index), "empty wave", expected, f"none{disabled}")
        else:
            path = at(at(staged.path, index), "limit")
            expected = f"a selector that selects {expected}"
            yield Problem(
                path, "a limit on no hosts", expected, f"{declared.limit} of none{disabled}"
            )


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
    if staged.unclear:
        return
    places = possible_waves(staged.policy, staged.hosts)
    left_out = [name for name, possible in places.items() if not possible]
    if left_out:
        chance = " under some refs" if staged.policy.rotates else ""
        yield Problem(
            staged.path,
            f"hosts of channel {staged.channel} in no wave{chance}",
            "each host in one wave (a wave with rest = true has the remaining hosts)",
            listed(left_out),
        )
