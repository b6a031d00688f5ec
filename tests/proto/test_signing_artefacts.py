"""Verifying what CI signs: every refusal, its numbers, and the order in which it is looked for."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_proto.codec import encode_fleet, encode_manifest
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import (
    CLOCK_SKEW,
    BadSignature,
    FutureDated,
    MalformedArtefact,
    MalformedKey,
    MalformedSignature,
    NotSigned,
    RejectedAsCompromised,
    SigningKey,
    Stale,
    UnsupportedAlgorithm,
    UnsupportedSchema,
    VerifyError,
    WrongAnchor,
    WrongRolloutId,
    artefact_hash,
    canonical_form,
    require_anchor,
    sign_artefact,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.trust import KeySlot, TrustedKey, TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WINDOW_MINUTES = 180
WINDOW = timedelta(minutes=WINDOW_MINUTES)
CI, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2))
SLOT = KeySlot(CI.public_key)
EMPTY_FLEET_AT_NOON = (
    b'{"channelEdges":[],"channels":{},"disruptionBudgets":[],"edges":[],"hosts":{},"meta":'
    b'{"ciCommit":null,"schemaVersion":1,"signatureAlgorithm":"ed25519","signedAt":'
    b'"2026-05-16T12:00:00Z"},"rolloutPolicies":{},"schemaVersion":1,"waves":{}}'
)


def _fleet(signed_at: datetime | None = NOW, schema_version: int = 1) -> FleetResolved:
    return FleetResolved(
        FrozenMap(),
        FrozenMap(),
        FrozenMap(),
        FrozenMap(),
        Meta(signed_at),
        schema_version=schema_version,
    )


def _signed(fleet: FleetResolved, key: SigningKey = CI) -> SignedArtefact:
    return sign_artefact(encode_fleet(fleet), key)


def _verified(signed: SignedArtefact, slot: KeySlot = SLOT) -> Verified[FleetResolved]:
    return verify_fleet(signed, TrustRoot(slot), NOW, freshness_window_minutes=WINDOW_MINUTES)


def _refusal(signed: SignedArtefact, slot: KeySlot = SLOT) -> VerifyError:
    with pytest.raises(VerifyError) as refusal:
        _verified(signed, slot)
    return refusal.value


def test_signing_an_artefact_signs_its_canonical_form() -> None:
    """What is signed, and handed on, is canonical, however it was laid out."""
    laid_out = EMPTY_FLEET_AT_NOON.replace(b",", b" ,\n")

    assert sign_artefact(laid_out, CI) == SignedArtefact(
        EMPTY_FLEET_AT_NOON, CI.sign(EMPTY_FLEET_AT_NOON)
    )
    assert canonical_form(laid_out) == EMPTY_FLEET_AT_NOON
    assert artefact_hash(laid_out) == artefact_hash(EMPTY_FLEET_AT_NOON)


def test_verifying_a_fresh_fleet_gives_it_with_its_proof() -> None:
    """A fleet signed by CI comes out with the bytes, the hash, and who signed it when."""
    signed = _signed(_fleet())

    verified = _verified(signed)

    assert verified.value == _fleet()
    assert verified.artefact == EMPTY_FLEET_AT_NOON
    assert verified.artefact_hash == artefact_hash(EMPTY_FLEET_AT_NOON)
    assert verified.signature == signed.signature
    assert verified.signed_by == CI.public_key.public_key
    assert verified.signed_at == NOW


def test_verifying_other_bytes_with_the_same_canonical_form_keeps_the_bytes_as_they_came() -> None:
    """Layout is not signed: the form is what counts, and the received bytes are what is handed on."""
    laid_out = EMPTY_FLEET_AT_NOON.replace(b",", b", ")

    verified = _verified(SignedArtefact(laid_out, CI.sign(EMPTY_FLEET_AT_NOON)))

    assert verified.artefact == laid_out
    assert verified.artefact_hash == artefact_hash(EMPTY_FLEET_AT_NOON)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b'{"a":1,"a":2}', b'{"a":0.5}', b'{"a":9007199254740992}', b"[" * 999]
)
def test_an_artefact_without_a_canonical_form_is_refused_as_malformed(body: bytes) -> None:
    """What is not JSON, or not JSON that can be signed, is refused before its signature is tried."""
    refusal = _refusal(SignedArtefact(body, CI.sign(body)))

    assert isinstance(refusal, MalformedArtefact)
    with pytest.raises(MalformedArtefact):
        sign_artefact(body, CI)


def test_an_artefact_signed_by_a_stranger_is_refused() -> None:
    """A signature by a key that is not trusted says which ones are."""
    refusal = _refusal(_signed(_fleet(), STRANGER))

    assert isinstance(refusal, BadSignature)
    assert refusal.tried == (CI.public_key.public_key,)


def test_an_artefact_signed_by_the_previous_key_is_accepted_until_that_is_taken_out() -> None:
    """A rotation has a time in which both keys are good."""
    signed = _signed(_fleet(), CI)
    rotating = KeySlot(STRANGER.public_key, previous=CI.public_key)

    assert _verified(signed, rotating).signed_by == CI.public_key.public_key
    assert isinstance(_refusal(signed, KeySlot(STRANGER.public_key)), BadSignature)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_refused_as_malformed(length: int) -> None:
    """A signature that cannot be one is told from one that is not good."""
    refusal = _refusal(SignedArtefact(EMPTY_FLEET_AT_NOON, bytes(length)))

    assert isinstance(refusal, MalformedSignature)
    assert str(refusal) == f"expected a signature of 64 bytes, found {length} bytes"


@pytest.mark.parametrize("public_key", ["", "ab" * 31, "ab" * 33, "xy" * 32, " " + "ab" * 32])
def test_a_trusted_key_that_is_no_key_is_refused_as_malformed(public_key: str) -> None:
    """A trust file with a broken key is reported as that, not as a bad signature."""
    refusal = _refusal(_signed(_fleet()), KeySlot(TrustedKey(public_key)))

    assert isinstance(refusal, MalformedKey)
    assert refusal.public_key == public_key


def test_a_key_of_an_unknown_algorithm_is_refused_only_when_no_other_key_fits() -> None:
    """The algorithm is the key's: a newer one in the slot does not disturb the one that can be checked."""
    newer = TrustedKey("ab" * 32, "ml-dsa")
    signed = _signed(_fleet())

    assert _verified(signed, KeySlot(newer, previous=CI.public_key)).value == _fleet()
    refusal = _refusal(_signed(_fleet(), STRANGER), KeySlot(newer, previous=CI.public_key))
    assert isinstance(refusal, UnsupportedAlgorithm)
    assert (refusal.algorithm, refusal.public_key) == ("ml-dsa", "ab" * 32)


