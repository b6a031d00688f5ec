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
class HostsBody:
    """The hosts that a command is about, and the reason."""

    hosts: tuple[str, ...]
    reason: str


@frozen
class RetryBody:
    """The failed hosts that are to try again, and the reason; none named: all that failed and may."""

    reason: str
    hosts: tuple[str, ...] = ()


@frozen
class RetirementBody:
    """The closure to allow on a channel again, and the reason."""

    closure: str
    reason: str


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
REASON: Final = Coder[ReasonBody](_SPELLING, ReasonBody, "command")
CLEARANCE: Final = Coder[ClearanceBody](_SPELLING, ClearanceBody, "clearance")
HOSTS: Final = Coder[HostsBody](_SPELLING, HostsBody, "command about hosts")
RETRY: Final = Coder[RetryBody](_SPELLING, RetryBody, "retry")
RETIREMENT: Final = Coder[RetirementBody](_SPELLING, RetirementBody, "retirement of a quarantine")
