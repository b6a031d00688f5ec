"""The terms of a rollout, frozen when it opens: a later fleet file cannot change a rollout in progress.

Source: docs/spec/planner.md, Rollout terms.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Self, cast

from attrs import frozen

from nixfleet_proto.checked import at_least, checked, require_arguments, same, shown
from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.fleet import (
    Edge,
    FleetResolved,
    OnDrift,
    Ramp,
    Selector,
    Wave,
    pace_problems,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import ManifestBudget, RolloutManifest
from nixfleet_proto.policy import Deadlines, Retry, RolloutPolicy, Tolerance
from nixfleet_proto.steering.guards import WaveGuards
from nixfleet_proto.trust import Verified
from nixfleet_state_machine.scopes.selector import summary

_NO_DEADLINES, _NO_RETRY, _NO_GUARDS = Deadlines(), Retry(), WaveGuards()


@frozen
@checked
class BudgetTerms:
    """A disruption budget and its members. `limit` is the number of hosts that may be in flight at once.

    ramp: how the slots grow to that limit in each rollout. max_per_minute: how many hosts begin in any 60 seconds.
    Source: docs/spec/pace.md.
    """

    selector: Selector
    hosts: frozenset[str]
    limit: int
    ramp: Ramp | None = None
    max_per_minute: int | None = None

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from pace_problems(self.max_per_minute)

    @property
    def has_pace(self) -> bool:
        """Whether more than the number of hosts in flight holds its members."""
        return self.ramp is not None or self.max_per_minute is not None

    @cached_property
    def name(self) -> str:
        """The selector on one line. Budgets with equal selectors have the same name and share their slots."""
        return summary(self.selector)

    @classmethod
    def of(cls, budget: ManifestBudget) -> Self:
        """Return the budget with its limit: the smaller of number and share. A share is rounded down, to at least 1."""
        limits = [] if budget.max_in_flight is None else [budget.max_in_flight]
        if budget.max_in_flight_pct is not None:
            limits.append(max(1, len(budget.hosts) * budget.max_in_flight_pct // 100))
        hosts = frozenset(budget.hosts)
        limit = min(limits, default=len(hosts))
        return cls(budget.selector, hosts, limit, budget.ramp, budget.max_per_minute)


@frozen
@checked
class RolloutTerms:
    """The part of a manifest, and of the fleet it was made from, that concerns one rollout.

    targets: closure by host. wave_of: wave by host; a host in `targets` that is missing here is in no wave of a channel
    with waves. wave_soak_minutes: one per wave, at least one.
    host_edges: those of this channel. predecessors: channels that this one waits for.
    wave_tolerances: one per wave; empty if no host of any wave may fail. on_drift: what follows when a host drifted.
    wave_guards: one per wave; empty if no wave has any.
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
    wave_tolerances: tuple[Tolerance, ...] = ()
    deadlines: Deadlines = Deadlines()
    retry: Retry = Retry()
    on_drift: OnDrift = OnDrift.REPORT
    wave_guards: tuple[WaveGuards, ...] = ()

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from same("channel", self.channel, self.rollout_id.channel, "rollout_id has it")
        yield from same(
            "target_ref", self.target_ref, self.rollout_id.channel_ref, "rollout_id has it"
        )
        if "" in self.targets:
            yield ValueProblem("targets", "host names", "an empty string")
        waves = len(self.wave_soak_minutes)
        if not waves:
            yield ValueProblem("wave_soak_minutes", "minutes for at least one wave", "none")
        for index, minutes in enumerate(self.wave_soak_minutes):
            yield from at_least(f"wave_soak_minutes[{index}]", minutes, 0)
        if len(self.wave_tolerances) not in (0, waves):
            expected = f"none, or one for each of {waves} waves"
            yield ValueProblem("wave_tolerances", expected, f"{len(self.wave_tolerances)}")
        if len(self.wave_guards) not in (0, waves):
            expected = f"none, or those of each of {waves} waves"
            yield ValueProblem("wave_guards", expected, f"{len(self.wave_guards)}")
        for host, wave in self.wave_of.items():
            if not 0 <= wave < waves:
                expected = f"a wave that has a soak in wave_soak_minutes, 0 to {waves - 1}"
                yield ValueProblem(f"wave_of[{host!r}]", expected, str(wave))
            if host not in self.targets:
                expected = "hosts that have a target"
                yield ValueProblem("wave_of", expected, f"{host!r}, which has none")

    @property
    def last_wave(self) -> int:
        """The index of the last wave."""
        return len(self.wave_soak_minutes) - 1

    @cached_property
    def wave_sizes(self) -> Counter[int]:
        """The number of hosts by wave; 0 for an empty one."""
        return Counter(self.wave_of.values())

    def allowed_failures(self, wave: int | None) -> int:
        """Return how many hosts of `wave` may fail, of those that the manifest names in it; `None`: in no wave.

        The base is what was signed: it does not move while the rollout goes on.
        """
        return 0 if wave is None else self._allowed_failures[wave]

    def is_tolerant_of(self, hostname: str) -> bool:
        """Whether a failure of `hostname` alone does not break its wave."""
        return self.allowed_failures(self.wave_of.get(hostname)) > 0

    @cached_property
    def _allowed_failures(self) -> tuple[int, ...]:
        tolerances = self.wave_tolerances or (Tolerance(),) * len(self.wave_soak_minutes)
        return tuple(
            tolerance.allowed(self.wave_sizes[wave]) for wave, tolerance in enumerate(tolerances)
        )

    def guards_of(self, wave: int) -> WaveGuards:
        """Return what must have happened before `wave` begins."""
        return self.wave_guards[wave] if self.wave_guards else _NO_GUARDS

    def is_before_others(self, hostname: str) -> bool:
        """Whether later waves than that of `hostname` exist, which may wait for it."""
        return self.wave_of.get(hostname, self.last_wave) < self.last_wave

    def gating_hosts(self, hostname: str) -> tuple[str, ...]:
        """Return the hosts that `hostname` waits for."""
        return self._gating_hosts.get(hostname, ())

    def gated_hosts(self, hostname: str) -> tuple[str, ...]:
        """Return the hosts that wait for `hostname`."""
        return self._gated_hosts.get(hostname, ())

    @property
    def gating(self) -> Collection[str]:
        """The hosts that others wait for."""
        return self._gated_hosts.keys()

    def hosts_of_closure(self, closure: str) -> tuple[str, ...]:
        """Return the hosts whose target is `closure`."""
        return self._hosts_of_closure.get(closure, ())

    @cached_property
    def hosts_in_order(self) -> tuple[str, ...]:
        """All hosts, by wave and then by name; those in no wave come last. Sorted at the first call."""
        after_all = len(self.wave_soak_minutes)
        wave_of = self.wave_of
        return tuple(sorted(self.targets, key=lambda host: (wave_of.get(host, after_all), host)))

    @property
    def closures(self) -> Collection[str]:
        """The closures that hosts are to run, each once."""
        return self._hosts_of_closure.keys()

    def budgets_of(self, hostname: str) -> tuple[int, ...]:
        """Return the indexes in `budgets` of those that `hostname` is a member of."""
        return tuple([at for at, budget in enumerate(self.budgets) if hostname in budget.hosts])

    def budget_names_of(self, hostname: str) -> frozenset[str]:
        """Return the names of those budgets. `hostname` counts once per name."""
        return frozenset([budget.name for budget in self.budgets if hostname in budget.hosts])

    def ramped_names_of(self, hostname: str) -> frozenset[str]:
        """Return the names of those budgets that have a ramp."""
        return self.ramped and self.budget_names_of(hostname) & self.ramped

    def minute_names_of(self, hostname: str) -> frozenset[str]:
        """Return the names of those budgets that limit the beginnings in a minute."""
        return self.per_minute and self.budget_names_of(hostname) & self.per_minute

    @cached_property
    def ramped(self) -> frozenset[str]:
        """The names of the budgets that have a ramp."""
        return frozenset([budget.name for budget in self.budgets if budget.ramp is not None])

    @cached_property
    def per_minute(self) -> frozenset[str]:
        """The names of the budgets that limit the beginnings in a minute."""
        limited = [budget for budget in self.budgets if budget.max_per_minute is not None]
        return frozenset([budget.name for budget in limited])

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
    def build(
        cls,
        rollout_id: str,
        targets: Mapping[str, str],
        *,
        waves: Sequence[Iterable[str]] = (),
        soak_minutes: int | Sequence[int] = 0,
        budgets: Iterable[tuple[Iterable[str], int]] = (),
        host_edges: Iterable[tuple[str, str]] = (),
        predecessors: Iterable[str] = (),
        tolerances: Sequence[Tolerance] = (),
        deadlines: Deadlines = _NO_DEADLINES,
        retry: Retry = _NO_RETRY,
        on_drift: OnDrift = OnDrift.REPORT,
        guards: Sequence[WaveGuards] = (),
    ) -> Self:
        """Return terms made without a fleet file or a manifest.

        rollout_id: `{channel}@{channel_ref}`. targets: closure by host. waves: hosts of each wave, in order; none
        given, all hosts are in one wave; a host in none of them is never dispatched. soak_minutes: of every wave, or
        one per wave. budgets: hosts, and how many of them may be in flight at once (1 or more). host_edges: pairs
        (gating host, host that waits for it). predecessors: channels that the rollout's channel waits for.
        tolerances, guards: one per wave, or none.
        Raises: InvalidRolloutId. InvalidValue, with everything else that is wrong.
        """
        id_ = RolloutId(rollout_id)
        require_arguments(
            "RolloutTerms.build",
            targets=(targets, Mapping),
            waves=(waves, Sequence),
            soak_minutes=(soak_minutes, int | Sequence[int]),
            budgets=(budgets, Iterable),
            host_edges=(host_edges, Iterable),
            predecessors=(predecessors, Iterable),
        )
        edges, limits = tuple(host_edges), tuple(budgets)
        require_arguments(
            "RolloutTerms.build",
            budgets=(limits, tuple[tuple[object, int], ...]),
            host_edges=(edges, tuple[tuple[str, str], ...]),
        )
        draft = _Draft()
        before = draft.names("predecessors", predecessors, "channel")
        wave_of = draft.waves(targets, waves or (targets,))
        soaks = draft.soaks(soak_minutes, len(waves) or 1)
        members = [
            (draft.hosts(f"budgets[{index}]", hosts, targets), limit)
            for index, (hosts, limit) in enumerate(limits)
        ]
        for index, (_, limit) in enumerate(members):
            if limit < 1:
                draft.refuse(f"budgets[{index}]", "a limit of 1 or more", repr(limit))
        for index, edge in enumerate(edges):
            draft.hosts(f"host_edges[{index}]", edge, targets)
        if draft.problems:
            raise InvalidValue("RolloutTerms.build", tuple(draft.problems))
        return cls(
            rollout_id=id_,
            channel=id_.channel,
            target_ref=id_.channel_ref,
            targets=FrozenMap(targets),
            wave_of=FrozenMap(wave_of),
            wave_soak_minutes=soaks,
            budgets=tuple(
                BudgetTerms(Selector(hosts=tuple(sorted(hosts))), frozenset(hosts), limit)
                for hosts, limit in members
            ),
            host_edges=tuple(Edge(gates=gates, gated=gated) for gates, gated in edges),
            predecessors=tuple(sorted(before)),
            wave_tolerances=tuple(tolerances),
            deadlines=deadlines,
            retry=retry,
            on_drift=on_drift,
            wave_guards=tuple(guards),
        )

    @classmethod
    def of(cls, manifest: Verified[RolloutManifest], fleet: Verified[FleetResolved]) -> Self:
        """Return the terms of a rollout. `fleet` is the one whose hash the manifest carries.

        Raises: InvalidRolloutId.
        """
        return cls.of_values(manifest.value, fleet.value)

    @classmethod
    def of_values(cls, manifest: RolloutManifest, fleet: FleetResolved) -> Self:
        """As `of`, for values that the caller has verified already."""
        waves = fleet.waves.get(manifest.channel) or ()
        channel = fleet.channels.get(manifest.channel)
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
            predecessors=predecessors_of(manifest.channel, fleet),
            wave_tolerances=_tolerances(manifest.rollout_policy, waves),
            deadlines=manifest.rollout_policy.deadlines,
            retry=manifest.rollout_policy.retry,
            on_drift=OnDrift.REPORT if channel is None else channel.on_drift,
            wave_guards=_guards(waves),
        )


