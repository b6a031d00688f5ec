"""What a recorded plan was made of, read into our terms and records.

The recorder knew less and more than we do. Less: its rollout summaries have no state, its records no probe
topology, and it had no pauses and no queue; a row of ours has them all (docs/reference/vector-format.md).
More: hosts in a rollout that the rollout's manifest does not name, which we never have.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from attrs import evolve, frozen

from nixfleet_proto.fleet import (
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    RolloutPolicy,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.reference_json import (
    number_at,
    object_at,
    read_at,
    read_each_at,
    read_host_record,
    read_rollout_record,
    structured_at,
    text_at,
    time_at,
    value_at,
)
from nixfleet_testing.conformance.unreadable import within
from nixfleet_testing.pauses import pause

T = TypeVar("T")


@frozen
class Situation:
    """All that a plan depends on. terms: of every rollout, open or offered. offers: rollout by channel.

    holds: why, by paused channel or rollout id. queued: who has a dispatch that waits to be fetched.
    """

    terms: Mapping[RolloutId, RolloutTerms]
    offers: Mapping[str, RolloutId]
    rollouts: Mapping[RolloutId, RolloutRecord]
    hosts: Mapping[tuple[RolloutId, str], HostRolloutState]
    outstanding: Mapping[tuple[RolloutId, str], int]
    quarantines: Mapping[str, frozenset[str]]
    now: datetime
    holds: Mapping[str, str]
    queued: frozenset[tuple[RolloutId, str]]

    def view(self) -> FleetView:
        """Return a fresh view of the situation."""
        view = FleetView(UndoLog())
        for rollout_id in self.offers.values():
            view.offer(self.terms[rollout_id])
        for record in self.rollouts.values():
            view.open(record, self.terms[record.rollout_id])
        for host in self.hosts.values():
            view.set_host(host)
        for key, count in self.outstanding.items():
            view.set_outstanding(*key, count)
        for rollout_id, hostname in sorted(self.queued):
            view.set_queued(rollout_id, hostname, queued=True)
        for scope, why in self.holds.items():
            pause(view, scope, why)
        return view


def read_situation(json: JsonObject) -> Situation:
    """Return the situation in `json`. Raises: ValueError."""
    now = time_at(json, "now")
    state = object_at(json, "fleet_state")
    with within("fleet_state"):
        summaries = _objects_in(state, "rollouts")
        hosts = read_each_at(
            state,
            "host_states",
            lambda _, each: read_at(each, "state", lambda record: _read_host(record, now)),
        )
        outstanding = read_at(state, "outstanding_failing_enforce_probes", _read_outstanding)
        rollouts = _read_each_in(state, "rollouts", _read_rollout)
        holds = structured_at({"holds": {}, **state}, "holds", dict[str, str])
        queued = _read_queued(state)
    offered = _read_each_in(json, "manifests", _read_manifest)
    # A rollout that has its manifest yet runs under that.
    manifests = {
        each.rollout_id: each for each in (*map(_manifest_of_summary, summaries), *offered)
    }
    closures = _closures(hosts, outstanding)
    fleet = read_at(json, "fleet", _read_fleet)
    return Situation(
        terms={id_: _terms(each, fleet, closures.get(id_, {})) for id_, each in manifests.items()},
        offers={manifest.channel: manifest.rollout_id for manifest in offered},
        rollouts={record.rollout_id: record for record in rollouts},
        hosts={(host.rollout_id, host.hostname): host for host in hosts},
        outstanding=outstanding,
        quarantines=structured_at(json, "quarantines", dict[str, frozenset[str]]),
        now=now,
        holds=holds,
        queued=queued,
    )


def _read_queued(state: JsonObject) -> frozenset[tuple[RolloutId, str]]:
    queued = structured_at({"queued": {}, **state}, "queued", dict[str, tuple[str, ...]])
    return frozenset((RolloutId(id_), host) for id_, hosts in queued.items() for host in hosts)


def _read_host(json: JsonObject, now: datetime) -> HostRolloutState:
    """Return the record. A recorder without declared probes uses `now` where a soak has no due time; so does this."""
    if "declared_probes" in json:
        return read_host_record(json)
    host = evolve(read_host_record(json), declared_probes=())
    if host.state is HostState.PENDING and host.soak_due_at is None:
        return evolve(host, soak_due_at=now)
    return host


def _read_outstanding(json: JsonObject) -> Mapping[tuple[RolloutId, str], int]:
    by_rollout = ((RolloutId(key), object_at(json, key)) for key in json)
    return {(id_, host): number_at(hosts, host) for id_, hosts in by_rollout for host in hosts}


def _closures(
    hosts: Iterable[HostRolloutState], outstanding: Iterable[tuple[RolloutId, str]]
) -> Mapping[RolloutId, Mapping[str, str]]:
    """Return closures by rollout and host; "unknown" for a host that only has outstanding failures."""
    closures: dict[RolloutId, dict[str, str]] = {}
    for rollout_id, host in outstanding:
        closures.setdefault(rollout_id, {})[host] = "unknown"
    for record in hosts:
        closures.setdefault(record.rollout_id, {})[record.hostname] = record.target_closure
    return closures


def _read_rollout(json: JsonObject) -> RolloutRecord:
    """Without a state, a rollout is Terminal since `terminal_at`, or Active."""
    if "state" in json:
        return read_rollout_record({key: json[key] for key in json if key != "budgets"})
    is_over = value_at(json, "terminal_at") is not None
    terminal_at = time_at(json, "terminal_at") if is_over else None
    return RolloutRecord(
        rollout_id=RolloutId(text_at(json, "rollout_id")),
        channel=text_at(json, "channel"),
        target_ref=text_at(json, "target_ref"),
        state=RolloutState.ACTIVE if terminal_at is None else RolloutState.TERMINAL,
        current_wave=number_at(json, "current_wave"),
        opened_event_log_seq=0,
        last_transition_event_log_seq=0,
        opened_at=time_at(json, "opened_at"),
        terminal_at=terminal_at,
    )


def _terms(
    manifest: RolloutManifest, fleet: FleetResolved, closures: Mapping[str, str]
) -> RolloutTerms:
    """Return the terms for the hosts of the manifest and for those of `closures` that it does not name."""
    named = {host.hostname: host.target_closure for host in manifest.host_set}
    hosts = (HostAssignment(*item) for item in {**closures, **named}.items())
    terms = RolloutTerms.of_values(evolve(manifest, host_set=tuple(hosts)), fleet)
    return _with_strangers(terms, fleet, closures)


def _with_strangers(
    terms: RolloutTerms, fleet: FleetResolved, hosts: Iterable[str]
) -> RolloutTerms:
    """The recorder takes waves and edges from the channel a host is in, even in another's rollout."""
    known = {name: host.channel for name, host in fleet.hosts.items()}
    strangers = {host for host in hosts if known.get(host, terms.channel) != terms.channel}
    waves = ((host, _own_wave(host, fleet)) for host in strangers)
    staged = {host: wave for host, wave in waves if wave is not None}
    edges = (
        edge
        for edge in fleet.edges
        if edge.gated in strangers and known.get(edge.gates) == known[edge.gated]
    )
    # A stranger's channel may have more waves than this one.
    more = max(staged.values(), default=0) + 1 - len(terms.wave_soak_minutes)
    return evolve(
        terms,
        wave_of=FrozenMap({**terms.wave_of, **staged}),
        wave_soak_minutes=(*terms.wave_soak_minutes, *(0,) * more),
        host_edges=(*terms.host_edges, *edges),
    )


