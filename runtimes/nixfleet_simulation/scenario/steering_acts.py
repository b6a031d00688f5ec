"""The acts of people who steer: holds with an end, calendars, and what they state of the waves that are to begin.

As `acts`: data. `at_seconds` is virtual time.
"""

from enum import StrEnum
from typing import ClassVar, TypeAlias

from attrs import frozen

from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_simulation.scenario.family import Family


class HoldPlace(StrEnum):
    """What an operator holds."""

    FLEET = "the fleet"
    CHANNEL = "the channel"
    ROLLOUT = "its newest rollout"
    WAVE = "a wave of it"
    HOST = "a host"


class Twist(StrEnum):
    """What is wrong with a statement. NONE: nothing."""

    NONE = ""
    BY_A_STRANGER = "by one who is not asked"
    OTHER_KEY = "signed with another operator's key"
    OTHER_MANIFEST = "about another manifest"
    SIGNED_AHEAD = "dated ahead"


class Says(StrEnum):
    """What a judge says. BY_TURNS: pass, then inconclusive. SILENT: it is asked, and the answer never comes."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    BY_TURNS = "pass and inconclusive by turns"
    SILENT = "silent"


@frozen
class HoldUntil:
    """An operator holds a scope until a time. released_after_seconds: lifted before, if not 0."""

    family: ClassVar[Family] = Family.CALENDAR
    at_seconds: float
    channel: str
    place: HoldPlace
    host: str
    for_seconds: float
    released_after_seconds: float = 0


@frozen
class ChangeCalendar:
    """CI signs the current releases again with another calendar."""

    family: ClassVar[Family] = Family.CALENDAR
    at_seconds: float
    entries: tuple[CalendarEntry, ...]


@frozen
class FreezeFor:
    """CI adds a freeze of the channel that begins at once, by whole minutes on the clocks of `zone`."""

    family: ClassVar[Family] = Family.CALENDAR
    at_seconds: float
    channel: str
    zone: str
    for_minutes: int


@frozen
class StateOn:
    """Operators state something of the next guarded wave of the channel's newest rollout.

    again: each says so twice. operators: those that do, one after the other.
    """

    family: ClassVar[Family] = Family.GUARDS
    at_seconds: float
    channel: str
    operators: tuple[str, ...]
    decision: Decision
    twist: Twist = Twist.NONE
    again: bool = False


@frozen
class StateAgain:
    """Somebody sends a statement again that was made before: `back` statements ago."""

    family: ClassVar[Family] = Family.GUARDS
    at_seconds: float
    back: int


@frozen
class JudgeSays:
    """The judge of the channel's checks says this from now on."""

    family: ClassVar[Family] = Family.GUARDS
    at_seconds: float
    channel: str
    says: Says


SteeringAct: TypeAlias = HoldUntil | ChangeCalendar | FreezeFor | StateOn | StateAgain | JudgeSays
