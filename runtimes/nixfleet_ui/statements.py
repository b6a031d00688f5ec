"""What an operator signs on the local page: a statement on a wave, or an order to hosts. Pure; the time is an argument.

A statement is first made and shown, then sent back as it was shown and signed: what is signed is what was read. Nothing
is kept between the two.
Source: docs/spec/local-page.md, Signatures; docs/spec/guards.md, Approvals; docs/spec/warrants.md, Warrants.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import Final, assert_never

from attrs import frozen

from nixfleet_proto.codec.approval import decode_approval, encode_approval
from nixfleet_proto.codec.strict import Absent, Spelling, camel_case
from nixfleet_proto.codec.warrant import decode_warrant, encode_signed_warrant, warrant_payload
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey, sign_approval
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.approval import Approval, Decision
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.approvals import SIGNED_APPROVAL
from nixfleet_runtime.http.request_limits import RequestCoder

SHOWN_MINUTES_MAX: Final = 10
"""How long a statement may be looked at before it is signed. Its time is the one that was shown."""


class StatementKind(Enum):
    """What is signed. The values are those of the page's requests."""

    APPROVAL = "approval"
    WARRANT = "warrant"


@frozen
class ApprovalWanted:
    """What the operator states on a wave. manifest_hash: of the manifest that is in force."""

    rollout_id: RolloutId
    wave: int
    manifest_hash: str
    decision: Decision
    reason: str


@frozen
class WarrantWanted:
    """What the operator orders. hosts: none: all of the rollout."""

    rollout_id: RolloutId
    rule: ClosureRule
    reason: str
    expires_minutes: int
    hosts: tuple[str, ...] = ()


@frozen
class Shown:
    """A statement before it is signed: the text that the signature covers, and where it is sent."""

    kind: StatementKind
    text: str
    path: str


@frozen
class SendBody:
    """A statement as it was shown, to be signed and sent."""

    kind: StatementKind
    text: str


@frozen
class ToSend:
    """A signed statement: the path to post it to, and the body."""

    path: str
    body: bytes


class NotAsShown(NixfleetError):
    """A statement is not one that this process could have shown to this operator. reason: in words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def shown_approval(wanted: ApprovalWanted, operator: str, now: datetime) -> Shown:
    """Return the statement on a wave as it will be signed."""
    statement = Approval(
        wanted.rollout_id,
        wanted.wave,
        wanted.manifest_hash,
        operator,
        wanted.decision,
        wanted.reason,
        now.replace(microsecond=0),
    )
    text = encode_approval(statement).decode()
    return Shown(StatementKind.APPROVAL, text, _approvals(wanted.rollout_id))


def shown_warrant(wanted: WarrantWanted, operator: str, order_id: str, now: datetime) -> Shown:
    """Return the order to hosts as it will be signed. order_id: random, of this order alone."""
    at = now.replace(microsecond=0)
    order = Warrant(
        order_id=order_id,
        rollout_id=wanted.rollout_id,
        rule=wanted.rule,
        operator=operator,
        reason=wanted.reason,
        issued_at=at,
        expires_at=at + timedelta(minutes=wanted.expires_minutes),
        hosts=tuple(sorted(set(wanted.hosts))),
    )
    text = warrant_payload(order).decode()
    return Shown(StatementKind.WARRANT, text, _warrants(wanted.rollout_id))


def signed(sent: SendBody, operator: str, key: SigningKey, now: datetime) -> ToSend:
    """Return the statement with its signature. Raises: DecodeError, NotAsShown."""
    data = sent.text.encode()
    match sent.kind:
        case StatementKind.APPROVAL:
            approval = decode_approval(data)
            _require_shown(encode_approval(approval), data)
            _require_own(approval.operator, operator)
            _require_recent(approval.signed_at, now)
            body = SIGNED_APPROVAL.encode(sign_approval(approval, key))
            return ToSend(_approvals(approval.rollout_id), body)
        case StatementKind.WARRANT:
            order = decode_warrant(data)
            _require_shown(warrant_payload(order), data)
            _require_own(order.operator, operator)
            _require_recent(order.issued_at, now)
            return ToSend(
                _warrants(order.rollout_id), encode_signed_warrant(sign_warrant(order, key))
            )
        case _:
            assert_never(sent.kind)


def _require_shown(encoded: bytes, data: bytes) -> None:
    """Raise unless what is signed is, byte for byte, what was shown."""
    if encoded != data:
        raise NotAsShown("expected the statement as it was shown, found other bytes")


def _require_own(found: str, operator: str) -> None:
    if found != operator:
        raise NotAsShown(f"expected a statement of {operator!r}, found one of {found!r}")


def _require_recent(at: datetime, now: datetime) -> None:
    if not timedelta(seconds=-1) <= now - at <= timedelta(minutes=SHOWN_MINUTES_MAX):
        raise NotAsShown(
            f"expected a statement of the last {SHOWN_MINUTES_MAX} minutes, found one of {at:%H:%M:%S} UTC: "
            "look at it again"
        )


def _approvals(rollout_id: RolloutId) -> str:
    return paths.rollout_path(rollout_id, "/approvals")


def _warrants(rollout_id: RolloutId) -> str:
    return paths.rollout_path(rollout_id, "/warrants")


_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
APPROVAL_WANTED: Final = RequestCoder[ApprovalWanted](_SPELLING, ApprovalWanted, "statement")
WARRANT_WANTED: Final = RequestCoder[WarrantWanted](_SPELLING, WarrantWanted, "order")
SHOWN: Final = RequestCoder[Shown](_SPELLING, Shown, "statement")
SEND_BODY: Final = RequestCoder[SendBody](_SPELLING, SendBody, "statement")
