"""Fleets as CI signs them, and the manifests and terms that follow from one.

What a resolver would refuse is never drawn: hosts are in channels that exist, waves share a channel's hosts out
and none is empty, edges follow the order of names, so no two wait for each other.
"""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    OnDrift,
    PolicyWave,
    Ramp,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.scopes.selector import select
from nixfleet_testing.strategies.calendars import calendars
from nixfleet_testing.strategies.guards import wave_guards
from nixfleet_testing.strategies.names import (
    closures,
    hostnames,
    policies,
    times,
)

CHANNELS = ("stable", "edge")
HOSTS = ("db-01", "lb-01", "web-01", "web-02")
REFS = ("a1b2", "c3d4")
DIGESTS = st.sampled_from(("a" * 64, "b" * 64))
_POLICY = "careful"


def metas() -> SearchStrategy[Meta]:
    authors = st.none() | st.just("ada")
    return st.builds(Meta, times(), st.none() | st.sampled_from(REFS), author=authors)


def selectors() -> SearchStrategy[Selector]:
    """Selectors of every form, also the one that selects no host."""
    return st.sampled_from(
        (
            Selector(all=True),
            Selector(),
            Selector(hosts=("web-01", "db-01")),
            Selector(channel="stable"),
            Selector(tags=("eu", "db")),
            Selector(tags=("db", "eu")),  # means the same as the one before
            Selector(channel="edge", tags_any=("eu", "us")),
        )
    )


def fleet_hosts(channel: SearchStrategy[str] | None = None) -> SearchStrategy[FleetHost]:
    tags = st.lists(st.sampled_from(("db", "eu", "us")), max_size=2, unique=True).map(tuple)
    return st.builds(
        FleetHost,
        st.sampled_from(CHANNELS) if channel is None else channel,
        tags,
        closure_hash=closures(),
        enabled=st.just(True) if channel is not None else st.booleans(),
    )


def fleet_channels() -> SearchStrategy[FleetChannel]:
    return st.builds(
        FleetChannel,
        st.just(_POLICY),
        freshness_window=st.sampled_from((60, 180)),
        on_drift=st.sampled_from(OnDrift),
    )


def waves_of(hosts: Sequence[str]) -> SearchStrategy[tuple[Wave, ...]]:
    """The ways to share `hosts` out to at most three waves, and none at all."""
    if not hosts:
        raise InvalidArgument("expected hosts to share out to waves, found none")
    shares = st.tuples(st.permutations(hosts), st.integers(0, min(3, len(hosts))))
    return st.builds(_shared_out, shares, st.sampled_from((0, 5)))


def edges(names: Sequence[str], at_least: int = 0) -> SearchStrategy[tuple[Edge, ...]]:
    """At most two edges between `names`, that of the later name waiting for the earlier."""
    ordered = sorted(names)
    pairs = [(a, b) for at, a in enumerate(ordered) for b in ordered[at + 1 :]]
    if not pairs:
        return st.just(())
    drawn = st.lists(st.sampled_from(pairs), min_size=at_least, max_size=2, unique=True)
    return drawn.map(lambda chosen: tuple(Edge(gates, gated) for gates, gated in chosen))


def budgets() -> SearchStrategy[DisruptionBudget]:
    """Budgets with a number, a share, or both; some with a pace."""
    number, share = st.integers(1, 3), st.sampled_from((10, 50, 100))
    limits = st.one_of(
        st.tuples(number, st.none()), st.tuples(st.none(), share), st.tuples(number, share)
    )
    # Most budgets have no pace.
    return st.builds(
        _budget,
        selectors(),
        limits,
        st.none() | st.none() | ramps(),
        st.sampled_from((None, None, None, 1, 2)),
    )


def ramps() -> SearchStrategy[Ramp]:
    """Ramps, also one that does not grow."""
    return st.builds(Ramp, st.integers(1, 2), st.integers(1, 3))


def _budget(
    selector: Selector,
    limit: tuple[int | None, int | None],
    ramp: Ramp | None,
    max_per_minute: int | None,
) -> DisruptionBudget:
    return DisruptionBudget(selector, *limit, ramp, max_per_minute)


@st.composite
def fleets(draw: st.DrawFn) -> FleetResolved:
    """Fleets of one or two channels, each with a host at least."""
    channels = CHANNELS[: draw(st.integers(1, len(CHANNELS)))]
    names = HOSTS[: draw(st.integers(len(channels), len(HOSTS)))]
    # The first of each channel is given, so that none is empty.
    homes = [*channels, *(draw(st.sampled_from(channels)) for _ in names[len(channels) :])]
    hosts = {
        name: draw(fleet_hosts(st.just(home))) for name, home in zip(names, homes, strict=True)
    }
    of = {
        channel: [name for name in names if hosts[name].channel == channel] for channel in channels
    }
    return FleetResolved(
        hosts=FrozenMap(hosts),
        channels=FrozenMap({channel: draw(fleet_channels()) for channel in channels}),
        rollout_policies=FrozenMap({_POLICY: draw(policies())}),
        waves=FrozenMap({channel: draw(waves_of(of[channel])) for channel in channels}),
        meta=draw(metas()),
        edges=tuple(edge for channel in channels for edge in draw(edges(of[channel]))),
        channel_edges=draw(edges(channels)),
        disruption_budgets=tuple(draw(st.lists(budgets(), max_size=2))),
        calendar=draw(calendars()),
    )


