"""A warrant proves who ordered what, for how long: each way of being wrong is a refusal of its own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.warrant import decode_signed_warrant, encode_signed_warrant
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import (
    OperatorMayNot,
    UnknownOperator,
    WarrantExpired,
    WarrantForged,
    WarrantNotYetIssued,
    WarrantOfAnotherKey,
    WarrantUnverified,
    sign_warrant,
    verify_warrant,
)
from nixfleet_proto.steering.warrant import LIFETIME_MAX, ClosureRule, SignedWarrant, Warrant
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot

T0 = datetime(2026, 5, 16, 1, tzinfo=UTC)
CI, ADA, BOB, EVE = (SigningKey.generate() for _ in range(4))
TRUST = TrustRoot(
    KeySlot(CI.public_key),
    operators=(
        Operator("ada", ADA.public_key, OperatorRole.OPERATE),
        Operator("bob", BOB.public_key, OperatorRole.READ),
    ),
)
RECALL = Warrant(
    order_id="1",
    rollout_id=RolloutId("stable@r1"),
    rule=ClosureRule.PRIOR,
    operator="ada",
    reason="it eats disks",
    issued_at=T0,
    expires_at=T0 + timedelta(hours=2),
    hosts=("web-01",),
)


def test_a_warrant_of_an_operator_who_may_operate_is_good() -> None:
    """From its time of issue, give or take what clocks differ, until it expires."""
    signed = sign_warrant(RECALL, ADA)
    for seconds in (-60, 0, 7199):
        verified = verify_warrant(signed, TRUST, T0 + timedelta(seconds=seconds))
        assert (verified.warrant, verified.signed) == (RECALL, signed)


def test_a_warrant_is_the_same_after_it_was_relayed() -> None:
    """Its bytes are canonical, so that the signature is good at the other end."""
    signed = sign_warrant(RECALL, ADA)

    assert decode_signed_warrant(encode_signed_warrant(signed)) == signed


@pytest.mark.parametrize(
    ("signed", "seconds", "refusal"),
    [
        (sign_warrant(RECALL, EVE), 0, WarrantForged),
        (sign_warrant(RECALL, CI), 0, WarrantOfAnotherKey),
        (sign_warrant(RECALL, BOB), 0, WarrantOfAnotherKey),
        (sign_warrant(evolve(RECALL, operator="bob"), BOB), 0, OperatorMayNot),
        (sign_warrant(evolve(RECALL, operator="eve"), EVE), 0, UnknownOperator),
        (sign_warrant(RECALL, ADA), 7200, WarrantExpired),
        (sign_warrant(RECALL, ADA), -61, WarrantNotYetIssued),
        (SignedWarrant(RECALL, "00"), 0, WarrantForged),
        *(
            (evolve(sign_warrant(RECALL, ADA), warrant=altered), 0, WarrantForged)
            for altered in (
                evolve(RECALL, hosts=()),
                evolve(RECALL, rollout_id=RolloutId("stable@r2")),
                evolve(RECALL, order_id="2"),
                evolve(RECALL, expires_at=T0 + timedelta(hours=3)),
                evolve(RECALL, reason="because"),
            )
        ),
    ],
)
def test_a_warrant_that_is_not_what_it_says_is_refused_by_the_reason(
    signed: SignedWarrant, seconds: int, refusal: type[WarrantUnverified]
) -> None:
    """Not signed by its operator, altered in any part, out of its time; the message names the order."""
    with pytest.raises(refusal) as refused:
        verify_warrant(signed, TRUST, T0 + timedelta(seconds=seconds))

    assert str(refused.value).startswith(f"order {signed.warrant.order_id} for ")


@pytest.mark.parametrize(
    "changed",
    [
        {"order_id": ""},
        {"reason": ""},
        {"reason": "x" * 513},
        {"kind": "approval"},
        {"expires_at": T0},
        {"expires_at": T0 + LIFETIME_MAX + timedelta(seconds=1)},
    ],
)
def test_a_warrant_that_says_too_little_or_too_much_cannot_be_made(
    changed: dict[str, Any],
) -> None:
    """Nor read: a statement of another kind by the same key is no warrant."""
    with pytest.raises(InvalidValue):
        evolve(RECALL, **changed)


def test_a_statement_of_another_kind_is_no_warrant() -> None:
    """`kind` is part of what is signed."""
    data = encode_signed_warrant(sign_warrant(RECALL, ADA))
    with pytest.raises(DecodeError) as refused:
        decode_signed_warrant(data.replace(b"nixfleet-warrant", b"nixfleet-approval"))

    assert "kind: expected 'nixfleet-warrant', found 'nixfleet-approval'" in str(refused.value)
