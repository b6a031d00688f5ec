"""What holds for every signature: whoever changes, swaps or replays something is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.codec import EventBatch, encode_fleet, encode_manifest
from nixfleet_proto.fleet import SCHEMA_VERSION, FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import (
    CLOCK_SKEW,
    BadSignature,
    FutureDated,
    RejectedAsCompromised,
    SigningKey,
    Stale,
    VerifyError,
    WrongAnchor,
    WrongRolloutId,
    artefact_hash,
    canonical_form,
    require_anchor,
    sign_artefact,
    sign_batch,
    sign_envelope,
    verify_batch,
    verify_envelope,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.trust import KeySlot, TrustRoot, Verified
from nixfleet_proto.wire import AgentEventEnvelope, SignedArtefact
from property_tests.anything import CANONICAL_INTEGER_MAX, anything

# Keys from fixed seeds: what fails once fails again.
CI, NEXT_CI, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
TRUST = TrustRoot(KeySlot(CI.public_key))
NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
WINDOW_MINUTES = 180
OLDEST = timedelta(minutes=WINDOW_MINUTES) + CLOCK_SKEW
MICROSECOND = timedelta(microseconds=1)


def _fresh() -> st.SearchStrategy[datetime]:
    """Times of signing that are taken at `NOW`."""
    return st.timedeltas(-CLOCK_SKEW, OLDEST).map(lambda age: NOW - age)


def _fleets() -> st.SearchStrategy[FleetResolved]:
    return st.builds(_as_of, anything(FleetResolved, CANONICAL_INTEGER_MAX), _fresh())


def _as_of(fleet: FleetResolved, signed_at: datetime) -> FleetResolved:
    meta = evolve(fleet.meta, signed_at=signed_at, schema_version=SCHEMA_VERSION)
    # At least the receiver's window, so that the receiver's is the one that counts.
    channels = {
        name: evolve(it, freshness_window=max(it.freshness_window, WINDOW_MINUTES))
        for name, it in fleet.channels.items()
    }
    return evolve(fleet, meta=meta, channels=FrozenMap(channels), schema_version=SCHEMA_VERSION)


def _small_fleet(signed_at: datetime) -> FleetResolved:
    return FleetResolved(FrozenMap(), FrozenMap(), FrozenMap(), FrozenMap(), Meta(signed_at))


def _manifest(signed_at: datetime, channel_ref: str, fleet_hash: str) -> RolloutManifest:
    return RolloutManifest("stable", channel_ref, "Stable", fleet_hash, (), Meta(signed_at))


def _verified(
    signed: SignedArtefact, trust: TrustRoot = TRUST, now: datetime = NOW
) -> Verified[FleetResolved]:
    return verify_fleet(signed, trust, now, freshness_window_minutes=WINDOW_MINUTES)


@given(_fleets())
def test_a_fleet_that_was_signed_is_verified_as_it_was(fleet: FleetResolved) -> None:
    """What CI signed comes out equal, with its bytes, its hash and who signed it."""
    signed = sign_artefact(encode_fleet(fleet), CI)

    verified = _verified(signed)

    assert verified.value == fleet
    assert verified.artefact == signed.body
    assert verified.artefact_hash == artefact_hash(signed.body)
    assert verified.signature == signed.signature
    assert verified.signed_by == CI.public_key.public_key
    assert verified.signed_at == fleet.meta.signed_at


@given(_fleets(), st.data())
def test_a_fleet_with_a_byte_changed_is_refused(fleet: FleetResolved, data: st.DataObject) -> None:
    """No byte of an artefact can be another, unless it says the same (`\\u001f`, `\\u001F`)."""
    signed = sign_artefact(encode_fleet(fleet), CI)
    changed = evolve(signed, body=_with_a_byte_changed(signed.body, data))

    try:
        _verified(changed)
    except VerifyError:
        return
    assert canonical_form(changed.body) == signed.body


@given(_fresh(), st.data())
def test_a_signature_with_a_byte_changed_is_refused(
    signed_at: datetime, data: st.DataObject
) -> None:
    """No byte of a signature can be another."""
    signed = sign_artefact(encode_fleet(_small_fleet(signed_at)), CI)
    changed = evolve(signed, signature=_with_a_byte_changed(signed.signature, data))

    with pytest.raises(BadSignature):
        _verified(changed)


def _with_a_byte_changed(text: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(text)
    changed[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


@given(_fresh(), st.permutations((CI, NEXT_CI, STRANGER)), st.booleans())
def test_only_the_keys_of_the_slot_may_sign(
    signed_at: datetime, keys: list[SigningKey], rotating: bool
) -> None:
    """The current key signs, the previous one while it is there, and no other."""
    current, previous, stranger = keys
    slot = KeySlot(current.public_key, previous.public_key if rotating else None)
    body = encode_fleet(_small_fleet(signed_at))

    def signer(key: SigningKey) -> str:
        return _verified(sign_artefact(body, key), TrustRoot(slot)).signed_by

    assert signer(current) == current.public_key.public_key
    if rotating:
        assert signer(previous) == previous.public_key.public_key
    for key in (stranger,) if rotating else (stranger, previous):
        with pytest.raises(BadSignature) as refusal:
            signer(key)
        assert refusal.value.tried == tuple(known.public_key for known in slot.keys)


@given(st.timedeltas(OLDEST + MICROSECOND, timedelta(days=10_000)))
def test_a_replay_from_outside_the_window_is_refused(age: timedelta) -> None:
    """A good artefact is refused from the microsecond on at which its window and the skew are over."""
    signed = sign_artefact(encode_fleet(_small_fleet(NOW - age)), CI)

    with pytest.raises(Stale) as refusal:
        _verified(signed)

    assert refusal.value.age == age
    assert refusal.value.freshness_window_minutes == WINDOW_MINUTES


@given(st.timedeltas(CLOCK_SKEW + MICROSECOND, timedelta(days=10_000)))
def test_an_artefact_from_the_future_is_refused(lead: timedelta) -> None:
    """An artefact is refused until its time of signing is no further ahead than clocks may differ."""
    signed = sign_artefact(encode_fleet(_small_fleet(NOW + lead)), CI)

    with pytest.raises(FutureDated) as refusal:
        _verified(signed)

    assert refusal.value.signed_at - refusal.value.now == lead


@given(_fresh(), st.timedeltas(MICROSECOND, timedelta(days=10_000)))
def test_what_was_signed_before_the_compromise_switch_is_refused_by_either_key(
    signed_at: datetime, earlier: timedelta
) -> None:
    """Nothing signed before `reject_before` is taken, however fresh; at that time, it is."""
    body = encode_fleet(_small_fleet(signed_at))
    for key in (CI, NEXT_CI):
        signed = sign_artefact(body, key)
        slot = KeySlot(CI.public_key, NEXT_CI.public_key, reject_before=signed_at)
        later = TrustRoot(evolve(slot, reject_before=signed_at + earlier))

        assert _verified(signed, TrustRoot(slot)).signed_at == signed_at
        with pytest.raises(RejectedAsCompromised):
            _verified(signed, later)


@given(_fresh(), st.sampled_from(("a1b2", "c3d4")), st.sampled_from(("a1b2", "c3d4")))
def test_a_manifest_is_that_of_the_rollout_that_was_asked_for(
    signed_at: datetime, signed_ref: str, asked_ref: str
) -> None:
    """A control plane cannot answer with the good manifest of another rollout."""
    manifest, asked = (_manifest(signed_at, ref, "") for ref in (signed_ref, asked_ref))
    signed = sign_artefact(encode_manifest(manifest), CI)

    def verified() -> RolloutManifest:
        return verify_manifest(
            signed,
            TRUST,
            NOW,
            freshness_window_minutes=WINDOW_MINUTES,
            expected_rollout_id=asked.rollout_id,
        ).value

    if signed_ref == asked_ref:
        assert verified() == manifest
    else:
        with pytest.raises(WrongRolloutId) as refusal:
            verified()
        assert (refusal.value.expected, refusal.value.found) == (
            asked.rollout_id,
            manifest.rollout_id,
        )


@given(_fleets(), _fleets())
def test_a_manifest_holds_to_the_fleet_it_was_made_from(
    fleet: FleetResolved, other: FleetResolved
) -> None:
    """A manifest goes with no fleet but the one whose hash it carries."""
    signed = sign_artefact(encode_fleet(fleet), CI)
    manifest = verify_manifest(
        sign_artefact(encode_manifest(_manifest(NOW, "a1b2", artefact_hash(signed.body))), CI),
        TRUST,
        NOW,
        freshness_window_minutes=WINDOW_MINUTES,
        expected_rollout_id=_manifest(NOW, "a1b2", "").rollout_id,
    )

    require_anchor(manifest, _verified(signed))
    if other != fleet:
        with pytest.raises(WrongAnchor):
            require_anchor(manifest, _verified(sign_artefact(encode_fleet(other), CI)))


@given(anything(AgentEventEnvelope), anything(AgentEventEnvelope))
def test_the_signature_of_an_envelope_is_good_for_it_alone(
    envelope: AgentEventEnvelope, other: AgentEventEnvelope
) -> None:
    """A signature proves host, rollout and event; moved to anything else, it proves nothing."""
    signed = sign_envelope(envelope, CI)
    moved = evolve(other, signature=signed.signature)

    verify_envelope(signed, CI.public_key)
    with pytest.raises(BadSignature):
        verify_envelope(signed, STRANGER.public_key)
    if evolve(moved, signature=None) != evolve(signed, signature=None):
        with pytest.raises(BadSignature):
            verify_envelope(moved, CI.public_key)


@given(st.lists(anything(AgentEventEnvelope), min_size=2, max_size=4), st.data())
def test_the_signature_of_a_batch_is_good_for_its_order_too(
    events: list[AgentEventEnvelope], data: st.DataObject
) -> None:
    """No event of a batch can be left out or change places."""
    signed = sign_batch(EventBatch(tuple(events)), CI)
    verify_batch(signed, CI.public_key)

    shuffled = data.draw(st.permutations(events))
    for changed in (tuple(shuffled), tuple(events[1:])):
        if changed != signed.events:
            with pytest.raises(BadSignature):
                verify_batch(evolve(signed, events=changed), CI.public_key)