def _own_wave(host: str, fleet: FleetResolved) -> int | None:
    waves = fleet.waves.get(fleet.hosts[host].channel) or (Wave(hosts=(host,)),)
    return next((index for index, wave in enumerate(waves) if host in wave.hosts), None)


def _manifest_of_summary(json: JsonObject) -> RolloutManifest:
    budgets = structured_at(json, "budgets", tuple[ManifestBudget, ...])
    return _manifest(text_at(json, "channel"), text_at(json, "target_ref"), budgets, ())


def _read_manifest(json: JsonObject) -> RolloutManifest:
    hosts = structured_at(json, "host_set", tuple[HostAssignment, ...])
    budgets = structured_at(json, "disruption_budgets", tuple[ManifestBudget, ...])
    return _manifest(text_at(json, "channel"), text_at(json, "channel_ref"), budgets, hosts)


def _manifest(
    channel: str,
    channel_ref: str,
    budgets: tuple[ManifestBudget, ...],
    hosts: tuple[HostAssignment, ...],
) -> RolloutManifest:
    return RolloutManifest(
        channel=channel,
        channel_ref=channel_ref,
        display_name=f"{channel}@{channel_ref}",
        fleet_resolved_hash="",
        host_set=hosts,
        meta=_META,
        disruption_budgets=budgets,
    )


def _read_fleet(json: JsonObject) -> FleetResolved:
    """Return the fleet, as far as the terms of a rollout look at it."""
    hosts = object_at(json, "hosts")
    channels = {name: text_at(object_at(hosts, name), "channel") for name in hosts}
    return FleetResolved(
        hosts=FrozenMap({name: FleetHost(channel) for name, channel in channels.items()}),
        channels=FrozenMap[str, FleetChannel](),
        rollout_policies=FrozenMap[str, RolloutPolicy](),
        waves=FrozenMap(structured_at(json, "waves", dict[str, tuple[Wave, ...]])),
        meta=_META,
        edges=structured_at(json, "edges", tuple[Edge, ...]),
        channel_edges=structured_at(json, "channel_edges", tuple[Edge, ...]),
    )


def _objects_in(json: JsonObject, key: str) -> tuple[JsonObject, ...]:
    objects = object_at(json, key)
    return tuple(object_at(objects, name) for name in sorted(objects))


def _read_each_in(json: JsonObject, key: str, read: Callable[[JsonObject], T]) -> tuple[T, ...]:
    """Return `read` of each object in the object under `key`, in the order of their names."""
    objects = object_at(json, key)
    with within(key):
        return tuple(read_at(objects, name, read) for name in sorted(objects))


_META = Meta(signed_at=None)
