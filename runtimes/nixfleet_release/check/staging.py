"""Assigns the hosts of a channel to the waves of a policy. Pure; the rules in `check.rules.waves` judge the result."""

from collections.abc import Mapping

from nixfleet_proto.fleet import FleetHost
from nixfleet_release.written.declaration import PolicyDeclaration
from nixfleet_state_machine.scopes.expression import meant


def stage(policy: PolicyDeclaration, hosts: Mapping[str, FleetHost]) -> tuple[tuple[str, ...], ...]:
    """Return the hosts of each wave, sorted: those of `hosts` that its selector selects.

    A wave of the rest, at any position, has the hosts that no selector of the policy selects. A policy without waves
    has one wave with all hosts.
    """
    if not policy.waves:
        return (tuple(sorted(hosts)),)
    selected = [
        None if wave.selector is None else meant(wave.selector.expression, hosts)
        for wave in policy.waves
    ]
    staged = {name for wave in selected if wave for name in wave}
    rest = tuple(sorted(hosts.keys() - staged))
    return tuple(rest if wave is None else wave for wave in selected)
