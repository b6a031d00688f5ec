"""Projects a resolved fleet to rollout manifests, one per channel. Pure.

A manifest contains everything that applies to its rollout, so that a later fleet cannot change it.
Source: docs/spec/declarations.md, Manifests.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from attrs import evolve

from nixfleet_proto.fleet import DisruptionBudget, FleetHost, FleetResolved
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_runtime.releases.layout import SIGNATURE_SUFFIX, manifest_file
from nixfleet_state_machine.planner.blast_radius import worst_failed
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.scopes.selector import enabled_hosts, select

FILE_NAME_LENGTH_MAX: Final = 255


def project(
    fleet: FleetResolved,
    channel_ref: str,
    fleet_resolved_hash: str,
    other_refs: Mapping[str, str] | None = None,
) -> tuple[RolloutManifest, ...]:
    """Return the manifests, sorted by channel, of all channels with a host that has a closure.

    fleet_resolved_hash: the `artefact_hash` of the bytes of `fleet`. other_refs: the refs of channels that do not point
    at `channel_ref`. Raises: InvalidRolloutId.
    """
    refs = other_refs or {}
    manifests = (
        project_channel(fleet, channel, refs.get(channel, channel_ref), fleet_resolved_hash)
        for channel in sorted(fleet.channels)
    )
    return tuple(manifest for manifest in manifests if manifest.host_set)


def project_channel(
    fleet: FleetResolved, channel: str, channel_ref: str, fleet_resolved_hash: str
) -> RolloutManifest:
    """Return the manifest that moves one channel to `channel_ref`.

    Disabled hosts, and those without a closure, are not in it. Raises: InvalidRolloutId.
    """
    host_set = _host_set(fleet, channel)
    manifest = RolloutManifest(
        channel=channel,
        channel_ref=channel_ref,
        display_name=_rollout_id(channel, channel_ref),
        fleet_resolved_hash=fleet_resolved_hash,
        host_set=host_set,
        meta=fleet.meta,
        rollout_policy=fleet.rollout_policies[fleet.channels[channel].rollout_policy],
        wave_soak_minutes=tuple(wave.soak_minutes for wave in fleet.waves.get(channel, ())),
        disruption_budgets=_budgets(fleet, host_set),
        freshness_window_minutes=fleet.channels[channel].freshness_window,
        wave_not_before=_not_before(fleet, channel),
    )
    return evolve(manifest, blast_radius=_blast_radius(manifest, fleet))


def _blast_radius(manifest: RolloutManifest, fleet: FleetResolved) -> int | None:
    """Return how many hosts may have failed at worst; `None` where the policy says nothing that it did not before."""
    policy, waves = manifest.rollout_policy, fleet.waves.get(manifest.channel, ())
    tolerances = (policy.tolerance, *(wave.tolerance for wave in waves))
    is_tolerant = any(tolerance.is_declared for tolerance in tolerances)
    if not (is_tolerant or policy.deadlines.is_declared or policy.retry.attempts > 1):
        return None
    return worst_failed(RolloutTerms.of_values(manifest, fleet), policy.on_health_failure)


def _not_before(fleet: FleetResolved, channel: str) -> tuple[datetime | None, ...]:
    """Return the earliest time of each wave; empty when none has one, as in manifests of earlier versions."""
    times = tuple(wave.not_before for wave in fleet.waves.get(channel, ()))
    return times if any(times) else ()


def _rollout_id(channel: str, channel_ref: str) -> RolloutId:
    """Return the rollout's id, if its manifest can lie in a release directory. Raises: InvalidRolloutId."""
    rollout_id = RolloutId.of(channel, channel_ref)
    length = len(PurePosixPath(manifest_file(rollout_id) + SIGNATURE_SUFFIX).name)
    if length > FILE_NAME_LENGTH_MAX:
        raise InvalidRolloutId(
            rollout_id,
            f"the file of its signature would have a name of {length} characters, and at most {FILE_NAME_LENGTH_MAX} "
            "are possible: use a shorter ref",
        )
    return rollout_id


def _host_set(fleet: FleetResolved, channel: str) -> tuple[HostAssignment, ...]:
    waves = fleet.waves.get(channel, ())
    wave_of = {host: index for index, wave in enumerate(waves) for host in wave.hosts}
    return tuple(
        HostAssignment(name, host.closure_hash, wave_of.get(name, 0))
        for name, host in sorted(enabled_hosts(fleet.hosts, fleet.channels).items())
        if host.channel == channel and host.closure_hash is not None
    )


def _budgets(
    fleet: FleetResolved, host_set: tuple[HostAssignment, ...]
) -> tuple[ManifestBudget, ...]:
    # All members, not only those of this channel: the limit applies to all channels together, and a percentage is of
    # all members.
    hosts = {assignment.hostname for assignment in host_set}
    enabled = enabled_hosts(fleet.hosts, fleet.channels)
    budgets = (_with_members(budget, enabled) for budget in fleet.disruption_budgets)
    return tuple(budget for budget in budgets if not hosts.isdisjoint(budget.hosts))


def _with_members(budget: DisruptionBudget, enabled: Mapping[str, FleetHost]) -> ManifestBudget:
    members = select(budget.selector, enabled)
    return ManifestBudget(
        budget.selector,
        members,
        budget.max_in_flight,
        budget.max_in_flight_pct,
        budget.ramp,
        budget.max_per_minute,
    )
