"""The bodies of operators' commands. Decoded strictly."""

from typing import Final

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case


@frozen
class ReasonBody:
    """The reason for a pause or resumption."""

    reason: str


@frozen
class ClearanceBody:
    """The reason for clearing a halted rollout, and the hosts to excuse; none: those that failed or reverted."""

    reason: str
    excused_hosts: tuple[str, ...] = ()


@frozen
class RetirementBody:
    """The closure to allow on a channel again, and the reason."""

    closure: str
    reason: str


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
REASON: Final = Coder[ReasonBody](_SPELLING, ReasonBody, "command")
CLEARANCE: Final = Coder[ClearanceBody](_SPELLING, ClearanceBody, "clearance")
RETIREMENT: Final = Coder[RetirementBody](_SPELLING, RetirementBody, "retirement of a quarantine")
