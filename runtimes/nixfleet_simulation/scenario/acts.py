"""The acts of a scenario: what happens to the fleet, and when. Data.

A scenario is a list of acts; everything else follows from the engines. Each act belongs to a family, which can be
left out. `at_seconds` is virtual time.
"""

from enum import StrEnum
from typing import ClassVar, TypeAlias, cast

from attrs import fields, frozen

from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour
from nixfleet_simulation.scenario.family import Family
from nixfleet_simulation.scenario.leadership_acts import LeadershipAct
from nixfleet_simulation.scenario.steering_acts import SteeringAct

CONTROL_PLANE = "control-plane"
"""The control plane's name as a node."""


class Boundary(StrEnum):
    """The point between two steps at which a process dies."""

    AT_ONCE = "at once"
    BEFORE_WRITE = "decided, before anything is written"
    DURING_WRITE = "during a write"
    AFTER_WRITE = "written, before the answers"
    AFTER_ANSWERS = "answered, before the actions"
    BEFORE_SEND = "before it sends"
    AFTER_SEND = "after it sent"


class Direction(StrEnum):
    """The direction that a partition cuts."""

    BOTH = "both ways"
    TO_CONTROL_PLANE = "to the control plane"
    FROM_CONTROL_PLANE = "from the control plane"


class Forgery(StrEnum):
    """What is wrong with a release."""

    BY_AN_UNKNOWN_KEY = "signed by an unknown key"
    ALTERED = "altered after it was signed"
    STALE = "signed long ago"
    NOT_SIGNED = "without a signing time"
    OTHER_FLEET = "anchored in another fleet"


class BadAnswer(StrEnum):
    """What a caller gets in the place of an answer, from something between it and the control plane."""

    TOO_MANY = "429, for a few seconds"
    TOO_MANY_FOR_YEARS = "429, for years"
    TOO_LARGE = "413"
    ERROR = "500"
    UNAVAILABLE = "503, for a few minutes"
    NONE = "nothing, without end"
    TOO_LONG = "more than anybody reads"
    UNREADABLE = "text that is no answer"


# CI.


@frozen
class Release:
    """CI releases `ref` on `channel`. closure: the closure of every host; empty: each host gets its own.

    behaviours: how the closure behaves, by host.
    """

    family: ClassVar[Family] = Family.RELEASE
    at_seconds: float
    channel: str
    ref: str
    closure: str = ""
    behaviours: tuple[tuple[str, ClosureBehaviour], ...] = ()


@frozen
class ForgedRelease:
    """An attacker puts a forged release into the release directory."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    channel: str
    forgery: Forgery


@frozen
class RotateKey:
    """CI signs with a new key from now on. is_compromised: whether the old key is no longer trusted."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    is_compromised: bool


@frozen
class StopSigning:
    """CI stops signing again for a while, so that its releases become stale."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    for_seconds: float


@frozen
class Amend:
    """CI signs the latest release of `channel` again, without `host`, or with it if it was left out."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    channel: str
    host: str


@frozen
class ForgeAnswers:
    """An attacker alters the dispatches and manifests that are sent to a host."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    host: str
    for_seconds: float


# An attacker in the place of the control plane.


@frozen
class TakeOver:
    """A control plane that lies answers all hosts for a while; then the honest one does again.

    loses_database: whether the honest one begins with an empty database. new_journal: the host whose disk is replaced
    meanwhile; empty: none.
    """

    family: ClassVar[Family] = Family.TAKEOVER
    at_seconds: float
    for_seconds: float
    loses_database: bool = False
    new_journal: str = ""


# Operators.


@frozen
class Pause:
    """scope: a channel; its newest rollout if `is_rollout`."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    channel: str
    is_rollout: bool
    for_seconds: float


@frozen
class Clear:
    """Clear the halted rollouts of the channel, excusing the hosts that failed, or `everybody`."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    channel: str
    everybody: bool


@frozen
class Retire:
    """Retire every quarantine of the channel."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    channel: str


@frozen
class Revoke:
    """Put the host's key on the signed list of revocations, for a while."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    host: str
    for_seconds: float


# What operators do about hosts that fail or do not come, in the channel's newest rollout.


@frozen
class Excuse:
    """Go on without the host."""

    family: ClassVar[Family] = Family.POLICY
    at_seconds: float
    channel: str
    host: str


@frozen
class Skip:
    """Do not wait for the host, which is silent."""

    family: ClassVar[Family] = Family.POLICY
    at_seconds: float
    channel: str
    host: str


@frozen
class TryAgain:
    """Let the host that failed try again; empty: all that failed."""

    family: ClassVar[Family] = Family.POLICY
    at_seconds: float
    channel: str
    host: str = ""


@frozen
class Abort:
    """End the channel's newest rollout."""

    family: ClassVar[Family] = Family.STEERING
    at_seconds: float
    channel: str


@frozen
class RecallRelease:
    """Sign an order to go back from the channel's newest rollout, for one host; empty: all of it."""

    family: ClassVar[Family] = Family.STEERING
    at_seconds: float
    channel: str
    host: str
    good_for_seconds: float


# Hosts that do not come, and closures that do not.


@frozen
class PowerOff:
    """The machine is off for hours or days."""

    family: ClassVar[Family] = Family.ABSENCE
    at_seconds: float
    host: str
    for_seconds: float


@frozen
class NoClosures:
    """The host can fetch no closure that it has not run yet."""

    family: ClassVar[Family] = Family.ABSENCE
    at_seconds: float
    host: str
    for_seconds: float


# The network. host: whose connection; empty: all hosts'.


