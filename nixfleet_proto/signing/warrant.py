"""Warrants: signed by an operator, verified by each host against its own trust file. No clock: `now` is an argument.

Source: docs/spec/warrants.md, What a host verifies.
"""

from datetime import datetime
from typing import final

from attrs import frozen

from nixfleet_proto.codec.warrant import warrant_payload
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing.key import SigningKey, is_signed_by
from nixfleet_proto.signing.payload import sign_payload, signature_bytes
from nixfleet_proto.signing.refusal import CLOCK_SKEW, VerifyError
from nixfleet_proto.steering.warrant import SignedWarrant, Warrant
from nixfleet_proto.trust import Operator, OperatorRole, TrustRoot


class WarrantUnverified(NixfleetError):
    """A warrant is not what it says. `warrant`: its content, which is a claim."""

    def __init__(self, warrant: Warrant, *facts: object) -> None:
        super().__init__(warrant, *facts)
        self.warrant = warrant

    @property
    def about(self) -> str:
        """The order, for a message."""
        return f"order {self.warrant.order_id} for {self.warrant.rollout_id}"


class UnknownOperator(WarrantUnverified):
    """The trust file has no operator of that name."""

    def __str__(self) -> str:
        name = self.warrant.operator
        return f"{self.about}: expected an operator of the trust file, found {name!r}; add the operator's key"


class OperatorMayNot(WarrantUnverified):
    """The operator has a key, and may not order anything."""

    def __str__(self) -> str:
        name = self.warrant.operator
        return f"{self.about}: expected role operate of {name!r}, found read"


class WarrantOfAnotherKey(WarrantUnverified):
    """A key signed it that is trusted for something else. whose: in words."""

    def __init__(self, warrant: Warrant, whose: str) -> None:
        super().__init__(warrant, whose)
        self.whose = whose

    def __str__(self) -> str:
        return f"{self.about}: expected a signature by operator {self.warrant.operator!r}, found {self.whose}"


class WarrantForged(WarrantUnverified):
    """The operator's key did not sign this content."""

    def __str__(self) -> str:
        name = self.warrant.operator
        return f"{self.about}: the signature is not operator {name!r}'s, or the order was changed since"


class WarrantExpired(WarrantUnverified):
    """The host's clock is past the end of the warrant."""

    def __init__(self, warrant: Warrant, now: datetime) -> None:
        super().__init__(warrant, now)
        self.now = now

    def __str__(self) -> str:
        end = self.warrant.expires_at.isoformat()
        return (
            f"{self.about}: it expired at {end}, and it is {self.now.isoformat()}; sign a new one"
        )


class WarrantNotYetIssued(WarrantUnverified):
    """The host's clock is before the warrant, by more than clocks may differ."""

    def __init__(self, warrant: Warrant, now: datetime) -> None:
        super().__init__(warrant, now)
        self.now = now

    def __str__(self) -> str:
        begin = self.warrant.issued_at.isoformat()
        return f"{self.about}: it was issued at {begin}, and it is {self.now.isoformat()}; set the clocks right"


@final
@frozen
class VerifiedWarrant:
    """A warrant whose signature and time were verified. Made by `verify_warrant` alone."""

    warrant: Warrant
    signed: SignedWarrant


def sign_warrant(warrant: Warrant, key: SigningKey) -> SignedWarrant:
    """Return `warrant` with the operator's signature over its canonical JSON."""
    return SignedWarrant(warrant, sign_payload(warrant_payload(warrant), key))


def verify_warrant(signed: SignedWarrant, trust: TrustRoot, now: datetime) -> VerifiedWarrant:
    """Return the warrant if an operator of the trust file who may operate signed it, and it is good at `now`.

    Whether it applies to a host is not looked at.
    Raises: UnknownOperator, OperatorMayNot, WarrantOfAnotherKey, WarrantForged, WarrantNotYetIssued,
    WarrantExpired; looked for in this order. Keys of another algorithm count as keys that did not sign.
    """
    warrant = signed.warrant
    operator = next((it for it in trust.operators if it.name == warrant.operator), None)
    if operator is None:
        raise UnknownOperator(warrant)
    if operator.role is not OperatorRole.OPERATE:
        raise OperatorMayNot(warrant)
    _require_signed(signed, operator, trust)
    if warrant.issued_at - now > CLOCK_SKEW:
        raise WarrantNotYetIssued(warrant, now)
    if now >= warrant.expires_at:
        raise WarrantExpired(warrant, now)
    return VerifiedWarrant(warrant, signed)


def _require_signed(signed: SignedWarrant, operator: Operator, trust: TrustRoot) -> None:
    payload, signature = warrant_payload(signed.warrant), signed.signature
    if _is_by(payload, signature, operator):
        return
    for key in trust.ci_release_key.keys:
        if _is_by(payload, signature, Operator("ci", key)):
            raise WarrantOfAnotherKey(signed.warrant, "the CI release key's")
    for other in trust.operators:
        if other.name != operator.name and _is_by(payload, signature, other):
            raise WarrantOfAnotherKey(signed.warrant, f"operator {other.name!r}'s")
    raise WarrantForged(signed.warrant)


def _is_by(payload: bytes, signature: str, operator: Operator) -> bool:
    try:
        return is_signed_by(operator.public_key, payload, signature_bytes(signature))
    except VerifyError:
        return False
