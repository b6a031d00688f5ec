"""Verifies a release as its receivers do: every artefact, every problem. Pure.

Source: docs/spec/trust.md, Artefacts; docs/spec/trust.md, Anchors.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TypeVar

from attrs import evolve, frozen

from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import (
    VerifyError,
    WrongAnchor,
    require_anchor,
    verify_fleet,
    verify_manifest,
    verify_nonces,
    verify_revocations,
)
from nixfleet_proto.trust import TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.directory import Release
from nixfleet_runtime.releases.layout import (
    FLEET_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    manifest_file,
    rollout_of,
)

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
    release: Release, trust: TrustRoot, now: datetime, *, freshness_window_minutes: int
) -> Verdict:
    """Return which artefacts of `release` a control plane and its agents accept at `now`."""
    verifier = ArtefactVerifier(trust, now, freshness_window_minutes)
    fleet = verifier.fleet(release.fleet)
    for rollout_id, signed in release.manifests.items():
        manifest = verifier.manifest(rollout_id, signed)
        if fleet is not None and manifest is not None:
            verifier.compare(manifest_file(rollout_id), manifest, fleet)
    if release.revocations is not None:
        verifier.check(REVOCATIONS_FILE, verify_revocations, release.revocations)
    if release.nonces is not None:
        verifier.check(NONCES_FILE, verify_nonces, release.nonces)
    return verifier.verdict


class ArtefactVerifier:
    """Verifies artefacts one after another, with one trust file at one time, and collects the results in `verdict`."""

    def __init__(self, trust: TrustRoot, now: datetime, freshness_window_minutes: int) -> None:
        self._trust = trust
        self._now = now
        self._minutes = freshness_window_minutes
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
        """Verify the fleet; return it if it is accepted."""
        return self.check(FLEET_FILE, verify_fleet, signed)

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
        try:
            verified = verify(
                signed, self._trust, self._now, freshness_window_minutes=self._minutes
            )
        except VerifyError as error:
            self._refuse(name, str(error))
            return None
        accepted = AcceptedArtefact(name, verified.signed_by, verified.signed_at)
        self.verdict = evolve(self.verdict, accepted=(*self.verdict.accepted, accepted))
        return verified

    def compare(
        self, name: str, manifest: Verified[RolloutManifest], fleet: Verified[FleetResolved]
    ) -> None:
        """Refuse a manifest that contradicts its fleet."""
        try:
            require_anchor(manifest, fleet)
        except WrongAnchor as error:
            self._refuse(name, str(error))
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