def test_the_algorithm_that_an_artefact_claims_is_not_believed() -> None:
    """An artefact cannot choose how it is verified."""
    fleet = _fleet()
    claims = evolve(fleet, meta=evolve(fleet.meta, signature_algorithm="none"))

    assert _verified(_signed(claims)).value == claims
    assert isinstance(_refusal(_signed(claims, STRANGER)), BadSignature)


def test_an_artefact_of_another_schema_version_is_refused_whatever_its_shape() -> None:
    """The version is looked at before the rest has to make sense."""
    for body in (b'{"schemaVersion":2}', encode_fleet(_fleet(schema_version=2))):
        refusal = _refusal(sign_artefact(body, CI))
        assert isinstance(refusal, UnsupportedSchema)
        assert (refusal.expected, refusal.found) == (1, 2)


def test_an_artefact_whose_meta_is_of_another_schema_version_is_refused() -> None:
    """The two places for the version have to agree with this release."""
    fleet = evolve(_fleet(), meta=Meta(NOW, schema_version=3))

    refusal = _refusal(_signed(fleet))

    assert isinstance(refusal, UnsupportedSchema)
    assert refusal.found == 3


def test_an_artefact_that_does_not_say_when_it_was_signed_is_refused() -> None:
    """An artefact that was released without being signed is told from one with a bad signature."""
    assert isinstance(_refusal(_signed(_fleet(signed_at=None))), NotSigned)
    assert isinstance(_refusal(sign_artefact(b'{"meta":{}}', CI)), NotSigned)


def test_an_artefact_from_before_the_compromise_switch_is_refused() -> None:
    """What was signed while the key may have been stolen is refused, though the signature is good."""
    slot = evolve(SLOT, reject_before=NOW)

    refusal = _refusal(_signed(_fleet(NOW - SECOND)), slot)

    assert isinstance(refusal, RejectedAsCompromised)
    assert str(refusal) == (
        "signed 2026-05-16T11:59:59Z is older than reject_before 2026-05-16T12:00:00Z"
    )
    assert _verified(_signed(_fleet(NOW)), slot).signed_at == NOW


def test_an_artefact_is_stale_once_its_window_and_the_skew_are_over() -> None:
    """The window, plus what clocks may differ, is inclusive."""
    oldest = NOW - WINDOW - CLOCK_SKEW

    refusal = _refusal(_signed(_fleet(oldest - SECOND)))

    assert _verified(_signed(_fleet(oldest))).signed_at == oldest
    assert isinstance(refusal, Stale)
    assert (refusal.signed_at, refusal.now) == (oldest - SECOND, NOW)
    assert refusal.freshness_window_minutes == WINDOW_MINUTES
    assert refusal.age == WINDOW + CLOCK_SKEW + SECOND


