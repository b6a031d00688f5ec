"""What somebody or something does to the fleet at a moment: the whole of a history, as data.

A history is a list of acts in the order of time; what the engines make of it follows. Each act belongs to a
family, which can be left out. `at_seconds` is of virtual time.
"""

from enum import StrEnum
from typing import ClassVar, TypeAlias

from attrs import fields, frozen

from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour

CONTROL_PLANE = "control-plane"
"""The control plane's name where hosts have theirs."""


class Family(StrEnum):
    """What kind of trouble an act is. `RELEASE` is no trouble: without it nothing would happen."""

    RELEASE = "release"
    OPERATOR = "operator"
    CI = "ci"
    NETWORK = "network"
    CLOCK = "clock"
    DISK = "disk"
    PROCESS = "process"
    HOST = "host"
    PROBE = "probe"


class Boundary(StrEnum):
    """Between which two steps a process dies."""

    AT_ONCE = "at once"
    BEFORE_WRITE = "decided, before anything is written"
    DURING_WRITE = "during a write"
    AFTER_WRITE = "written, before anybody is told"
    AFTER_ANSWERS = "answered, before anything follows"
    BEFORE_SEND = "before it sends"
    AFTER_SEND = "after it sent"


class Direction(StrEnum):
    """Which way a partition cuts."""

    BOTH = "both ways"
    TO_CONTROL_PLANE = "to the control plane"
    FROM_CONTROL_PLANE = "from the control plane"


class Forgery(StrEnum):
    """What is wrong with a release."""

    BY_A_STRANGER = "signed by a stranger"
    ALTERED = "altered after it was signed"
    STALE = "signed long ago"
    NOT_SIGNED = "without a signing time"
    OTHER_FLEET = "anchored in another fleet"


# What CI does.


@frozen
class Release:
    """CI releases `ref` on `channel`. closure: what every host gets; empty: each host its own.

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
    """Somebody puts a release where CI puts its own, and something is wrong with it."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    channel: str
    forgery: Forgery


@frozen
class RotateKey:
    """CI signs with a new key from now on; the old one is still good. is_compromised: it is not."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    is_compromised: bool


@frozen
class StopSigning:
    """CI signs nothing anew for a while: what it signed goes stale."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    for_seconds: float


@frozen
class ForgeAnswers:
    """Whoever sits between the control plane and a host changes the dispatches and manifests it is given."""

    family: ClassVar[Family] = Family.CI
    at_seconds: float
    host: str
    for_seconds: float


# What operators do.


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
    """Whatever is halted on the channel may go on, without those that failed, or `everybody`."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    channel: str
    everybody: bool


@frozen
class Retire:
    """Every quarantine of the channel is retired."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    channel: str


@frozen
class Revoke:
    """The host's key is on the list of revocations that CI signs, until it is taken off."""

    family: ClassVar[Family] = Family.OPERATOR
    at_seconds: float
    host: str
    for_seconds: float


# What the network does. host: whose way to the control plane; empty: everybody's.


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
    """The clock is wrong by `by_seconds` more, until somebody sets it right."""

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
    """The process dies between two steps, the first time it comes to `boundary`, and starts again later.

    write_survives: whether what was being written is there afterwards, all of it.
    """

    family: ClassVar[Family] = Family.PROCESS
    at_seconds: float
    node: str
    boundary: Boundary
    back_after_seconds: float
    write_survives: bool = False


@frozen
class LoseDisk:
    """The node's disk is replaced by an empty one: the control plane's database, or a host's journal, is gone."""

    family: ClassVar[Family] = Family.PROCESS
    at_seconds: float
    node: str
    back_after_seconds: float


@frozen
class Reboot:
    """The machine loses power: a switch under way is broken off, and what is set to boot runs afterwards."""

    family: ClassVar[Family] = Family.HOST
    at_seconds: float
    host: str
    back_after_seconds: float


Act: TypeAlias = (
    Release
    | ForgedRelease
    | RotateKey
    | StopSigning
    | ForgeAnswers
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
)


def description(act: Act) -> str:
    """Return `act` as a story tells it: its name, and what is not empty of the rest."""
    told = [
        f"{field.name.replace('_', ' ')} {_value_text(value)}"
        for field in fields(type(act))
        if field.name != "at_seconds" and (value := getattr(act, field.name)) not in ("", ())
    ]
    return f"{type(act).__name__}: {', '.join(told)}" if told else type(act).__name__


def _value_text(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(f"{host}: {str(behaviour) or 'as it should'}" for host, behaviour in value)
    if isinstance(value, float):
        return f"{value:g}"
    return value.value if isinstance(value, StrEnum) else str(value)
