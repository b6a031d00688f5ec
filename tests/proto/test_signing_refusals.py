"""What people read when something is not to be trusted: expected, found, and what to do."""

from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_proto.codec import DecodeProblem
from nixfleet_proto.signing.refusal import (
    BadSignature,
    FutureDated,
    MalformedArtefact,
    MalformedKey,
    MalformedSignature,
    NoOrgRootKey,
    NotSigned,
    RejectedAsCompromised,
    Stale,
    TokenExpired,
    TokenNotYetIssued,
    UnsupportedAlgorithm,
    UnsupportedSchema,
    VerifyError,
    WrongAnchor,
    WrongRolloutId,
)

NOON = datetime(2026, 5, 16, 12, tzinfo=UTC)
ONE = datetime(2026, 5, 16, 13, tzinfo=UTC)

TOLD: list[tuple[VerifyError, str]] = [
    (
        MalformedArtefact(
            "fleet", (DecodeProblem("$.a", "a string", "0"), DecodeProblem("$.b", "a list", "{}"))
        ),
        "not a valid fleet: $.a: expected a string, found 0; $.b: expected a list, found {}",
    ),
    (MalformedKey("ab"), "expected a public key of 64 hexadecimal digits, found 'ab'"),
    (
        MalformedSignature("64 bytes", "3 bytes"),
        "expected a signature of 64 bytes, found 3 bytes",
    ),
    (
        UnsupportedAlgorithm("ml-dsa", "ab"),
        "key ab is for 'ml-dsa'; expected 'ed25519': update this side, or trust a key that it can check",
    ),
    (BadSignature(("ab", "cd")), "signed by none of the trusted keys ab, cd, or changed since"),
    (UnsupportedSchema(1, 2), "expected schema version 1, found 2"),
    (NotSigned("signedAt"), "expected it to be signed, found no signedAt"),
    (
        RejectedAsCompromised(NOON, ONE),
        "signed 2026-05-16T12:00:00Z is older than reject_before 2026-05-16T13:00:00Z",
    ),
    (
        Stale(NOON, ONE, 30),
        "signed 2026-05-16T12:00:00Z is 1:00:00 old at 2026-05-16T13:00:00Z; "
        "expected at most 30 minutes and 60 s",
    ),
    (
        FutureDated(ONE, NOON),
        "signed 2026-05-16T13:00:00Z is 1:00:00 ahead of 2026-05-16T12:00:00Z; "
        "expected at most 60 s: check both clocks",
    ),
    (
        WrongRolloutId("stable@a1", "stable@b2"),
        "expected the manifest of stable@a1, found that of stable@b2",
    ),
    (
        WrongAnchor("stable@a1", "aa", "bb"),
        "the manifest of stable@a1 is anchored to fleet bb; expected aa",
    ),
    (
        NoOrgRootKey(),
        "the trust file has no orgRootKey, so no token can be checked and no host can enroll: "
        "add the key that signs tokens",
    ),
    (
        TokenNotYetIssued("web-01", ONE, NOON),
        "the token of web-01 was issued 2026-05-16T13:00:00Z, 1:00:00 ahead of "
        "2026-05-16T12:00:00Z; expected at most 60 s: check both clocks",
    ),
    (
        TokenExpired("web-01", NOON, ONE),
        "the token of web-01 expired 2026-05-16T12:00:00Z, it is 2026-05-16T13:00:00Z: "
        "issue a new one",
    ),
]


@pytest.mark.parametrize(("refusal", "told"), TOLD, ids=[type(each).__name__ for each, _ in TOLD])
def test_a_refusal_says_what_was_expected_and_what_was_found(
    refusal: VerifyError, told: str
) -> None:
    """Every reason has its own sentence, with the numbers that decided."""
    assert str(refusal) == told


def test_every_kind_of_refusal_has_its_sentence() -> None:
    """No subclass is left to the text that exceptions have by themselves."""
    assert {type(each) for each, _ in TOLD} == set(VerifyError.__subclasses__())


def test_a_stale_artefact_knows_its_age() -> None:
    """How old it is follows from when it was signed and when that was asked."""
    assert Stale(NOON, ONE, 30).age == timedelta(hours=1)