@frozen
class LossyNetwork:
    """Messages are lost or repeated (shares of 1), or late by up to `late_seconds`, and so overtake each other."""

    family: ClassVar[Family] = Family.NETWORK
    at_seconds: float
    host: str
    for_seconds: float
    lost: float
    repeated: float
    late_seconds: float


@frozen
class Partition:
    family: ClassVar[Family] = Family.NETWORK
    at_seconds: float
    host: str
    for_seconds: float
    direction: Direction


# What happens to clocks and disks. node: a host or the control plane.


@frozen
class ClockJump:
    """The clock jumps by `by_seconds`, and back after `for_seconds`."""

    family: ClassVar[Family] = Family.CLOCK
    at_seconds: float
    node: str
    by_seconds: float
    for_seconds: float


@frozen
class FullDisk:
    family: ClassVar[Family] = Family.DISK
    at_seconds: float
    node: str
    for_seconds: float


@frozen
class SlowDisk:
    family: ClassVar[Family] = Family.DISK
    at_seconds: float
    node: str
    for_seconds: float


@frozen
class Crash:
    """The process dies the next time it crosses `boundary`, and starts again later.

    write_survives: whether the write under way is durable afterwards.
    """

    family: ClassVar[Family] = Family.PROCESS
    at_seconds: float
    node: str
    boundary: Boundary
    back_after_seconds: float
    write_survives: bool = False


@frozen
class LoseDisk:
    """The node's disk is replaced by an empty one: the control plane's database, or a host's journal, is lost."""

    family: ClassVar[Family] = Family.PROCESS
    at_seconds: float
    node: str
    back_after_seconds: float


@frozen
class Reboot:
    """The machine loses power: a switch under way is interrupted, and the closure set to boot runs afterwards."""

    family: ClassVar[Family] = Family.HOST
    at_seconds: float
    host: str
    back_after_seconds: float


# Attackers between the hosts and the control plane. host: whose requests; empty: all hosts'.


@frozen
class ReplayRequests:
    """An attacker copies the host's requests, and sends each copy `late_seconds` later."""

    family: ClassVar[Family] = Family.WIRE
    at_seconds: float
    host: str
    for_seconds: float
    late_seconds: float


@frozen
class BorrowName:
    """The host `by` asks as `host`, with its own key, whenever it asks for itself."""

    family: ClassVar[Family] = Family.WIRE
    at_seconds: float
    host: str
    by: str
    for_seconds: float


@frozen
class AlterRequests:
    """An attacker alters the bodies of the host's requests."""

    family: ClassVar[Family] = Family.WIRE
    at_seconds: float
    host: str
    for_seconds: float


@frozen
class AnswerBadly:
    """Something in between answers a share of the host's requests, some of them after they were carried out."""

    family: ClassVar[Family] = Family.PROXY
    at_seconds: float
    host: str
    for_seconds: float
    share: float
    answer: BadAnswer


# Identities. Of a host that enrolls; nothing happens to others.


@frozen
class NewKey:
    """The host loses its key and makes a new one. An operator brings a token for it."""

    family: ClassVar[Family] = Family.IDENTITY
    at_seconds: float
    host: str
    token_after_seconds: float


@frozen
class NewToken:
    """An operator brings the host another token, which is good for `valid_seconds`, and its list is published."""

    family: ClassVar[Family] = Family.IDENTITY
    at_seconds: float
    host: str
    valid_seconds: float


@frozen
class StealToken:
    """The host `by` enrolls as `host`, with its own key and the token of `host`."""

    family: ClassVar[Family] = Family.IDENTITY
    at_seconds: float
    host: str
    by: str


# The release directory, when somebody copies files into it.


@frozen
class HalfExchanged:
    """Some files are of the release before, and some of the latest, a body and its signature apart."""

    family: ClassVar[Family] = Family.EXCHANGE
    at_seconds: float
    for_seconds: float


@frozen
class PutOlderBack:
    """The directory has an older release again: the one that is `back` before the latest."""

    family: ClassVar[Family] = Family.EXCHANGE
    at_seconds: float
    for_seconds: float
    back: int


Act: TypeAlias = (
    Release
    | ForgedRelease
    | RotateKey
    | StopSigning
    | Amend
    | ForgeAnswers
    | TakeOver
    | Pause
    | Clear
    | Retire
    | Revoke
    | LossyNetwork
    | Partition
    | ClockJump
    | FullDisk
    | SlowDisk
    | Crash
    | LoseDisk
    | Reboot
    | ReplayRequests
    | BorrowName
    | AlterRequests
    | AnswerBadly
    | NewKey
    | NewToken
    | StealToken
    | HalfExchanged
    | PutOlderBack
    | Excuse
    | Skip
    | TryAgain
    | PowerOff
    | NoClosures
    | Abort
    | RecallRelease
    | SteeringAct
    | LeadershipAct
)


def description(act: Act) -> str:
    """Return `act` as text for the story: its name, and its fields that are not empty."""
    parts = [
        f"{field.name.replace('_', ' ')} {_value_text(value)}"
        for field in fields(type(act))
        if field.name != "at_seconds" and (value := getattr(act, field.name)) not in ("", ())
    ]
    return f"{type(act).__name__}: {', '.join(parts)}" if parts else type(act).__name__


def _value_text(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(_item_text, cast("tuple[object, ...]", value)))
    if isinstance(value, float):
        return f"{value:g}"
    return value.value if isinstance(value, StrEnum) else str(value)


def _item_text(item: object) -> str:
    match item:
        case (str(host), behaviour):
            return f"{host}: {str(behaviour) or 'good'}"
        case CalendarEntry():
            return f"{item.kind} {item.name} {item.start or item.begins} {item.zone}"
        case _:
            return str(item)
