"""What an agent needs from the machine to move it between closures: one port, and what it answers.

Here: the `Activator` Protocol, its outcomes, and what every implementation shares. No process and
no file is touched here. Outcomes are values: a switch that fails is something to report, not an
exception. An activator looks at what is running first, so each order may be given twice: after a
crash an order is simply repeated, and what is done already is not done again.
Source: docs/spec/runtimes.md, Activators.
"""

from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias, assert_never

from attrs import frozen

EXIT_CODE_OF_AGENT = 125
"""The exit code of a failure that the agent found itself; what `env` and `timeout` use for theirs."""

EXIT_CODE_DEFERRED = 100
"""How NixOS's `switch-to-configuration` says "this will not take effect until you reboot"."""


class SwitchPhase(StrEnum):
    """How far a switch came. Before `PROFILE_SET` nothing on the machine has changed."""

    REALISE = "realise"
    VERIFY = "verify"
    PROFILE_SET = "profile-set"
    BOOTLOADER = "bootloader"
    SWITCH = "switch"
    CONFIRM = "confirm"


@frozen
class Prepared:
    """The closure is in the store and is what its name says. Nothing has been switched."""

    closure: str


@frozen
class SwitchCompleted:
    """The switch ended well and `current_closure` runs now."""

    current_closure: str
    exit_code: int


@frozen
class SwitchDeferred:
    """The closure is set for the next boot; `component` cannot be swapped while it runs."""

    component: str


@frozen
class SwitchFailed:
    """The switch ended badly at `phase`; what runs now is for `Activator.current()` to say."""

    phase: SwitchPhase
    exit_code: int
    stderr_tail: str

    def __str__(self) -> str:
        said = self.stderr_tail.strip()
        end = f"failed at {self.phase}: exit status {self.exit_code}"
        return f"{end}: {said}" if said else end


@frozen
class ClosureMismatch:
    """What is there is not the closure that was asked for: `actual` is what was found instead.

    Either its tree hashes to another name, or another closure took over during the switch.
    """

    expected: str
    actual: str

    def __str__(self) -> str:
        return f"expected closure {self.expected}, found {self.actual}"


@frozen
class RollbackFinished:
    """A rollback ran to its end; only exit code 0 means that it worked.

    `current_closure` is what runs now, whichever way it ended.
    """

    current_closure: str
    exit_code: int
    stderr_tail: str = ""


PrepareFailure: TypeAlias = SwitchFailed | ClosureMismatch
PrepareOutcome: TypeAlias = Prepared | PrepareFailure
SwitchOutcome: TypeAlias = SwitchCompleted | SwitchDeferred | SwitchFailed | ClosureMismatch


class NoRunningClosure(Exception):
    """No closure runs here yet; `link` is what should point to one."""

    def __init__(self, link: Path) -> None:
        super().__init__(link)
        self.link = link

    def __str__(self) -> str:
        return (
            f"{self.link}: expected a link to the running closure, found none; "
            "switch this machine to its first closure before its agent starts"
        )


class Activator(Protocol):
    """Moves one machine between closures. One order at a time; its caller sees to that.

    Cancelled, it leaves the machine such that giving the same order again finishes the work.
    """

    @property
    def switch_method(self) -> str:
        """How a switch is carried out, for `ActivationStarted.switch_method`."""
        ...

    def root_of(self, closure: str) -> Path:
        """Return the directory in which the files of `closure` are, whether it exists or not."""
        ...

    async def current(self) -> str:
        """Return the name of the closure that runs now: the last one whose switch ended well.

        Raises: NoRunningClosure.
        """
        ...

    async def prepare(self, closure: str) -> PrepareOutcome:
        """Bring `closure` into the store and check that it is what its name says."""
        ...

    async def switch(self, closure: str) -> SwitchOutcome:
        """Make `closure` the running one, and the one that boots; prepares it first.

        When it runs already, this completes and runs nothing.
        """
        ...

    async def rollback(self, closure: str) -> RollbackFinished:
        """Return to `closure`, with its own programs and never those of the one being left."""
        ...


def rollback_finished(outcome: SwitchOutcome, current_closure: str) -> RollbackFinished:
    """Return what a switch back to an older closure came to, as a rollback.

    A deferred one has not brought the older closure back, so it does not count as done.
    """
    match outcome:
        case SwitchCompleted(current, exit_code):
            return RollbackFinished(current, exit_code)
        case SwitchDeferred(component):
            reason = f"{component} cannot be swapped live: goes back at the next boot"
            return RollbackFinished(current_closure, EXIT_CODE_DEFERRED, reason)
        case SwitchFailed(_, exit_code, stderr_tail):
            return RollbackFinished(current_closure, exit_code, stderr_tail)
        case ClosureMismatch():
            return RollbackFinished(current_closure, EXIT_CODE_OF_AGENT, str(outcome))
        case _:
            assert_never(outcome)
