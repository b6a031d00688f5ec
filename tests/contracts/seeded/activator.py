"""Activators with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

from pathlib import Path

from attrs import field, frozen

from nixfleet_agent.activation.activator import (
    Activator,
    ClosureNotHere,
    Prepared,
    PrepareOutcome,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchOutcome,
    SwitchPhase,
)
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_runtime.process.command import CommandOutcome
from nixfleet_testing.contracts.activator import ActivatedMachine, ActivatorContract
from tests.contracts.machines import DirectoryMachine


class MachineWith(DirectoryMachine):
    """A machine of real directories, with another activator."""

    def __init__(self, directory: Path, kind: type[DirectoryActivator]) -> None:
        super().__init__(directory)
        self._kind = kind

    def activator(self) -> Activator:
        return self._kind(self.store, self.profile, environment=self.environment)


@frozen
class NeverLooksFirst(DirectoryActivator):
    def _is_settled_at(self, closure: str) -> bool:
        return False


class TestFiresASwitchTwiceAfterARestart(ActivatorContract):
    """Does not look at what runs before it switches."""

    says = "a switch that was done already was done again after a restart"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, NeverLooksFirst)


@frozen
class BelievesTheProfile(DirectoryActivator):
    def _running(self) -> str | None:
        return self.profile.readlink().name if self.profile.is_symlink() else None

    def _is_settled_at(self, closure: str) -> bool:
        return self._running() == closure


class TestTakesAFailedClosureForRunning(ActivatorContract):
    """Believes the link that is set before the script has run."""

    says = "after a switch that failed, `current()` must be"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, BelievesTheProfile)


@frozen
class ForgetsThatItIsUnfinished(DirectoryActivator):
    async def _run_script(self, closure: str, limit_seconds: float) -> CommandOutcome:
        self.switching_from.unlink(missing_ok=True)
        return await super()._run_script(closure, limit_seconds)


class TestLosesACancelledSwitch(ActivatorContract):
    """Removes the sign of an unfinished switch when the script begins, and not when it has ended."""

    says = "was cut off in the middle, `current()` must be"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, ForgetsThatItIsUnfinished)


@frozen
class Raises(DirectoryActivator):
    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        outcome = await super().switch(closure, time_limit_seconds)
        if isinstance(outcome, SwitchFailed):
            raise RuntimeError(str(outcome))
        return outcome


class TestRaisesWhenASwitchFails(ActivatorContract):
    """Raises instead of saying how the switch ended."""

    says = "a failed switch is an outcome"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, Raises)


@frozen
class AlwaysRollsBackWell(DirectoryActivator):
    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        await self.switch(closure)
        return RollbackFinished(closure, 0)


class TestReportsAFailedRollbackAsDone(ActivatorContract):
    """Does not look at how the rollback ended."""

    says = "expected an exit code other than 0 from a rollback that"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, AlwaysRollsBackWell)


@frozen
class ForgetsWhatIsHalfThere(DirectoryActivator):
    def _is_settled_at(self, closure: str) -> bool:
        return self._running() == closure


class TestLeavesAFailedClosureHalfThere(ActivatorContract):
    """Has nothing to roll back, since the closure from before counts as running."""

    says = "a rollback after a switch that fails was not carried out"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, ForgetsWhatIsHalfThere)


@frozen
class OnlySaysSo(DirectoryActivator):
    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        return RollbackFinished(closure, 0)


class TestRollsBackInNameOnly(ActivatorContract):
    """Says that the rollback is done, and does nothing."""

    says = "a rollback after a switch that succeeds was not carried out"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, OnlySaysSo)


@frozen
class TrustsItsStore(DirectoryActivator):
    async def prepare(self, closure: str) -> PrepareOutcome:
        return Prepared(closure)


class TestSwitchesToAnything(ActivatorContract):
    """Does not check that a closure is there, and is what its name says."""

    says = "a switch to a closure that is spoilt ended as"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, TrustsItsStore)


@frozen
class PreparesBySwitching(DirectoryActivator):
    async def prepare(self, closure: str) -> PrepareOutcome:
        prepared = await super().prepare(closure)
        if isinstance(prepared, Prepared):
            self._select(closure)
            await self._run_script(closure, self.switch_timeout_seconds)
        return prepared


class TestSwitchesWhenItShouldPrepare(ActivatorContract):
    """Activates a closure that was only to be fetched."""

    says = "preparing began a switch to"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, PreparesBySwitching)


@frozen
class CallsDeferredDone(DirectoryActivator):
    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        outcome = await super().switch(closure, time_limit_seconds)
        return SwitchCompleted(closure, 0) if isinstance(outcome, SwitchDeferred) else outcome


class TestCallsADeferredSwitchDone(ActivatorContract):
    """Takes "at the next boot" for "now"."""

    says = "a deferred switch ended as"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, CallsDeferredDone)


@frozen
class HasOneRoot(DirectoryActivator):
    def root_of(self, closure: str) -> Path:
        return self.profile


class TestLooksForAllClosuresInOnePlace(ActivatorContract):
    """Takes the link to what is selected for the files of any closure."""

    says = "for a closure that is there and for one that is not"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, HasOneRoot)


@frozen
class NamesNothing(DirectoryActivator):
    async def current(self) -> str:
        return self._running() or ""


class TestNamesAClosureWhereNothingRuns(ActivatorContract):
    """Returns an empty name on a machine on which nothing runs."""

    says = "expected NoRunningClosure from"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, NamesNothing)


@frozen
class FailsForWhatIsMissing(DirectoryActivator):
    async def prepare(self, closure: str) -> PrepareOutcome:
        prepared = await super().prepare(closure)
        if isinstance(prepared, ClosureNotHere):
            return SwitchFailed(SwitchPhase.REALISE, 1, prepared.reason)
        return prepared


class TestTakesAMissingClosureForABadOne(ActivatorContract):
    """Reports a closure that was not copied yet as a failed switch, and so as a bad release."""

    says = "expected ClosureNotHere for a closure that"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, FailsForWhatIsMissing)


@frozen
class RemembersWhatWasMissing(DirectoryActivator):
    missing: dict[str, ClosureNotHere] = field(factory=dict)

    async def prepare(self, closure: str) -> PrepareOutcome:
        prepared = self.missing.get(closure) or await super().prepare(closure)
        if isinstance(prepared, ClosureNotHere):
            self.missing[closure] = prepared
        return prepared


class TestNeverLooksAgain(ActivatorContract):
    """Keeps the answer that a closure is not here."""

    says = "a closure was delivered after it had been asked for"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, RemembersWhatWasMissing)


@frozen
class WaitsForWhatIsSpoilt(DirectoryActivator):
    async def prepare(self, closure: str) -> PrepareOutcome:
        prepared = await super().prepare(closure)
        return prepared if isinstance(prepared, Prepared) else ClosureNotHere(str(prepared))


class TestWaitsForASpoiltClosure(ActivatorContract):
    """Takes a closure that was changed for one that has not come yet, and so waits for ever."""

    says = "a switch to a closure that is spoilt ended as"

    def make_machine(self, directory: Path) -> ActivatedMachine:
        return MachineWith(directory, WaitsForWhatIsSpoilt)
