"""The bodies of operators' commands. Decoded strictly, like everything that comes in."""

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case


@frozen
class ReasonBody:
    """Why; an operator who stops or starts a fleet says it."""

    reason: str


@frozen
class ClearanceBody:
    """Why a halted rollout may go on, and without whom; nobody named: those that failed or reverted."""

    reason: str
    excused_hosts: tuple[str, ...] = ()


@frozen
class RetirementBody:
    """Which closure a channel may get again, and why."""

    closure: str
    reason: str


def decode_reason(data: bytes) -> ReasonBody:
    """Return the body of a pause or a resumption. Raises: DecodeError."""
    return _REASON.decode(data)


def decode_clearance(data: bytes) -> ClearanceBody:
    """Return the body of a clearance. Raises: DecodeError."""
    return _CLEARANCE.decode(data)


def decode_retirement(data: bytes) -> RetirementBody:
    """Return the body that retires a quarantine. Raises: DecodeError."""
    return _RETIREMENT.decode(data)


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
_REASON = Coder[ReasonBody](_SPELLING, ReasonBody, "command")
_CLEARANCE = Coder[ClearanceBody](_SPELLING, ClearanceBody, "clearance")
_RETIREMENT = Coder[RetirementBody](_SPELLING, RetirementBody, "retirement of a quarantine")