def predecessors_of(channel: str, fleet: FleetResolved) -> tuple[str, ...]:
    """Return the channels that `channel` waits for, in order: those of its edges that are enabled."""
    return tuple(sorted({e.gates for e in fleet.channel_edges if _holds(e, channel, fleet)}))


class _Draft:
    """The arguments of `RolloutTerms.build`, checked. problems: all that were found."""

    def __init__(self) -> None:
        self.problems: list[ValueProblem] = []

    def refuse(self, path: str, expected: str, found: object) -> None:
        """Note a problem."""
        self.problems.append(ValueProblem(path, expected, str(found)))

    def waves(self, targets: Mapping[str, str], waves: Sequence[Iterable[str]]) -> dict[str, int]:
        """Return the wave by host."""
        wave_of: dict[str, int] = {}
        for index, hosts in enumerate(waves):
            for host in self.hosts(f"waves[{index}]", hosts, targets):
                if host in wave_of:
                    self.refuse(f"waves[{index}]", "each host in one wave", f"{host!r} again")
                wave_of[host] = index
        return wave_of

    def soaks(self, soak_minutes: int | Sequence[int], count: int) -> tuple[int, ...]:
        """Return the soak of each wave."""
        soaks = (soak_minutes,) * count if isinstance(soak_minutes, int) else tuple(soak_minutes)
        if len(soaks) != count:
            self.refuse("soak_minutes", f"one for each of {count} waves", f"{len(soaks)}")
        for index, soak in enumerate(soaks):
            if type(soak) is not int or soak < 0:
                self.refuse(f"soak_minutes[{index}]", "minutes, 0 or more", repr(soak))
        return soaks

    def hosts(self, path: str, hosts: Iterable[str], targets: Mapping[str, str]) -> tuple[str, ...]:
        """Return the hosts that are named at `path`; those without a target are a problem."""
        named = self.names(path, hosts, "host")
        for host in named:
            if host not in targets:
                self.refuse(path, "hosts that have a target", f"{host!r}, which has none")
        return named

    def names(self, path: str, names: object, kind: str) -> tuple[str, ...]:
        """Return the names at `path`; what is not a collection of strings, or is a string itself, is a problem."""
        if isinstance(names, str) or not isinstance(names, Iterable):
            self.refuse(path, f"a collection of {kind} names", shown(names))
            return ()
        given = tuple(cast("Iterable[object]", names))
        for index, name in enumerate(given):
            if not isinstance(name, str):
                self.refuse(f"{path}[{index}]", "a string", shown(name))
        return tuple(name for name in given if isinstance(name, str))


