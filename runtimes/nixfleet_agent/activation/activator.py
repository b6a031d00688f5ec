"""The port that switches a machine between closures, and its outcomes.

The `Activator` Protocol, its outcomes, and what every implementation shares. No I/O. Outcomes are
values: a failed switch is reported, not raised. An activator checks what is running first, so each
call is idempotent and is simply repeated after a crash.
Source: docs/spec/runtimes.md, Activators.
"""

from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.errors import NixfleetError

EXIT_CODE_OF_AGENT = 125
"""The exit code of a failure that the agent itself detected; the same as that of `env` and `timeout`."""

EXIT_CODE_DEFERRED = 100
"""The exit code of NixOS's `switch-to-configuration` for a switch that takes effect at the next boot."""

EXIT_CODE_UNITS_FAILED = 4
"""The exit code of NixOS's `switch-to-configuration` for a switch that was done, after which some unit failed."""

SWITCH_SCRIPT: Final = "bin/switch-to-configuration"
"""Where a closure has its own script that switches to it."""


class SwitchPhase(StrEnum):
    """The phases of a switch. Before `PROFILE_SET` nothing on the machine has changed."""

    REALISE = "realise"
    VERIFY = "verify"
    PROFILE_SET = "profile-set"
    BOOTLOADER = "bootloader"
    SWITCH = "switch"
    CONFIRM = "confirm"


@frozen
class Prepared:
    """The closure is in the store and its contents match its name. Nothing has been switched."""

    closure: str


@frozen
class ClosureNotHere:
    """The closure is not in the store and could not be fetched now. It may come later: the caller asks again.

    Nothing has been switched. Not for a closure that can never be activated: that is a `SwitchFailed`.
    reason: for people: what was looked for, where, and what was found.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class SwitchCompleted:
    """The switch was done and `current_closure` is running. failed_units: services that failed in it."""

    current_closure: str
    exit_code: int
    failed_units: tuple[str, ...] = ()


@frozen
class SwitchDeferred:
    """The closure is set for the next boot; `component` cannot be swapped while it runs."""

    component: str


@frozen
class SwitchFailed:
    """The switch failed at `phase`; `Activator.current()` returns what is running."""

    phase: SwitchPhase
    exit_code: int
    stderr_tail: str

    def __str__(self) -> str:
        stderr = self.stderr_tail.strip()
        end = f"failed at {self.phase}: exit status {self.exit_code}"
        return f"{end}: {stderr}" if stderr else end


@frozen
class ClosureMismatch:
    """`actual` was found in place of the `expected` closure.

    Either its contents hash to another name, or another closure was activated during the switch. From `prepare`: the
    caller asks again, since a closure that is still being copied hashes to a different name each time.
    """

    expected: str
    actual: str

    def __str__(self) -> str:
        return f"expected closure {self.expected}, found {self.actual}"


@frozen
class RollbackFinished:
    """A rollback ended; only exit code 0 means success. current_closure: what is running now."""

    current_closure: str
    exit_code: int
    stderr_tail: str = ""


PrepareFailure: TypeAlias = SwitchFailed | ClosureMismatch
PrepareOutcome: TypeAlias = Prepared | ClosureNotHere | PrepareFailure
SwitchEnd: TypeAlias = SwitchCompleted | SwitchDeferred | SwitchFailed | ClosureMismatch
"""How a switch ended."""
SwitchOutcome: TypeAlias = SwitchEnd | ClosureNotHere


class NoRunningClosure(NixfleetError):
    """No closure is running yet; `link` should point to one."""

    def __init__(self, link: Path) -> None:
        super().__init__(link)
        self.link = link

    def __str__(self) -> str:
        return (
            f"{self.link}: expected a link to the running closure, found none; "
            "switch this machine to its first closure before its agent starts"
        )


class Activator(Protocol):
    """Switches one machine between closures. The caller makes one call at a time.

    After a cancellation, repeating the same call finishes the work.
    """

    @property
    def switch_method(self) -> str:
        """The value for `ActivationStarted.switch_method`."""
        ...

    def root_of(self, closure: str) -> Path:
        """Return the directory of the files of `closure`, whether it exists or not."""
        ...

    async def current(self) -> str:
        """Return the name of the running closure: the last one whose switch succeeded.

        Raises: NoRunningClosure.
        """
        ...

    async def prepare(self, closure: str) -> PrepareOutcome:
        """Bring `closure` into the store and check its contents against its name.

        Called before each switch, and repeatedly while the answer is `ClosureNotHere`. May take as long as a download:
        nothing else waits for it, and it is cancelled when the closure is not wanted any more.
        """
        ...

    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        """Prepare `closure`, and make it the running closure and the one that boots.

        time_limit_seconds: what is left of the activation deadline; a switch that takes longer is ended, with all its
        processes, and has failed. `None`, or more than the activator's own limit: that one applies.
        order_id: the same when the agent repeats an order after a restart, and another one for every other order. An
        activator that keeps it on record returns how the switch of that order ended, instead of switching again.
        Completes at once when it is running already. Returns `ClosureNotHere` only while nothing has changed.
        """
        ...

    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        """Switch back to `closure`, using its own programs and never those of the current closure.

        order_id: as for `switch`. A closure that runs again counts, whatever services failed.
        """
        ...

    async def answered(self) -> None:
        """Note that the control plane has answered the agent of what runs now: this machine can be reached.

        Called after each answered heartbeat while nothing is switched or rolled back. Raises: OSError.
        """
        ...


def time_limit_seconds_of(own_seconds: float, asked_seconds: float | None) -> float:
    """Return the shorter of an activator's own limit and the one it was asked for."""
    return own_seconds if asked_seconds is None else min(own_seconds, asked_seconds)


def rollback_finished(outcome: SwitchOutcome, current_closure: str) -> RollbackFinished:
    """Return the outcome of a switch back to an older closure, as that of a rollback.

    A deferred switch has not activated the older closure, so it does not count as success.
    """
    match outcome:
        case SwitchCompleted(current, _, failed_units):
            failed = f"units failed: {' '.join(failed_units)}" if failed_units else ""
            return RollbackFinished(current, 0, failed)
        case SwitchDeferred(component):
            reason = f"{component} cannot be replaced while running: rolls back at the next boot"
            return RollbackFinished(current_closure, EXIT_CODE_DEFERRED, reason)
        case SwitchFailed(_, exit_code, stderr_tail):
            return RollbackFinished(current_closure, exit_code, stderr_tail)
        case ClosureMismatch() | ClosureNotHere():
            return RollbackFinished(current_closure, EXIT_CODE_OF_AGENT, str(outcome))
        case _:
            assert_never(outcome)
