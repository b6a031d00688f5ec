"""Resolves a checked declaration with closures to a fleet: waves as host names, sets in order. Pure.

Deterministic: the order in which a declaration is written does not matter. The refs of channels decide who is in waves
with a limit, and nothing else.
Source: docs/spec/declarations.md, Resolved fleet.
"""

from collections.abc import Iterable, Iterator, Mapping
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
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.check.staging import (
    InForce,
    released_policy,
    released_waves,
    stage,
    waves_in_force,
)
from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.declaration import (
    FleetDeclaration,
    PolicyDeclaration,
)
from nixfleet_runtime.documents.problems import Problem, at, unknown
from nixfleet_state_machine.scopes.expression import Expression, meant
from nixfleet_state_machine.scopes.normal_form import normal_form, plain_selector
from nixfleet_state_machine.scopes.selector import enabled_hosts, is_empty, summary

_Staged: TypeAlias = tuple[tuple[str, ...], ...]
"""The hosts of each wave of a channel's policy."""


def resolve(
    checked: CheckedFleet,
    closures: Mapping[str, str],
    meta: Meta,
    *,
    channel_ref: str = "",
    other_refs: Mapping[str, str] | None = None,
    in_force: InForce | None = None,
) -> FleetResolved:
    """Return the resolved fleet.

    closures: one for each enabled host, by host name; those of disabled hosts are not used. channel_ref: what the
    channels move to; other_refs: the refs of those that do not. They rotate who comes first where waves have limits.
    in_force: the release before this one. Under a ref that it has too, no host changes its wave.
    Raises: DeclarationError, when an enabled host has no closure, or a closure no host.
    """
    fleet = checked.declaration
    problems = (*_hosts_without(closures, fleet), *_unknown_hosts(closures, fleet))
    if problems:
        raise DeclarationError(problems)
    staged = _staged(fleet, channel_ref, other_refs or {}, in_force)
    return FleetResolved(
        hosts=FrozenMap(
            {
                name: _host(host, None if fleet.is_disabled(name) else closures[name])
                for name, host in sorted(fleet.hosts.items())
            }
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
        # Not those that name a disabled end: nobody waits for what never comes.
        edges=_ordered(
            edge
            for edge in fleet.edges
            if not any(map(fleet.is_disabled, (edge.gates, edge.gated)))
        ),
        channel_edges=_ordered(
            edge
            for edge in fleet.channel_edges
            if all(fleet.channels[end].enabled for end in (edge.gates, edge.gated))
        ),
        disruption_budgets=_budgets(fleet),
        calendar=_calendar(fleet),
    )


def _hosts_without(closures: Mapping[str, str], fleet: FleetDeclaration) -> Iterator[Problem]:
    for name in fleet.hosts:
        if not closures.get(name) and not fleet.is_disabled(name):
            yield Problem(at("closures", name), "missing", "the host's closure", "none")


def _unknown_hosts(closures: Mapping[str, str], fleet: FleetDeclaration) -> Iterator[Problem]:
    for name in closures.keys() - fleet.hosts.keys():
        yield unknown(at("closures", name), "host", name, fleet.hosts)


def _host(host: FleetHost, closure: str | None) -> FleetHost:
    return evolve(host, tags=tuple(sorted(set(host.tags))), closure_hash=closure)


def _staged(
    fleet: FleetDeclaration,
    channel_ref: str,
    other_refs: Mapping[str, str],
    in_force: InForce | None,
) -> Mapping[str, _Staged]:
    staged: dict[str, _Staged] = {}
    for name, channel in fleet.channels.items():
        policy, ref = fleet.policies[channel.rollout_policy], other_refs.get(name, channel_ref)
        kept = waves_in_force(policy, name, ref, in_force)
        staged[name] = stage(policy, fleet.enabled_hosts_of(name), ref, kept)
    return staged


def _policy(
    fleet: FleetDeclaration, name: str, policy: PolicyDeclaration, staged: Mapping[str, _Staged]
) -> RolloutPolicy:
    return released_policy(
        policy, _policy_waves(fleet, name, policy, staged) if policy.waves else ()
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
        for hostname, host in enabled_hosts(fleet.hosts, fleet.channels).items()
        if fleet.channels[host.channel].rollout_policy == name
    }
    return tuple(
        PolicyWave(
            Selector(hosts=tuple(sorted(name for waves in members for name in waves[index])))
            if wave.selector is None or policy.has_limits
            else _plain(wave.selector.expression, hosts),
            wave.soak_minutes,
            wave.max_failures,
            wave.max_failure_pct,
            wave.guards.resolved(),
        )
        for index, wave in enumerate(policy.all_waves)
    )


def _waves(fleet: FleetDeclaration, channel: str, staged: _Staged) -> tuple[Wave, ...]:
    if not any(staged):
        return ()  # no host of the channel is enabled
    policy = fleet.policies[fleet.channels[channel].rollout_policy]
    # Under a limit, earlier waves may have taken all that a wave selects.
    waves = released_waves(policy, staged)
    return tuple(wave for wave in waves if wave.hosts or not policy.has_limits)


def _ordered(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda edge: (edge.gates, edge.gated, edge.reason or "")))


def _budgets(fleet: FleetDeclaration) -> tuple[DisruptionBudget, ...]:
    hosts = enabled_hosts(fleet.hosts, fleet.channels)
    budgets = (
        DisruptionBudget(
            _plain(budget.selector.expression, hosts),
            budget.max_in_flight,
            budget.max_in_flight_pct,
            budget.ramp,
            budget.max_per_minute,
        )
        for budget in fleet.budgets
    )
    # One whose hosts had to be named, and are all disabled, has a selector that selects nobody.
    return tuple(
        sorted(
            (budget for budget in budgets if not is_empty(budget.selector)),
            key=lambda budget: summary(budget.selector),
        )
    )


def _calendar(fleet: FleetDeclaration) -> tuple[CalendarEntry, ...]:
    hosts = enabled_hosts(fleet.hosts, fleet.channels)
    entries = (
        each.entry(
            Selector(all=True) if each.selector is None else _plain(each.selector.expression, hosts)
        )
        for each in fleet.calendar
    )
    # One whose hosts are all disabled selects nobody.
    return tuple(
        sorted(
            (entry for entry in entries if not is_empty(entry.selector)),
            key=lambda entry: entry.name,
        )
    )


def _plain(expression: Expression, hosts: Mapping[str, FleetHost]) -> Selector:
    """Return the plain selector equivalent to the expression in any fleet; if none exists, the hosts by name."""
    plain = plain_selector(normal_form(expression))
    return Selector(hosts=meant(expression, hosts)) if plain is None else plain
