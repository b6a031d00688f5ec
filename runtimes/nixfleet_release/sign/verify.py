"""Verifies a release as its receivers do: every artefact, every problem. Pure.

Source: docs/spec/trust.md, Artefacts; docs/spec/trust.md, Anchors.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TypeVar

from attrs import evolve, frozen

from nixfleet_proto.codec import decode_fleet, decode_manifest, parse_json
from nixfleet_proto.codec.artefact import meta_of
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.freshness import declared_window, freshness_window
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import (
    VerifyError,
    verify_fleet,
    verify_manifest,
    verify_nonces,
    verify_revocations,
)
from nixfleet_proto.trust import TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.acceptance import (
    Precedent,
    list_objection,
    manifest_objection,
)
from nixfleet_runtime.releases.amendment import SignedTerms
from nixfleet_runtime.releases.directory import Release
from nixfleet_runtime.releases.layout import (
    FLEET_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    bytes_max_of,
    manifest_file,
    rollout_of,
)
from nixfleet_state_machine.planner.terms import RolloutTerms

T = TypeVar("T")


@frozen
class AcceptedArtefact:
    """An artefact that was verified: who signed it, and when."""

    name: str
    signed_by: str
    signed_at: datetime


@frozen
class RefusedArtefact:
    """An artefact that fails verification, or a part of it. why: a message for people."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@frozen
class Verdict:
    """The result for each artefact. `refused` is empty if receivers will accept all of them."""

    accepted: tuple[AcceptedArtefact, ...] = ()
    refused: tuple[RefusedArtefact, ...] = ()


def is_artefact_name(name: str) -> bool:
    """Return whether an artefact of a release can have this name."""
    return name in (FLEET_FILE, REVOCATIONS_FILE, NONCES_FILE) or rollout_of(name) is not None


def verify_release(
    release: Release,
    trust: TrustRoot,
    now: datetime,
    *,
    freshness_window_minutes: int | None,
    before: Release | None = None,
) -> Verdict:
    """Return which artefacts of `release` a control plane and its agents accept at `now`.

    before: the release that is in force; with it, also what conflicts with it is refused.
    Raises: DecodeError, if `before` cannot be read.
    """
    precedents = Precedents(release, before)
    verifier = ArtefactVerifier(trust, now, freshness_window_minutes)
    fleet = verifier.fleet(release.fleet)
    for rollout_id, signed in release.manifests.items():
        manifest = verifier.manifest(rollout_id, signed)
        if fleet is not None and manifest is not None:
            verifier.compare(manifest_file(rollout_id), manifest, fleet, precedents.of)
    for name, verify, offered in (
        (REVOCATIONS_FILE, verify_revocations, release.revocations),
        (NONCES_FILE, verify_nonces, release.nonces),
    ):
        if offered is not None:
            verifier.check_list(name, verify, offered, precedents.signed_at(name))
    return verifier.verdict


class Precedents:
    """What the earlier release, and the history beside a release, say about its manifests and lists.

    Raises: DecodeError, if the earlier release cannot be read.
    """

    def __init__(self, release: Release, before: Release | None) -> None:
        self._lists: dict[str, datetime | None] = {}
        self._manifests: dict[RolloutId, RolloutManifest] = {}
        self._fleet: FleetResolved | None = None
        self._history = dict(release.history)
        if before is None:
            return
        self._history = history_after(before)
        self._fleet = decode_fleet(before.fleet.body)
        self._manifests = {id_: decode_manifest(it.body) for id_, it in before.manifests.items()}
        for name, signed in (
            (REVOCATIONS_FILE, before.revocations),
            (NONCES_FILE, before.nonces),
        ):
            if signed is not None:
                self._lists[name] = meta_of(parse_json(signed.body)).signed_at

    def signed_at(self, name: str) -> datetime | None:
        """Return when the earlier list with this name was signed."""
        return self._lists.get(name)

    def of(self, terms: RolloutTerms) -> Precedent:
        """Return the precedent for a manifest with `terms`."""
        earlier = self._history.get(terms.channel, ())[:-1]
        same = self._manifests.get(terms.rollout_id)
        in_force = next(
            (it for it in self._manifests.values() if it.channel == terms.channel), None
        )
        return Precedent(
            "was superseded" if terms.target_ref in earlier else None,
            None
            if same is None or self._fleet is None
            else SignedTerms(same, RolloutTerms.of_values(same, self._fleet)),
            None if in_force is None else in_force.meta.signed_at,
        )


