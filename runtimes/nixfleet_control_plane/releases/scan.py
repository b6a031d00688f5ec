"""Turns the files that CI published into inputs: new artefacts, and those that fail verification. Sans I/O.

A directory may be read while it is being written. So verified artefacts are passed on at once; a failure is reported
only when the next scan finds the same one, since an incomplete release is complete by then. Nothing is passed on or
reported twice.
Source: docs/spec/trust.md, Release directory; docs/explanation/decisions/network.md.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeAlias, TypeVar, assert_never, cast

from attrs import frozen

from nixfleet_control_plane.messages.inputs import ArtefactRejected, ListsUpdated, ManifestsUpdated
from nixfleet_proto.enrollment import BootstrapNonces, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.freshness import declared_window, freshness_window
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import (
    CLOCK_SKEW,
    VerifyError,
    require_anchor,
    verify_fleet,
    verify_manifest,
    verify_nonces,
    verify_revocations,
)
from nixfleet_proto.trust import TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.layout import FLEET_FILE, NONCES_FILE, REVOCATIONS_FILE, rollout_of

T = TypeVar("T")

AnyVerified: TypeAlias = Verified[FleetResolved | RolloutManifest | Revocations | BootstrapNonces]
ReleaseInput: TypeAlias = ListsUpdated | ManifestsUpdated | ArtefactRejected
Files: TypeAlias = Mapping[str, SignedArtefact]
"""Signed artefacts by file name."""

_LISTS: Final = (REVOCATIONS_FILE, NONCES_FILE)


@frozen
class _Failure:
    """An artefact that failed verification: its name, its digest and the kind of error. Equal at every scan."""

    name: str
    digest: str
    kind: str


class ReleaseScanner:
    """The results of the scans of a release directory so far."""

    def __init__(self, trust: TrustRoot, freshness_window_minutes: int | None) -> None:
        self._trust = trust
        self._window_minutes = freshness_window_minutes
        self._verified: dict[str, AnyVerified] = {}
        self._failures: dict[_Failure, str] = {}
        self._done: set[str] = set()
        self._reported: set[_Failure] = set()

    def use_trust(self, trust: TrustRoot) -> None:
        """Verify by another trust root from the next scan on, everything anew."""
        self._trust = trust
        self._verified = {}

    def scan(self, files: Files, now: datetime) -> tuple[ReleaseInput, ...]:
        """Return the inputs for the control plane. Call `done` with each one that it has handled."""
        self._verified, failures = self._verify_all(files, now)
        confirmed = [failure for failure in failures if failure in self._failures]
        self._reported &= failures.keys()
        self._failures = failures
        self._done &= {_digest_of(verified) for verified in self._verified.values()}
        return (
            *self._new_lists(),
            *self._new_manifests(),
            *(
                ArtefactRejected(failure.name, failures[failure])
                for failure in confirmed
                if failure not in self._reported
            ),
        )

    def done(self, input: ReleaseInput) -> None:
        """Mark an input that the last scan returned as handled: it is not returned again."""
        match input:
            case ListsUpdated():
                lists = (input.revocations, input.nonces)
                self._done |= {_digest_of(each) for each in lists if each is not None}
            case ManifestsUpdated():
                self._done |= {_digest_of(each) for each in input.manifests}
            case ArtefactRejected():
                failures = {each for each in self._failures if each.name == input.name}
                self._reported |= failures
            case _:
                assert_never(input)

    def _verify_all(
        self, files: Files, now: datetime
    ) -> tuple[dict[str, AnyVerified], dict[_Failure, str]]:
        verified: dict[str, AnyVerified] = {}
        failures: dict[_Failure, str] = {}
        # The fleet first: manifests are checked against it.
        for name in sorted(files, key=lambda name: (name != FLEET_FILE, name)):
            try:
                verified[name] = self._verify(name, files[name], verified, now)
            except VerifyError as error:
                digest = _digest(files[name].body, files[name].signature)
                failures[_Failure(name, digest, type(error).__name__)] = str(error)
        return verified, failures

    def _verify(
        self, name: str, artefact: SignedArtefact, others: Mapping[str, AnyVerified], now: datetime
    ) -> AnyVerified:
        known = self._verified.get(name)
        if known is None or not self._still_holds(known, others, artefact, now):
            known = self._verify_by_name(name, artefact, others, now)
        fleet = others.get(FLEET_FILE)
        if fleet is not None and isinstance(known.value, RolloutManifest):
            require_anchor(
                cast("Verified[RolloutManifest]", known), cast("Verified[FleetResolved]", fleet)
            )
        return known

    def _still_holds(
        self,
        known: AnyVerified,
        others: Mapping[str, AnyVerified],
        artefact: SignedArtefact,
        now: datetime,
    ) -> bool:
        """Return whether an earlier verification is still valid: only time can invalidate it. Verifying again is
        slow.
        """
        age_max_seconds = self._window_of(known.value, others) * 60 + CLOCK_SKEW.total_seconds()
        return (
            known.artefact == artefact.body
            and known.signature == artefact.signature
            and now - known.signed_at >= -CLOCK_SKEW
            and (now - known.signed_at).total_seconds() <= age_max_seconds
        )

    def _verify_by_name(
        self, name: str, artefact: SignedArtefact, others: Mapping[str, AnyVerified], now: datetime
    ) -> AnyVerified:
        trust, window = self._trust, self._window_minutes
        listed = self._window_of(None, others)
        match name:
            case "fleet.resolved.json":
                return verify_fleet(artefact, trust, now, freshness_window_minutes=window)
            case "revocations.json":
                return verify_revocations(artefact, trust, now, freshness_window_minutes=listed)
            case "bootstrap-nonces.json":
                return verify_nonces(artefact, trust, now, freshness_window_minutes=listed)
            case _:
                rollout_id = rollout_of(name)
                assert rollout_id is not None, name
                return verify_manifest(
                    artefact,
                    trust,
                    now,
                    freshness_window_minutes=window,
                    expected_rollout_id=rollout_id,
                )

    def _window_of(self, artefact: object, others: Mapping[str, AnyVerified]) -> int:
        """Return the window of an artefact in minutes; a list has that of the fleet beside it."""
        if not isinstance(artefact, FleetResolved | RolloutManifest):
            fleet = others.get(FLEET_FILE)
            artefact = None if fleet is None else fleet.value
        return freshness_window(declared_window(artefact), self._window_minutes)

    def _new_lists(self) -> Iterator[ListsUpdated]:
        revocations, nonces = (self._new(name) for name in _LISTS)
        if revocations is not None or nonces is not None:
            yield ListsUpdated(
                cast("Verified[Revocations] | None", revocations),
                cast("Verified[BootstrapNonces] | None", nonces),
            )

    def _new_manifests(self) -> Iterator[ManifestsUpdated]:
        fleet = self._verified.get(FLEET_FILE)
        names = [name for name in self._verified if name not in (FLEET_FILE, *_LISTS)]
        manifests = tuple(new for name in names if (new := self._new(name)) is not None)
        if fleet is not None and manifests:
            yield ManifestsUpdated(
                cast("Verified[FleetResolved]", fleet),
                cast("tuple[Verified[RolloutManifest], ...]", manifests),
                frozenset(rollout.channel for name in names if (rollout := rollout_of(name))),
            )

    def _new(self, name: str) -> AnyVerified | None:
        verified = self._verified.get(name)
        return None if verified is None or _digest_of(verified) in self._done else verified


def _digest_of(verified: Verified[object]) -> str:
    return _digest(verified.artefact, verified.signature)


def _digest(body: bytes, signature: bytes) -> str:
    return sha256(signature + body).hexdigest()
