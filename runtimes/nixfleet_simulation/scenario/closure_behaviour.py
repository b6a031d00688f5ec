"""How a closure behaves on a machine: what its switch comes to, what its probes say. Data.

A closure nobody speaks of switches well and is healthy.
"""

from enum import StrEnum

from attrs import frozen


class SwitchResult(StrEnum):
    """What becomes of a switch to the closure."""

    WORKS = "works"
    FAILS_BEFORE_ANYTHING = "fails before anything has changed"
    FAILS_HALF_WAY = "fails with the new closure running"
    HANGS = "hangs until its time is over"
    WAITS_FOR_REBOOT = "waits for a reboot"
    ENDS_ON_A_THIRD_CLOSURE = "ends with another closure running"
    IS_NOT_WHAT_ITS_NAME_SAYS = "is not what its name says"


class RollbackResult(StrEnum):
    """What becomes of a rollback away from the closure."""

    WORKS = "works"
    FAILS = "fails"
    HANGS = "hangs until its time is over"


class Health(StrEnum):
    """What the enforce probe of the closure says."""

    GOOD = "passes"
    BAD = "fails"
    BAD_LATER = "fails after a while"
    FLAPPING = "flaps"
    SILENT = "does not report"
    CONTROL_FAILS = "passes, with a control that fails"
    UNREADABLE = "cannot be read"


@frozen
class ClosureBehaviour:
    """All about one closure on one host."""

    switch: SwitchResult = SwitchResult.WORKS
    rollback: RollbackResult = RollbackResult.WORKS
    health: Health = Health.GOOD

    def __str__(self) -> str:
        odd = (
            ("switch", self.switch, SwitchResult.WORKS),
            ("rollback", self.rollback, RollbackResult.WORKS),
            ("health", self.health, Health.GOOD),
        )
        return ", ".join(f"{what} {way.value}" for what, way, usual in odd if way is not usual)


GOOD = ClosureBehaviour()