def history_after(release: Release, earlier: Release | None = None) -> dict[str, tuple[str, ...]]:
    """Return every channel's refs so far, oldest first: those of `earlier`, then those of `release`."""
    history = dict(release.history) if earlier is None else history_after(earlier)
    for rollout_id in release.manifests:
        refs = history.get(rollout_id.channel, ())
        if rollout_id.channel_ref not in refs:
            history[rollout_id.channel] = (*refs, rollout_id.channel_ref)
    return history


class ArtefactVerifier:
    """Verifies artefacts one after another, with one trust file at one time, and collects the results in `verdict`."""

    def __init__(
        self, trust: TrustRoot, now: datetime, freshness_window_minutes: int | None
    ) -> None:
        self._trust = trust
        self._now = now
        self._minutes = freshness_window_minutes
        self._list_minutes = freshness_window_minutes
        self.verdict = Verdict()

    def by_name(self, name: str, signed: SignedArtefact) -> None:
        """Verify the artefact with this name. Raises: ValueError, if no artefact can have it."""
        rollout_id = rollout_of(name)
        if rollout_id is not None:
            self.manifest(rollout_id, signed)
        elif name == FLEET_FILE:
            self.fleet(signed)
        elif name == REVOCATIONS_FILE:
            self.check(name, verify_revocations, signed)
        elif name == NONCES_FILE:
            self.check(name, verify_nonces, signed)
        else:
            raise ValueError(f"expected the name of an artefact, found {name!r}")

    def fleet(self, signed: SignedArtefact) -> Verified[FleetResolved] | None:
        """Verify the fleet; return it if it is accepted. Lists that follow have its window."""
        verified = self.check(FLEET_FILE, verify_fleet, signed)
        if verified is not None:
            self._list_minutes = freshness_window(declared_window(verified.value), self._minutes)
        return verified

    def manifest(
        self, rollout_id: RolloutId, signed: SignedArtefact
    ) -> Verified[RolloutManifest] | None:
        """Verify the manifest of a rollout; return it if it is accepted."""
        verify = partial(verify_manifest, expected_rollout_id=rollout_id)
        return self.check(manifest_file(rollout_id), verify, signed)

    def check(
        self, name: str, verify: Callable[..., Verified[T]], signed: SignedArtefact
    ) -> Verified[T] | None:
        """Verify an artefact with `verify`, record the result, and return the artefact if it is accepted."""
        found, most = len(signed.body), bytes_max_of(name)
        if found > most:
            why = f"expected at most {most} bytes, which is what its receivers read, found {found}"
            self._refuse(name, f"{why}: split the channel, or the fleet")
            return None
        try:
            is_list = name in (REVOCATIONS_FILE, NONCES_FILE)
            minutes = self._list_minutes if is_list else self._minutes
            verified = verify(signed, self._trust, self._now, freshness_window_minutes=minutes)
        except VerifyError as error:
            self._refuse(name, str(error))
            return None
        accepted = AcceptedArtefact(name, verified.signed_by, verified.signed_at)
        self.verdict = evolve(self.verdict, accepted=(*self.verdict.accepted, accepted))
        return verified

    def check_list(
        self,
        name: str,
        verify: Callable[..., Verified[T]],
        signed: SignedArtefact,
        in_force_at: datetime | None,
    ) -> None:
        """Verify a list; refuse it also if it is older than the one in force."""
        verified = self.check(name, verify, signed)
        why = None if verified is None else list_objection(verified.signed_at, in_force_at)
        if why is not None:
            self._refuse(name, why)

    def compare(
        self,
        name: str,
        manifest: Verified[RolloutManifest],
        fleet: Verified[FleetResolved],
        precedent_of: Callable[[RolloutTerms], Precedent],
    ) -> None:
        """Refuse a manifest that contradicts its fleet, or that a control plane would not put in force."""
        why = manifest_objection(manifest, fleet, precedent_of)
        if why is not None:
            self._refuse(name, why)
        if manifest.value.fleet_resolved_hash != fleet.artefact_hash:
            return
        for why in _differences(manifest.value, fleet.value):
            self._refuse(name, why)

    def _refuse(self, name: str, why: str) -> None:
        self.verdict = evolve(
            self.verdict, refused=(*self.verdict.refused, RefusedArtefact(name, why))
        )


def _differences(manifest: RolloutManifest, fleet: FleetResolved) -> Iterator[str]:
    for assignment in manifest.host_set:
        name = assignment.hostname
        host = fleet.hosts.get(name)
        if host is None or host.channel != manifest.channel:
            found = "no such host" if host is None else f"it in {host.channel}"
            yield f"{name}: expected a host of channel {manifest.channel}, found {found}"
        elif host.closure_hash != assignment.target_closure:
            yield (
                f"{name}: expected the fleet's closure {host.closure_hash}, "
                f"found {assignment.target_closure}"
            )
