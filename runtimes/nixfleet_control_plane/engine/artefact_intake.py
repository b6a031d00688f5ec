"""Accepts or refuses verified artefacts, and puts the accepted ones in force.

A `Verified` manifest is genuine and fresh. Here it must also be consistent with its fleet, its declared waves and the
artefacts in force: the rules are `nixfleet_runtime.releases.acceptance`. Each refusal is logged and returned; the other
artefacts are accepted.
Source: docs/spec/rollout-machine.md, Who emits rollout events; docs/spec/trust.md, Anchors.
"""

from datetime import datetime
from functools import partial

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import take_artefact
from nixfleet_control_plane.engine.rollout_course import amend
from nixfleet_control_plane.engine.shard_release import Release
from nixfleet_control_plane.engine.state import State, fleet_name, manifest_name
from nixfleet_control_plane.messages.inputs import (
    ListsOutcome,
    ListsUpdated,
    ManifestsOutcome,
    ManifestsUpdated,
)
from nixfleet_control_plane.messages.log_entry import ArtefactRefused, ArtefactTaken
from nixfleet_proto.enrollment import BootstrapNonces, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import artefact_hash
from nixfleet_proto.trust import Verified
from nixfleet_runtime.releases.acceptance import Precedent, list_objection, manifest_objection
from nixfleet_runtime.releases.amendment import SignedTerms
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.shards.shard_map import ShardPlace


def take(
    state: State, commit: CommitBuilder, update: ManifestsUpdated, place: ShardPlace, now: datetime
) -> ManifestsOutcome:
    """Put the consistent manifests of `update` in force; return which, and why the others were refused or wait.

    Manifests of channels that `place` does not have are left to the shards that have them.
    """
    taken: list[RolloutId] = []
    refused: list[tuple[str, str]] = []
    waiting: list[tuple[RolloutId, str]] = []
    release = Release.of(place, update)
    for manifest in update.manifests:
        rollout_id = manifest.value.rollout_id
        if not place.has(manifest.value.channel):
            continue
        objection = release.joins(manifest.value.channel) or manifest_objection(
            manifest, update.fleet, partial(_precedent, state)
        )
        wait = None if objection is not None else release.waits_for(state.view.seen, manifest.value)
        if wait is not None:
            waiting.append((rollout_id, wait))
        elif objection is None:
            taken.append(rollout_id)
            _put_in_force(state, commit, manifest, update.fleet, now)
        else:
            refused.append((rollout_id, objection))
            state.append(commit, ArtefactRefused(manifest_name(rollout_id), objection), now)
    return ManifestsOutcome(tuple(taken), tuple(refused), tuple(waiting))


def take_lists(
    state: State, commit: CommitBuilder, update: ListsUpdated, now: datetime
) -> ListsOutcome:
    """Put the lists of `update` in force unless older ones; return which, and why the others were refused."""
    taken: list[str] = []
    refused: list[tuple[str, str]] = []
    identities = state.identities
    for name, offered, in_force in (
        (REVOCATIONS_FILE, update.revocations, identities.revocations.get()),
        (NONCES_FILE, update.nonces, identities.nonces.get()),
    ):
        if offered is None:
            continue
        in_force_at = None if in_force is None else in_force.meta.signed_at
        objection = list_objection(offered.signed_at, in_force_at)
        if objection is not None:
            refused.append((name, objection))
            state.append(commit, ArtefactRefused(name, objection), now)
            continue
        taken.append(name)
        if offered.value != in_force:
            take_artefact(state, commit, _taken(name, None, offered), now)
    return ListsOutcome(tuple(taken), tuple(refused))


def _put_in_force(
    state: State,
    commit: CommitBuilder,
    manifest: Verified[RolloutManifest],
    fleet: Verified[FleetResolved],
    now: datetime,
) -> None:
    rollout_id = manifest.value.rollout_id
    in_force = state.manifests.get(rollout_id)
    if in_force is not None and in_force.artefact.body == manifest.artefact:
        return
    fleet_hash = artefact_hash(fleet.artefact)
    if fleet_hash not in state.fleets:
        take_artefact(state, commit, _taken(fleet_name(fleet_hash), None, fleet), now)
    entry = _taken(manifest_name(rollout_id), rollout_id, manifest)
    take_artefact(state, commit, entry, now)
    if in_force is not None:
        amend(state, commit, rollout_id, now)


def _taken(
    name: str,
    rollout_id: RolloutId | None,
    verified: Verified[RolloutManifest | FleetResolved | Revocations | BootstrapNonces],
) -> ArtefactTaken:
    return ArtefactTaken(
        name=name,
        rollout_id=rollout_id,
        body=verified.artefact.decode(),
        signature=verified.signature.hex(),
        signed_by=verified.signed_by,
    )


def _precedent(state: State, terms: RolloutTerms) -> Precedent:
    """Return what a manifest with these terms may conflict with."""
    record = state.view.rollouts.get(terms.rollout_id)
    ended = None
    if record is not None and record.state is RolloutState.SUPERSEDED:
        ended = "was superseded"
    elif record is None and terms.rollout_id in state.pruned:
        ended = "has ended and was pruned"
    in_force = state.manifests.get(terms.rollout_id)
    offered = state.view.offers.get(terms.channel)
    newest = None if offered is None else state.manifests.get(offered.rollout_id)
    return Precedent(
        ended,
        None if in_force is None else SignedTerms(in_force.manifest, in_force.terms),
        None if newest is None else newest.manifest.meta.signed_at,
    )
