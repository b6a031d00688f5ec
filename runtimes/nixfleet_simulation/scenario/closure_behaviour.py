"""How a closure behaves on a machine: the outcomes of its switch, rollback and probes. Data.

The default is a closure that switches successfully and is healthy.
"""

from enum import StrEnum

from attrs import frozen


class SwitchResult(StrEnum):
    """The outcome of a switch to the closure."""

    WORKS = "works"
    FAILS_BEFORE_ANY_CHANGE = "fails before anything has changed"
    FAILS_HALF_WAY = "fails with the new closure running"
    HANGS = "hangs until its time-out"
    WAITS_FOR_REBOOT = "waits for a reboot"
    ENDS_ON_A_THIRD_CLOSURE = "ends with another closure running"
    CONTENTS_DIFFER_FROM_NAME = "has contents that differ from its name"


class RollbackResult(StrEnum):
    """The outcome of a rollback away from the closure."""

    WORKS = "works"
    FAILS = "fails"
    HANGS = "hangs until its time-out"


class Health(StrEnum):
    """The results of the closure's probes."""

    GOOD = "passes"
    BAD = "fails"
    BAD_LATER = "fails after a while"
    FLAPPING = "flaps"
    SILENT = "does not report"
    CONTROL_FAILS = "passes, with a control that fails"
    UNREADABLE = "cannot be read"
    OBSERVED_FAILS = "passes, while the observe probe fails"


@frozen
class ClosureBehaviour:
    """The behaviour of one closure on one host.

    late_seconds: how long `Health.BAD_LATER` passes before it fails. times: how many switches to the closure go this
    way, before it is as good as any; 0: all of them. cuts_network: the host reaches nothing while it runs the closure.
    """

    switch: SwitchResult = SwitchResult.WORKS
    rollback: RollbackResult = RollbackResult.WORKS
    health: Health = Health.GOOD
    late_seconds: int = 120
    times: int = 0
    cuts_network: bool = False

    def __str__(self) -> str:
        odd = (
            ("switch", self.switch, SwitchResult.WORKS),
            ("rollback", self.rollback, RollbackResult.WORKS),
            ("health", self.health, Health.GOOD),
        )
        parts = [f"{what} {way.value}" for what, way, usual in odd if way is not usual]
        text = ", ".join([*parts, *(["cuts the network"] if self.cuts_network else [])])
        return f"{text}, {self.times} times" if text and self.times else text


GOOD = ClosureBehaviour()
