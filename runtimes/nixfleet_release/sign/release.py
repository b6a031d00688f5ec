"""Resolves, projects and signs a fleet and its rollouts. No clock and no files: `publish.save` writes them.

Deterministic: the same declaration, closures, ref, time and key give the same bytes.
Source: docs/spec/declarations.md, What signs what; docs/spec/trust.md, Artefacts.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import evolve

from nixfleet_proto.codec import (
    decode_bootstrap_nonces,
    encode_bootstrap_nonces,
    encode_fleet,
    encode_manifest,
    encode_revocations,
    format_time,
    parse_json,
)
from nixfleet_proto.codec.json_text import canonical_bytes
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.signing import Signer, artefact_hash, sign_artefact
from nixfleet_release.build.pins import pinned_refs
from nixfleet_release.build.project import project
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.check.staging import InForce
from nixfleet_release.sign.admission import Admission
from nixfleet_runtime.releases.directory import Release


def sign_release(
    checked: CheckedFleet,
    closures: Mapping[str, str],
    *,
    channel_ref: str,
    signed_at: datetime,
    key: Signer,
    ci_commit: str | None = None,
    author: str | None = None,
    admission: Admission | None = None,
    after: Release | None = None,
) -> Release:
    """Return the signed release that moves every channel to `channel_ref`, or to its pin.

    closures: by host, one for each. signed_at: aware; pins and nonces that have expired by then are left out.
    author: the operator who wrote it, and so does not approve it.
    after: the release in force; under a ref of it hosts keep their waves.
    Raises: DeclarationError, InvalidRolloutId, what the signer raises; DecodeError, for `after`.
    """
    other_refs = pinned_refs(checked, signed_at)
    return sign_resolved(
        resolve(
            checked,
            closures,
            Meta(None),
            channel_ref=channel_ref,
            other_refs=other_refs,
            in_force=None if after is None else InForce.of(after),
        ),
        channel_ref=channel_ref,
        other_refs=other_refs,
        signed_at=signed_at,
        key=key,
        ci_commit=ci_commit,
        author=author,
        admission=admission,
    )


def sign_resolved(
    fleet: FleetResolved,
    *,
    channel_ref: str,
    other_refs: Mapping[str, str] | None = None,
    signed_at: datetime,
    key: Signer,
    ci_commit: str | None = None,
    author: str | None = None,
    admission: Admission | None = None,
) -> Release:
    """As `sign_release`, for a fleet that was resolved elsewhere, with its closures. Its `meta` is replaced.

    other_refs: the refs of channels that do not move to `channel_ref`. Hosts without a closure are in no manifest.
    Raises: InvalidRolloutId, what the signer raises.
    """
    meta = Meta(signed_at=signed_at, ci_commit=ci_commit, author=author)
    fleet = evolve(fleet, meta=meta)
    signed_fleet = sign_artefact(encode_fleet(fleet), key)
    manifests = project(fleet, channel_ref, artefact_hash(signed_fleet.body), other_refs)
    admission = admission or Admission()
    return Release(
        signed_fleet,
        FrozenMap(
            {each.rollout_id: sign_artefact(encode_manifest(each), key) for each in manifests}
        ),
        sign_artefact(encode_revocations(admission.revocations_as_of(meta)), key),
        sign_artefact(encode_bootstrap_nonces(admission.nonces_as_of(meta, signed_at)), key),
    )


def sign_again(release: Release, *, signed_at: datetime, key: Signer) -> Release:
    """Return `release` with the same content, signed anew at `signed_at`. No host moves by it.

    Every field is kept, also unknown ones, except the times of signing, the anchors and nonces that have expired. The
    caller has verified `release`. Raises: MalformedArtefact, DecodeError, what the signer raises.
    """
    fleet = sign_artefact(_dated(release.fleet.body, signed_at), key)
    anchor: dict[str, JsonValue] = {"fleetResolvedHash": artefact_hash(fleet.body)}
    return evolve(
        release,
        fleet=fleet,
        manifests=FrozenMap(
            {
                rollout_id: sign_artefact(_dated(it.body, signed_at, anchor), key)
                for rollout_id, it in release.manifests.items()
            }
        ),
        revocations=None
        if release.revocations is None
        else sign_artefact(_dated(release.revocations.body, signed_at), key),
        nonces=None
        if release.nonces is None
        else sign_artefact(_without_expired(release.nonces.body, signed_at), key),
    )


def _dated(body: bytes, signed_at: datetime, other: Mapping[str, JsonValue] = FrozenMap()) -> bytes:
    parsed = parse_json(body)
    assert isinstance(parsed, Mapping), "the release was verified"
    meta = parsed["meta"]
    assert isinstance(meta, Mapping), "the release was verified"
    return canonical_bytes(
        {**parsed, **other, "meta": {**meta, "signedAt": format_time(signed_at)}}
    )


def _without_expired(body: bytes, signed_at: datetime) -> bytes:
    nonces = decode_bootstrap_nonces(body)
    admission = Admission(nonces=nonces.nonces)
    meta = evolve(nonces.meta, signed_at=signed_at)
    return encode_bootstrap_nonces(admission.nonces_as_of(meta, signed_at))