def test_a_window_longer_than_time_can_be_never_closes() -> None:
    """A window from a file may be any number."""
    signed = _signed(_fleet(datetime(1, 1, 1, tzinfo=UTC)))

    verified = verify_fleet(signed, TrustRoot(SLOT), NOW, freshness_window_minutes=2**63)

    assert verified.signed_at.year == 1


def test_an_artefact_from_further_ahead_than_clocks_may_differ_is_refused() -> None:
    """A little ahead is a clock; more is refused."""
    latest = NOW + CLOCK_SKEW

    refusal = _refusal(_signed(_fleet(latest + SECOND)))

    assert _verified(_signed(_fleet(latest))).signed_at == latest
    assert isinstance(refusal, FutureDated)
    assert (refusal.signed_at, refusal.now) == (latest + SECOND, NOW)


def test_a_signed_artefact_that_is_no_fleet_is_refused_with_every_problem() -> None:
    """A signature does not make sense of what makes none."""
    body = EMPTY_FLEET_AT_NOON.replace(b'"hosts":{}', b'"hosts":[]').replace(b'"waves":{},', b"")

    refusal = _refusal(sign_artefact(body.replace(b',"waves":{}', b""), CI))

    assert isinstance(refusal, MalformedArtefact)
    assert str(refusal) == (
        "not a valid fleet: $.hosts: expected an object, found a list; "
        "$.waves: expected an object, found nothing"
    )


FAULTS: tuple[tuple[type[VerifyError], dict[str, str | int]], ...] = (
    (BadSignature, {"key": "stranger"}),
    (UnsupportedSchema, {"version": 2}),
    (NotSigned, {"signed": "never"}),
    (RejectedAsCompromised, {"reject": "later"}),
    (Stale, {"signed": "long ago"}),
)


@pytest.mark.parametrize("index", range(len(FAULTS)))
def test_of_several_faults_the_first_in_order_is_the_one_that_is_told(index: int) -> None:
    """The order is: signature, schema version, signed at all, compromise switch, freshness."""
    faults: dict[str, str | int] = {}
    for _, fault in reversed(FAULTS[index:]):
        faults.update(fault)
    signed_at = {"never": None, "long ago": NOW - 2 * WINDOW}.get(str(faults.get("signed")), NOW)
    slot = evolve(SLOT, reject_before=NOW + WINDOW if "reject" in faults else None)
    key = STRANGER if "key" in faults else CI
    fleet = _fleet(signed_at, schema_version=2 if "version" in faults else 1)

    assert type(_refusal(_signed(fleet, key), slot)) is FAULTS[index][0]


MANIFEST = RolloutManifest("stable", "a1b2", "Stable", "00", (), Meta(NOW))


def _verified_manifest(manifest: RolloutManifest, asked: str) -> Verified[RolloutManifest]:
    return verify_manifest(
        sign_artefact(encode_manifest(manifest), CI),
        TrustRoot(SLOT),
        NOW,
        freshness_window_minutes=WINDOW_MINUTES,
        expected_rollout_id=RolloutId(asked),
    )


def test_verifying_the_manifest_that_was_asked_for_gives_it() -> None:
    """A manifest whose channel and ref make the id that was asked for is accepted."""
    assert _verified_manifest(MANIFEST, "stable@a1b2").value == MANIFEST


def test_verifying_a_good_manifest_of_another_rollout_is_refused() -> None:
    """A control plane cannot pass off one signed manifest for another."""
    with pytest.raises(WrongRolloutId) as refusal:
        _verified_manifest(MANIFEST, "stable@c3d4")

    assert (refusal.value.expected, refusal.value.found) == ("stable@c3d4", "stable@a1b2")


def test_verifying_a_manifest_whose_parts_make_no_rollout_id_is_refused_as_malformed() -> None:
    """A channel that contains an `@` cannot stand for another channel's rollout."""
    with pytest.raises(MalformedArtefact, match="a channel and a ref that make a rollout id"):
        _verified_manifest(evolve(MANIFEST, channel="stable@a1b2", channel_ref=""), "stable@a1b2")


def test_a_manifest_is_anchored_to_the_fleet_whose_hash_it_carries() -> None:
    """A manifest goes with the fleet it was made from, and with no other."""
    fleet = _verified(_signed(_fleet()))
    other = _verified(_signed(_fleet(NOW - SECOND)))
    manifest = _verified_manifest(
        evolve(MANIFEST, fleet_resolved_hash=artefact_hash(EMPTY_FLEET_AT_NOON)), "stable@a1b2"
    )

    require_anchor(manifest, fleet)
    with pytest.raises(WrongAnchor) as refusal:
        require_anchor(manifest, other)
    assert refusal.value.rollout_id == "stable@a1b2"
    assert refusal.value.expected == other.artefact_hash
    assert refusal.value.found == fleet.artefact_hash
