"""The acts that concern several control planes on one store. Data. `node`: one of `CONTROL_PLANES`."""

from enum import StrEnum
from typing import ClassVar, Final, TypeAlias

from attrs import frozen

from nixfleet_simulation.scenario.family import Family

CONTROL_PLANES: Final = ("control-plane-1", "control-plane-2")
LEADER: Final = "the one that serves"


class Way(StrEnum):
    """The way between a control plane and the store that is cut."""

    BOTH = "both ways"
    TO_STORE = "to the store"
    FROM_STORE = "from the store, so that answers are lost"


@frozen
class StandStill:
    """A process stands still (SIGSTOP, a machine that is suspended), and goes on where it was."""

    family: ClassVar[Family] = Family.LEADERSHIP
    at_seconds: float
    node: str
    for_seconds: float


@frozen
class EndProcess:
    """A process is killed (SIGKILL), or asked to end, and started again later."""

    family: ClassVar[Family] = Family.LEADERSHIP
    at_seconds: float
    node: str
    is_asked: bool
    back_after_seconds: float


@frozen
class CutFromStore:
    """A process and the store are cut off from each other. Half of what is on the way arrives when that ends."""

    family: ClassVar[Family] = Family.LEADERSHIP
    at_seconds: float
    node: str
    way: Way
    for_seconds: float


@frozen
class RestartStore:
    """The store's server ends, and all sessions with it, and is back later with everything that was durable."""

    family: ClassVar[Family] = Family.LEADERSHIP
    at_seconds: float
    back_after_seconds: float


LeadershipAct: TypeAlias = StandStill | EndProcess | CutFromStore | RestartStore
