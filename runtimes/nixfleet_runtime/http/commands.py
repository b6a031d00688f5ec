"""The bodies of operators' commands. Decoded strictly, with limited texts."""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Spelling, camel_case
from nixfleet_proto.codec.warrant import SIGNED_WARRANT
from nixfleet_runtime.http.request_limits import RequestCoder


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
class HoldBody:
    """The scope to hold, in its text form, and the reason. until: when the hold ends by itself; absent: when lifted."""

    scope: str
    reason: str
    until: datetime | None = None


@frozen
class ReleaseBody:
    """The scope to release, and the reason. holder: the operator whose hold is lifted; absent: the one who asks."""

    scope: str
    reason: str
    holder: str | None = None


@frozen
class RetirementBody:
    """The closure to allow on a channel again, and the reason."""

    closure: str
    reason: str


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
REASON: Final = RequestCoder[ReasonBody](_SPELLING, ReasonBody, "command")
CLEARANCE: Final = RequestCoder[ClearanceBody](_SPELLING, ClearanceBody, "clearance")
HOSTS: Final = RequestCoder[HostsBody](_SPELLING, HostsBody, "command about hosts")
RETRY: Final = RequestCoder[RetryBody](_SPELLING, RetryBody, "retry")
WARRANT: Final = RequestCoder.limiting(SIGNED_WARRANT)
HOLD: Final = RequestCoder[HoldBody](_SPELLING, HoldBody, "hold")
RELEASE: Final = RequestCoder[ReleaseBody](_SPELLING, ReleaseBody, "release of a hold")
RETIREMENT: Final = RequestCoder[RetirementBody](
    _SPELLING, RetirementBody, "retirement of a quarantine"
)
