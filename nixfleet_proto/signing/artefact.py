"""Artefacts that CI signs: fleets, manifests, and any other canonical JSON with a detached signature.

`verify` runs its checks in the order of the specification and stops at the first failure: the content of an artefact is
not read before its signature is verified. No clock: `now` is an argument.
Source: docs/spec/trust.md, Artefacts.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from nixfleet_proto.codec.artefact import (
    fleet_of,
    fleet_window_of,
    manifest_of,
    manifest_window_of,
    meta_of,
    schema_version_of,
)
from nixfleet_proto.codec.json_text import Uncanonical, canonical_bytes, parse_json
from nixfleet_proto.codec.problem import DecodeError, DecodeProblem
from nixfleet_proto.fleet import SCHEMA_VERSION, FleetResolved
from nixfleet_proto.freshness import freshness_window
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing.key import SIGNATURE_LENGTH, Signer, is_signed_by
from nixfleet_proto.signing.refusal import (
    CLOCK_SKEW,
    BadSignature,
    FutureDated,
    MalformedArtefact,
    MalformedSignature,
    NotSigned,
    RejectedAsCompromised,
    Stale,
    UnsupportedAlgorithm,
    UnsupportedSchema,
    WrongAnchor,
    WrongRolloutId,
)
from nixfleet_proto.trust import (
    _SEAL,  # pyright: ignore[reportPrivateUsage]  # the one place that may
    KeySlot,
    TrustedKey,
    TrustRoot,
    Verified,
)
from nixfleet_proto.wire import SignedArtefact

S = TypeVar("S")
T = TypeVar("T")


def verify_fleet(
    signed: SignedArtefact, trust: TrustRoot, now: datetime, *, freshness_window_minutes: int | None
) -> Verified[FleetResolved]:
    """As `verify`, for `fleet.resolved.json` and the CI release key."""
    return verify(
        signed,
        fleet_of,
        trust.ci_release_key,
        now,
        freshness_window_minutes=freshness_window_minutes,
        declared_window_of=fleet_window_of,
    )


def verify_manifest(
    signed: SignedArtefact,
    trust: TrustRoot,
    now: datetime,
    *,
    freshness_window_minutes: int | None,
    expected_rollout_id: RolloutId,
) -> Verified[RolloutManifest]:
    """As `verify`, for the manifest of `expected_rollout_id` and the CI release key.

    Raises: also WrongRolloutId, when the id rebuilt from the manifest is another.
    """
    manifest = verify(
        signed,
        manifest_of,
        trust.ci_release_key,
        now,
        freshness_window_minutes=freshness_window_minutes,
        declared_window_of=manifest_window_of,
    )
    found = _rebuilt_rollout_id(manifest.value)
    if found != expected_rollout_id:
        raise WrongRolloutId(expected_rollout_id, found)
    return manifest


def require_anchor(manifest: Verified[RolloutManifest], fleet: Verified[FleetResolved]) -> None:
    """Return if `manifest` was made from exactly `fleet`. Raises: WrongAnchor."""
    anchor = manifest.value.fleet_resolved_hash
    if anchor != fleet.artefact_hash:
        raise WrongAnchor(manifest.value.rollout_id, fleet.artefact_hash, anchor)


def verify(
    signed: SignedArtefact,
    read: Callable[[JsonValue], T],
    keys: KeySlot,
    now: datetime,
    *,
    freshness_window_minutes: int | None,
    declared_window_of: Callable[[JsonValue], int | None] = lambda _: None,
) -> Verified[T]:
    """Return the value of `signed`, verified against `keys` at `now`.

    freshness_window_minutes: the receiver's own limit; `None`: what the artefact declares, or the default.
    declared_window_of: returns the window that an artefact declares; asked once the signature is good.
    read: makes the value of the parsed body; asked last, when all else holds. Raises DecodeError.
    Raises: MalformedArtefact, MalformedKey, MalformedSignature, UnsupportedAlgorithm, BadSignature,
    UnsupportedSchema, NotSigned, RejectedAsCompromised, Stale, FutureDated.
    Source: docs/spec/trust.md, Artefacts.
    """
    parsed = _parsed(signed.body)
    canonical = _canonical(parsed)
    signer = signer_of(canonical, signed.signature, keys)
    signed_at = _signing_time(parsed)
    require_not_compromised(signed_at, keys)
    declared = _checked(declared_window_of, parsed)
    _require_fresh(signed_at, now, freshness_window(declared, freshness_window_minutes))
    return Verified(
        value=_checked(read, parsed),
        artefact=signed.body,
        artefact_hash=hashlib.sha256(canonical).hexdigest(),
        signature=signed.signature,
        signed_by=signer.public_key,
        signed_at=signed_at,
        seal=_SEAL,
    )


def parsed_if_signed(signed: SignedArtefact, key: TrustedKey, read: Callable[[JsonValue], T]) -> T:
    """Return the value of an artefact without a `meta`, if `key` signed it. read: decodes it.

    Raises: MalformedArtefact, MalformedKey, MalformedSignature, UnsupportedAlgorithm, BadSignature,
    UnsupportedSchema.
    """
    parsed = _parsed(signed.body)
    signer_of(_canonical(parsed), signed.signature, KeySlot(key))
    _require_known_schema(parsed)
    return _checked(read, parsed)


def sign_artefact(artefact: bytes, key: Signer) -> SignedArtefact:
    """Return the canonical form of `artefact` with its detached signature.

    Raises: MalformedArtefact; and what the signer raises.
    """
    canonical = canonical_form(artefact)
    return SignedArtefact(canonical, key.sign(canonical))


def artefact_hash(artefact: bytes) -> str:
    """Return the SHA-256 of the canonical form, in hex. Raises: MalformedArtefact."""
    return hashlib.sha256(canonical_form(artefact)).hexdigest()


def canonical_form(artefact: bytes) -> bytes:
    """Return the canonical JSON (RFC 8785) of `artefact`. Raises: MalformedArtefact."""
    return _canonical(_parsed(artefact))


def signer_of(message: bytes, signature: bytes, keys: KeySlot) -> TrustedKey:
    """Return the key of the slot that made `signature`.

    Raises: MalformedKey, MalformedSignature, UnsupportedAlgorithm, BadSignature.
    """
    if len(signature) != SIGNATURE_LENGTH:
        raise MalformedSignature(f"{SIGNATURE_LENGTH} bytes", f"{len(signature)} bytes")
    unsupported: UnsupportedAlgorithm | None = None
    for key in keys.keys:
        try:
            if is_signed_by(key, message, signature):
                return key
        except UnsupportedAlgorithm as error:
            unsupported = error  # the other key of the slot may be of a supported algorithm
    if unsupported is not None:
        raise unsupported
    raise BadSignature(tuple(key.public_key for key in keys.keys))


def require_not_compromised(signed_at: datetime, keys: KeySlot) -> None:
    """Return if a signature made at this time is accepted. Raises: RejectedAsCompromised."""
    if keys.reject_before is not None and signed_at < keys.reject_before:
        raise RejectedAsCompromised(signed_at, keys.reject_before)


def _parsed(artefact: bytes) -> JsonValue:
    return _checked(parse_json, artefact)


def _canonical(parsed: JsonValue) -> bytes:
    try:
        return canonical_bytes(parsed)
    except Uncanonical as error:
        raise MalformedArtefact("artefact", (error.problem,)) from error


def _signing_time(parsed: JsonValue) -> datetime:
    _require_known_schema(parsed)
    meta = _checked(meta_of, parsed)
    if meta.schema_version != SCHEMA_VERSION:
        raise UnsupportedSchema(SCHEMA_VERSION, meta.schema_version)
    if meta.signed_at is None:
        raise NotSigned("meta.signedAt")
    return meta.signed_at


def _require_known_schema(parsed: JsonValue) -> None:
    version = _checked(schema_version_of, parsed)
    if version != SCHEMA_VERSION:
        raise UnsupportedSchema(SCHEMA_VERSION, version)


def _require_fresh(signed_at: datetime, now: datetime, window_minutes: int) -> None:
    # In seconds: a window from a file may exceed the range of a timedelta.
    if (now - signed_at - CLOCK_SKEW).total_seconds() > window_minutes * 60:
        raise Stale(signed_at, now, window_minutes)
    if signed_at - now > CLOCK_SKEW:
        raise FutureDated(signed_at, now)


def _checked(read: Callable[[S], T], source: S) -> T:
    try:
        return read(source)
    except DecodeError as error:
        raise MalformedArtefact(error.what, error.problems) from error


def _rebuilt_rollout_id(manifest: RolloutManifest) -> RolloutId:
    try:
        return manifest.rollout_id
    except InvalidRolloutId as error:
        problem = DecodeProblem("$", "a channel and a ref that make a rollout id", repr(error.text))
        raise MalformedArtefact("rollout manifest", (problem,)) from error
