"""The bodies of operators' commands. Decoded strictly, like everything that comes in."""

from typing import Final

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


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
REASON: Final = Coder[ReasonBody](_SPELLING, ReasonBody, "command")
CLEARANCE: Final = Coder[ClearanceBody](_SPELLING, ClearanceBody, "clearance")
RETIREMENT: Final = Coder[RetirementBody](_SPELLING, RetirementBody, "retirement of a quarantine")