@st.composite
def _manifests(
    draw: st.DrawFn, fleet: FleetResolved | None, channel: str | None
) -> tuple[RolloutManifest, FleetResolved]:
    fleet = fleet or draw(fleets())
    channel = channel or draw(st.sampled_from(sorted(fleet.channels)))
    manifest = manifest_of(fleet, channel, draw(st.sampled_from(REFS)), draw(DIGESTS))
    return manifest, fleet


def manifests(
    fleet: FleetResolved | None = None, channel: str | None = None
) -> SearchStrategy[RolloutManifest]:
    """Manifests that follow from `fleet`, or from any fleet, for one of its channels.

    Raises: InvalidArgument when `fleet` is not given or has no such channel.
    """
    _require_channel(fleet, channel)
    return _manifests(fleet, channel).map(lambda drawn: drawn[0])


def terms(
    fleet: FleetResolved | None = None, channel: str | None = None
) -> SearchStrategy[RolloutTerms]:
    """What the manifests of `manifests` and their fleets say about a rollout. Raises: as that."""
    _require_channel(fleet, channel)
    return _manifests(fleet, channel).map(lambda drawn: RolloutTerms.of_values(*drawn))


def _require_channel(fleet: FleetResolved | None, channel: str | None) -> None:
    if channel is not None and (fleet is None or channel not in fleet.channels):
        found = "no fleet" if fleet is None else f"one with {', '.join(sorted(fleet.channels))}"
        raise InvalidArgument(f"expected a fleet with the channel {channel!r}, found {found}")


def manifest_of(fleet: FleetResolved, channel: str, ref: str, digest: str) -> RolloutManifest:
    """Return the manifest that moves `channel` of `fleet` to `ref`."""
    waves = fleet.waves.get(channel) or ()
    wave_of = {host: index for index, wave in enumerate(waves) for host in wave.hosts}
    return RolloutManifest(
        channel=channel,
        channel_ref=ref,
        display_name=f"{channel} {ref}",
        fleet_resolved_hash=digest,
        host_set=tuple(
            HostAssignment(name, host.closure_hash, wave_of.get(name, 0))
            for name, host in fleet.hosts.items()
            if host.channel == channel and host.closure_hash is not None
        ),
        meta=fleet.meta,
        rollout_policy=fleet.rollout_policies[fleet.channels[channel].rollout_policy],
        wave_soak_minutes=tuple(wave.soak_minutes for wave in waves),
        disruption_budgets=tuple(_frozen(budget, fleet) for budget in fleet.disruption_budgets),
        freshness_window_minutes=fleet.channels[channel].freshness_window,
    )


def some_waves() -> SearchStrategy[Wave]:
    hosts = st.lists(hostnames(), min_size=1, max_size=2, unique=True).map(tuple)
    return st.builds(Wave, hosts, st.sampled_from((0, 5)), guards=wave_guards())


def some_edges() -> SearchStrategy[Edge]:
    return edges(HOSTS, at_least=1).map(lambda drawn: drawn[0])


def host_assignments() -> SearchStrategy[HostAssignment]:
    return st.builds(HostAssignment, hostnames(), closures(), st.integers(0, 2))


def manifest_budgets() -> SearchStrategy[ManifestBudget]:
    return st.builds(_frozen, budgets(), fleets())


def slots_returned() -> SearchStrategy[SlotsReturned]:
    names = st.sampled_from(("all", "tags:db+eu"))
    return st.builds(SlotsReturned, names, times(), st.integers(1, 3), times())


def budget_terms() -> SearchStrategy[BudgetTerms]:
    return manifest_budgets().map(BudgetTerms.of)


def policy_waves() -> SearchStrategy[PolicyWave]:
    return st.builds(PolicyWave, selectors(), st.sampled_from((0, 5)), guards=wave_guards())


def _frozen(budget: DisruptionBudget, fleet: FleetResolved) -> ManifestBudget:
    return ManifestBudget(
        budget.selector,
        select(budget.selector, fleet.hosts),
        budget.max_in_flight,
        budget.max_in_flight_pct,
        budget.ramp,
        budget.max_per_minute,
    )


def _shared_out(share: tuple[Sequence[str], int], soak_minutes: int) -> tuple[Wave, ...]:
    hosts, count = share
    return tuple(Wave(tuple(hosts[index::count]), soak_minutes) for index in range(count))
