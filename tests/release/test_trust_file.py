"""A trust file's life: keys come, overlap and go, and what was signed by whom is believed or not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_proto.codec import encode_fleet
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import (
    BadSignature,
    MalformedKey,
    RejectedAsCompromised,
    SigningKey,
    UnsupportedAlgorithm,
    VerifyError,
    sign_artefact,
    verify_fleet,
)
from nixfleet_proto.trust import KeySlot, Operator, TrustedKey, TrustRoot
from nixfleet_release.sign.trust_file import (
    NoSuchSlot,
    NothingToRetire,
    RotationUnderWay,
    SameKey,
    Slot,
    SwitchedLater,
    compromised,
    problems_of,
    retired,
    rotated,
)

FIRST, SECOND, THIRD, ORG = (SigningKey(bytes([number]) * 32) for number in range(1, 5))
NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRUST = TrustRoot(KeySlot(FIRST.public_key), KeySlot(ORG.public_key))


def refusal_of(
    key: SigningKey, trust: TrustRoot, signed_at: datetime = NOW
) -> type[VerifyError] | None:
    """How a fleet is refused that `key` signed at this time; `None` if it is believed."""
    empty = FrozenMap[str, object]()
    fleet = FleetResolved(empty, empty, empty, empty, Meta(signed_at))  # type: ignore[arg-type]
    try:
        verify_fleet(
            sign_artefact(encode_fleet(fleet), key), trust, NOW, freshness_window_minutes=180
        )
    except VerifyError as error:
        return type(error)
    return None


def test_during_a_rotation_both_keys_are_believed() -> None:
    """Whoever has the new file takes old and new artefacts; who has the old one takes the old ones."""
    during = rotated(TRUST, Slot.CI, SECOND.public_key)

    assert [refusal_of(key, TRUST) for key in (FIRST, SECOND)] == [None, BadSignature]
    assert [refusal_of(key, during) for key in (FIRST, SECOND, THIRD)] == [None, None, BadSignature]
    assert during.org_root_key == TRUST.org_root_key


def test_after_a_rotation_only_the_new_key_is_believed() -> None:
    """What the retired key signed is refused, however fresh."""
    after = retired(rotated(TRUST, Slot.CI, SECOND.public_key), Slot.CI)

    assert [refusal_of(key, after) for key in (FIRST, SECOND)] == [BadSignature, None]


def test_a_compromised_key_is_believed_at_no_time() -> None:
    """The stolen key signs with any time it likes and is refused; so is what the new key signed before the switch."""
    after = compromised(rotated(TRUST, Slot.CI, SECOND.public_key), Slot.CI, THIRD.public_key, NOW)

    for signed_at in (NOW - MINUTE, NOW, NOW + MINUTE):
        assert refusal_of(FIRST, after, signed_at) is BadSignature
        assert refusal_of(SECOND, after, signed_at) is BadSignature
    assert refusal_of(THIRD, after, NOW - timedelta(microseconds=1)) is RejectedAsCompromised
    assert refusal_of(THIRD, after, NOW) is None


def test_a_rotation_after_a_compromise_keeps_the_switch() -> None:
    """What was refused for its time stays refused, whatever keys come."""
    after = rotated(compromised(TRUST, Slot.CI, SECOND.public_key, NOW), Slot.CI, THIRD.public_key)

    assert refusal_of(SECOND, after, NOW - MINUTE) is RejectedAsCompromised


def test_the_organisations_keys_have_the_same_life() -> None:
    """Changing them leaves CI's alone."""
    during = rotated(TRUST, Slot.ORG, SECOND.public_key)

    assert during.org_root_key == KeySlot(SECOND.public_key, ORG.public_key)
    assert during.ci_release_key == TRUST.ci_release_key
    assert retired(during, Slot.ORG).org_root_key == KeySlot(SECOND.public_key)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda: rotated(rotated(TRUST, Slot.CI, SECOND.public_key), Slot.CI, THIRD.public_key),
            RotationUnderWay,
        ),
        (lambda: rotated(TRUST, Slot.CI, FIRST.public_key), SameKey),
        (lambda: rotated(TRUST, Slot.CI, TrustedKey("xyz")), MalformedKey),
        (lambda: rotated(TRUST, Slot.CI, TrustedKey("00" * 32)), MalformedKey),
        (
            lambda: rotated(TRUST, Slot.CI, TrustedKey("ab" * 32, "ecdsa-p256")),
            UnsupportedAlgorithm,
        ),
        (lambda: retired(TRUST, Slot.CI), NothingToRetire),
        (lambda: rotated(TrustRoot(TRUST.ci_release_key), Slot.ORG, ORG.public_key), NoSuchSlot),
        (
            lambda: compromised(
                compromised(TRUST, Slot.CI, SECOND.public_key, NOW),
                Slot.CI,
                THIRD.public_key,
                NOW - MINUTE,
            ),
            SwitchedLater,
        ),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(
    change: Callable[[], TrustRoot], error: type[Exception]
) -> None:
    """A third key, the same key, no key, nothing to retire, a switch turned back: each is an error of its own."""
    with pytest.raises(error):
        change()


def test_a_sound_trust_file_has_no_problems() -> None:
    """Different keys for different things, none of them odd."""
    operators = (Operator("anna", SECOND.public_key), Operator("bert", THIRD.public_key))

    assert problems_of(TrustRoot(TRUST.ci_release_key, TRUST.org_root_key, operators), NOW) == ()


def test_every_problem_of_a_trust_file_is_told_with_its_place() -> None:
    """Malformed keys, other algorithms, keys used twice, a switch in the future: all at once."""
    trust = TrustRoot(
        KeySlot(TrustedKey("abc"), TrustedKey("cd" * 32, "rsa")),
        KeySlot(ORG.public_key, reject_before=NOW + MINUTE),
        (Operator("anna", ORG.public_key), Operator("bert", TrustedKey("01" + "00" * 31))),
    )

    told = [(it.path, it.found) for it in problems_of(trust, NOW)]

    assert told == [
        ("ciReleaseKey.current.publicKey", "'abc', 3 characters"),
        ("ciReleaseKey.previous.algorithm", "rsa"),
        ("operators[0].publicKey", f"{ORG.public_key.public_key}, as in orgRootKey.current"),
        ("operators[1].publicKey.publicKey", f"'01{'00' * 31}', 64 characters"),
        (
            "orgRootKey.rejectBefore",
            "2026-05-16T12:01:00Z, which is after now, 2026-05-16T12:00:00Z",
        ),
    ]
