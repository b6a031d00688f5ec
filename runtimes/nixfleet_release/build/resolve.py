"""Resolves a checked declaration with closures to a fleet: waves as host names, sets in order. Pure.

Deterministic: the order in which a declaration is written does not matter. The refs of channels decide who is in waves
with a limit, and nothing else.
Source: docs/spec/declarations.md, Resolved fleet.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from attrs import evolve

from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetHost,
    FleetResolved,
    Meta,
    PolicyWave,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.check.staging import stage
from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.declaration import (
    FleetDeclaration,
    PolicyDeclaration,
    WaveDeclaration,
)
from nixfleet_runtime.documents.problems import Problem, at, unknown
from nixfleet_state_machine.scopes.expression import Expression, meant
from nixfleet_state_machine.scopes.normal_form import normal_form, plain_selector
from nixfleet_state_machine.scopes.selector import summary

_Staged: TypeAlias = tuple[tuple[str, ...], ...]
"""The hosts of each wave of a channel's policy."""


def resolve(
    checked: CheckedFleet,
    closures: Mapping[str, str],
    meta: Meta,
    *,
    channel_ref: str = "",
    other_refs: Mapping[str, str] | None = None,
) -> FleetResolved:
    """Return the resolved fleet.

    closures: one for each host, by host name. channel_ref: what the channels move to; other_refs: the refs of those
    that do not. They rotate who comes first where waves have limits.
    Raises: DeclarationError, when `closures` does not have exactly the declared hosts.
    """
    fleet = checked.declaration
    problems = (*_hosts_without(closures, fleet), *_unknown_hosts(closures, fleet))
    if problems:
        raise DeclarationError(problems)
    staged = _staged(fleet, channel_ref, other_refs or {})
    return FleetResolved(
        hosts=FrozenMap(
            {name: _host(host, closures[name]) for name, host in sorted(fleet.hosts.items())}
        ),
        channels=FrozenMap(sorted(fleet.channels.items())),
        rollout_policies=FrozenMap(
            {
                name: _policy(fleet, name, policy, staged)
                for name, policy in sorted(fleet.policies.items())
            }
        ),
        waves=FrozenMap(
            {name: _waves(fleet, name, staged[name]) for name in sorted(fleet.channels)}
        ),
        meta=meta,
        edges=_ordered(fleet.edges),
        channel_edges=_ordered(fleet.channel_edges),
        disruption_budgets=_budgets(fleet),
    )


def _hosts_without(closures: Mapping[str, str], fleet: FleetDeclaration) -> Iterator[Problem]:
    for name in fleet.hosts:
        if not closures.get(name):
            yield Problem(at("closures", name), "missing", "the host's closure", "none")


def _unknown_hosts(closures: Mapping[str, str], fleet: FleetDeclaration) -> Iterator[Problem]:
    for name in closures.keys() - fleet.hosts.keys():
        yield unknown(at("closures", name), "host", name, fleet.hosts)


def _host(host: FleetHost, closure: str) -> FleetHost:
    return evolve(host, tags=tuple(sorted(set(host.tags))), closure_hash=closure)


def _staged(
    fleet: FleetDeclaration, channel_ref: str, other_refs: Mapping[str, str]
) -> Mapping[str, _Staged]:
    return {
        name: stage(
            fleet.policies[channel.rollout_policy],
            fleet.hosts_of(name),
            other_refs.get(name, channel_ref),
        )
        for name, channel in fleet.channels.items()
    }


def _policy(
    fleet: FleetDeclaration, name: str, policy: PolicyDeclaration, staged: Mapping[str, _Staged]
) -> RolloutPolicy:
    return RolloutPolicy(
        on_health_failure=policy.on_health_failure,
        strategy="waves" if policy.waves else "all-at-once",
        waves=_policy_waves(fleet, name, policy, staged) if policy.waves else (),
    )


def _policy_waves(
    fleet: FleetDeclaration, name: str, policy: PolicyDeclaration, staged: Mapping[str, _Staged]
) -> tuple[PolicyWave, ...]:
    # A resolved selector can express neither "the rest" nor "five of these", so those hosts are listed by name.
    members = [
        staged[channel]
        for channel, declared in fleet.channels.items()
        if declared.rollout_policy == name
    ]
    hosts = {
        hostname: host
        for hostname, host in fleet.hosts.items()
        if fleet.channels[host.channel].rollout_policy == name
    }
    return tuple(
        PolicyWave(
            Selector(hosts=tuple(sorted(name for waves in members for name in waves[index])))
            if wave.selector is None or policy.has_limits
            else _plain(wave.selector.expression, hosts),
            wave.soak_minutes,
        )
        for index, wave in enumerate(policy.all_waves)
    )


def _waves(fleet: FleetDeclaration, channel: str, staged: _Staged) -> tuple[Wave, ...]:
    policy = fleet.policies[fleet.channels[channel].rollout_policy]
    return tuple(
        Wave(hosts, wave.soak_minutes, wave.not_before)
        for hosts, wave in zip(staged, policy.all_waves, strict=True)
        if hosts or not policy.has_limits  # earlier waves may have taken all that it selects
    )


def _ordered(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda edge: (edge.gates, edge.gated, edge.reason or "")))


def _budgets(fleet: FleetDeclaration) -> tuple[DisruptionBudget, ...]:
    budgets = (
        DisruptionBudget(
            _plain(budget.selector.expression, fleet.hosts),
            budget.max_in_flight,
            budget.max_in_flight_pct,
        )
        for budget in fleet.budgets
    )
    return tuple(sorted(budgets, key=lambda budget: summary(budget.selector)))


def _plain(expression: Expression, hosts: Mapping[str, FleetHost]) -> Selector:
    """Return the plain selector equivalent to the expression in any fleet; if none exists, the hosts by name."""
    plain = plain_selector(normal_form(expression))
    return Selector(hosts=meant(expression, hosts)) if plain is None else plain
