"""For how long a signature is accepted: the declared window counts, and a receiver may only shorten it."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_proto.codec import decode_manifest, encode_manifest
from nixfleet_proto.enrollment import Revocations
from nixfleet_proto.fleet import FleetChannel, FleetResolved, Meta
from nixfleet_proto.freshness import declared_window, freshness_window
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.signing import CLOCK_SKEW, SigningKey, Stale, sign_artefact, verify_manifest
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import SignedArtefact

CI = SigningKey(b"\1" * 32)
TRUST = TrustRoot(KeySlot(CI.public_key))
SIGNED_AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
META = Meta(SIGNED_AT)
MANIFEST = RolloutManifest(
    "stable", "r1", "stable@r1", "ab" * 32, (HostAssignment("web-01", "c"),), Meta(SIGNED_AT)
)


def _signed(window_minutes: int | None) -> SignedArtefact:
    declared = evolve(MANIFEST, freshness_window_minutes=window_minutes)
    return sign_artefact(encode_manifest(declared), CI)


def _is_accepted(signed: SignedArtefact, age: timedelta, limit: int | None) -> bool:
    try:
        verify_manifest(
            signed,
            TRUST,
            SIGNED_AT + age,
            freshness_window_minutes=limit,
            expected_rollout_id=MANIFEST.rollout_id,
        )
    except Stale:
        return False
    return True


@pytest.mark.parametrize(
    ("declared", "limit", "minutes"),
    [
        (1440, None, 1440),
        (30, None, 30),
        (30, 60, 30),
        (1440, 180, 180),
        (None, 60, 60),
        (None, None, 180),
    ],
)
def test_the_declared_window_applies_and_a_receiver_may_only_shorten_it(
    declared: int | None, limit: int | None, minutes: int
) -> None:
    """Accepted up to the last second of the window and the clock skew, refused after it."""
    oldest = timedelta(minutes=minutes) + CLOCK_SKEW

    assert freshness_window(declared, limit) == minutes
    assert _is_accepted(_signed(declared), oldest, limit)
    assert not _is_accepted(_signed(declared), oldest + timedelta(seconds=1), limit)


def test_a_manifest_without_a_window_has_no_such_field() -> None:
    """Manifests of the public project are written as they were read, byte for byte."""
    body = _signed(None).body

    assert b"freshnessWindowMinutes" not in body
    assert encode_manifest(decode_manifest(body)) == body
    assert b'"freshnessWindowMinutes":30' in _signed(30).body


def test_a_fleet_declares_the_longest_window_of_its_channels() -> None:
    """A fleet is accepted while any of its channels is; one without channels declares none."""
    channels = {
        "stable": FleetChannel("careful", freshness_window=30),
        "edge": FleetChannel("careful", freshness_window=90),
    }
    nothing = FrozenMap[str, FleetChannel]()
    fleet = FleetResolved(FrozenMap(), FrozenMap(channels), FrozenMap(), FrozenMap(), META)

    assert declared_window(fleet) == 90
    assert declared_window(evolve(fleet, channels=nothing)) is None


def test_a_manifest_declares_its_own_window_and_a_list_none() -> None:
    """Manifests of the public project and lists leave the window to the receiver."""
    assert declared_window(evolve(MANIFEST, freshness_window_minutes=30)) == 30
    assert declared_window(MANIFEST) is None
    assert declared_window(Revocations((), META)) is None