def _wave_of(
    targets: dict[str, str], waves: tuple[Wave, ...], fleet: FleetResolved
) -> FrozenMap[str, int]:
    if not waves:
        return FrozenMap({host: 0 for host in targets if host in fleet.hosts})
    staged = ((host, index) for index, wave in enumerate(waves) for host in wave.hosts)
    return FrozenMap({host: index for host, index in staged if host in targets})


def _tolerances(policy: RolloutPolicy, waves: tuple[Wave, ...]) -> tuple[Tolerance, ...]:
    """Return the tolerance of each wave: its own, or else the policy's. None, if no wave has any."""
    own = [wave.tolerance for wave in waves] or [Tolerance()]
    tolerances = tuple(map(policy.tolerance_of, own))
    return tolerances if any(each.is_declared for each in tolerances) else ()


def _guards(waves: tuple[Wave, ...]) -> tuple[WaveGuards, ...]:
    guards = tuple(wave.guards for wave in waves)
    return guards if any(each.is_declared for each in guards) else ()


def _holds(edge: Edge, channel: str, fleet: FleetResolved) -> bool:
    """Return whether `channel` waits because of `edge`. A disabled channel releases nothing, so nobody waits for it."""
    gating = fleet.channels.get(edge.gates)
    return edge.gated == channel and (gating is None or gating.enabled)


def _edges_within(channel: str, fleet: FleetResolved) -> tuple[Edge, ...]:
    def is_here(host: str) -> bool:
        known = fleet.hosts.get(host)
        return known is not None and known.channel == channel and known.enabled

    return tuple(edge for edge in fleet.edges if is_here(edge.gates) and is_here(edge.gated))


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}
