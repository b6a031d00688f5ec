"""The terms a rollout runs under, frozen when it opens: a later fleet cannot change a rollout under way.

Source: docs/spec/planner.md, Rollout terms.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

from attrs import frozen

from nixfleet_proto.fleet import Edge, FleetResolved, Selector, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import ManifestBudget, RolloutManifest
from nixfleet_proto.trust import Verified
from nixfleet_state_machine.scopes.selector import summary


@frozen
class BudgetTerms:
    """A disruption budget and its members. `limit` is the number of hosts that may be in flight at once."""

    selector: Selector
    hosts: frozenset[str]
    limit: int

    @cached_property
    def name(self) -> str:
        """The selector on one line: budgets with equal selectors have one name, and share their slots."""
        return summary(self.selector)

    @classmethod
    def of(cls, budget: ManifestBudget) -> Self:
        """Return the budget with its share worked out: the smaller of the two limits, rounded down, at least 1."""
        limits = [] if budget.max_in_flight is None else [budget.max_in_flight]
        if budget.max_in_flight_pct is not None:
            limits.append(max(1, len(budget.hosts) * budget.max_in_flight_pct // 100))
        hosts = frozenset(budget.hosts)
        return cls(budget.selector, hosts, min(limits, default=len(hosts)))


@frozen
class RolloutTerms:
    """What a manifest, with the fleet it came from, says about one rollout.

    targets: closure by host. wave_of: wave by host; a host that is in `targets` but not here is in no wave
    though its channel has waves. wave_soak_minutes: one per wave, at least one.
    host_edges: those of this channel. predecessors: channels that this one waits for.
    """

    rollout_id: RolloutId
    channel: str
    target_ref: str
    targets: FrozenMap[str, str]
    wave_of: FrozenMap[str, int]
    wave_soak_minutes: tuple[int, ...]
    budgets: tuple[BudgetTerms, ...]
    host_edges: tuple[Edge, ...]
    predecessors: tuple[str, ...]

    @property
    def last_wave(self) -> int:
        return len(self.wave_soak_minutes) - 1

    @cached_property
    def wave_sizes(self) -> Counter[int]:
        """How many hosts each wave has; an empty one counts 0."""
        return Counter(self.wave_of.values())

    def is_before_others(self, hostname: str) -> bool:
        """Whether there are waves after that of `hostname`, which may wait for it."""
        return self.wave_of.get(hostname, self.last_wave) < self.last_wave

    def gating_hosts(self, hostname: str) -> tuple[str, ...]:
        """Return the hosts that `hostname` waits for."""
        return self._gating_hosts.get(hostname, ())

    def gated_hosts(self, hostname: str) -> tuple[str, ...]:
        """Return the hosts that wait for `hostname`."""
        return self._gated_hosts.get(hostname, ())

    def hosts_of_closure(self, closure: str) -> tuple[str, ...]:
        """Return the hosts that are to get `closure`."""
        return self._hosts_of_closure.get(closure, ())

    def budgets_of(self, hostname: str) -> tuple[int, ...]:
        """Return the places in `budgets` of those that `hostname` is a member of."""
        return tuple([at for at, budget in enumerate(self.budgets) if hostname in budget.hosts])

    def budget_names_of(self, hostname: str) -> frozenset[str]:
        """Return the names of those budgets: where `hostname` counts, and counts once."""
        return frozenset([budget.name for budget in self.budgets if hostname in budget.hosts])

    @cached_property
    def _gating_hosts(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped((edge.gated, edge.gates) for edge in self.host_edges)

    @cached_property
    def _gated_hosts(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped((edge.gates, edge.gated) for edge in self.host_edges)

    @cached_property
    def _hosts_of_closure(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped((closure, host) for host, closure in self.targets.items())

    @classmethod
    def of(cls, manifest: Verified[RolloutManifest], fleet: Verified[FleetResolved]) -> Self:
        """Return the terms of a rollout. `fleet` is the one whose hash the manifest carries.

        Raises: InvalidRolloutId.
        """
        return cls.of_values(manifest.value, fleet.value)

    @classmethod
    def of_values(cls, manifest: RolloutManifest, fleet: FleetResolved) -> Self:
        """As `of`, for values whose proof the caller holds elsewhere."""
        waves = fleet.waves.get(manifest.channel) or ()
        targets = {entry.hostname: entry.target_closure for entry in manifest.host_set}
        return cls(
            rollout_id=manifest.rollout_id,
            channel=manifest.channel,
            target_ref=manifest.channel_ref,
            targets=FrozenMap(targets),
            wave_of=_wave_of(targets, waves, fleet),
            wave_soak_minutes=tuple(wave.soak_minutes for wave in waves) or (0,),
            budgets=tuple(map(BudgetTerms.of, manifest.disruption_budgets)),
            host_edges=_edges_within(manifest.channel, fleet),
            predecessors=tuple(
                sorted({e.gates for e in fleet.channel_edges if e.gated == manifest.channel})
            ),
        )


def _wave_of(
    targets: dict[str, str], waves: tuple[Wave, ...], fleet: FleetResolved
) -> FrozenMap[str, int]:
    if not waves:
        return FrozenMap({host: 0 for host in targets if host in fleet.hosts})
    staged = ((host, index) for index, wave in enumerate(waves) for host in wave.hosts)
    return FrozenMap({host: index for host, index in staged if host in targets})


def _edges_within(channel: str, fleet: FleetResolved) -> tuple[Edge, ...]:
    def is_here(host: str) -> bool:
        known = fleet.hosts.get(host)
        return known is not None and known.channel == channel

    return tuple(edge for edge in fleet.edges if is_here(edge.gates) and is_here(edge.gated))


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}
