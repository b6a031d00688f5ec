"""Activates closures with an operator's own commands: images, checkouts, partitions, packages.

A closure is whatever its name tells the commands: the digest of an image, a commit, a bundle. Each command is a program
and its arguments, without a shell. `{closure}` and `{files}` in an argument stand for the closure's name and for the
directory of its files, where the agent looks for health checks.

    command    does                                        exit code 0        others
    current    prints the name of the closure that runs    it is printed      3: nothing runs yet
    prepare    brings the closure here, and checks it      it is here         75: not yet; else: it never will be
    switch     makes it run, and boot                      it was done        75: nothing changed, ask again;
                                                                              100: done at the next boot; else: failed
    rollback   as switch, to an older closure; `switch` where it is not configured
    confirm    says whether what runs is well; optional    it is well         else: failed
    answered   is told once that the control plane has     it was noted       else: told again
               answered the agent on what runs; optional

`current` decides, not the exit code of a switch: a switch that ended with 0 and left another closure running has not
switched. A switch is on record until it was completed, so a closure whose switch failed does not count as running when
it is ordered again, and a rollback from it is carried out. Commands must therefore be idempotent.

Where systemd is, a switch runs in a unit of its own (`SwitchUnit`): it outlives an agent that it restarts or replaces,
and the next one reads its result.
Source: docs/spec/runtimes.md, Activators.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from attrs import field, frozen

from nixfleet_agent.activation.activator import (
    EXIT_CODE_DEFERRED,
    EXIT_CODE_OF_AGENT,
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    PrepareOutcome,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchOutcome,
    SwitchPhase,
    rollback_finished,
    time_limit_seconds_of,
)
from nixfleet_agent.activation.attempt import Attempt, AttemptFile
from nixfleet_agent.activation.switch_unit import SwitchUnit
from nixfleet_runtime.process.command import OUTPUT_BYTES_MAX, CommandOutcome, CommandRunner
from nixfleet_runtime.releases.closure_names import CLOSURE_NAME_EXPECTED, is_closure_name

EXIT_CODE_NOTHING_RUNS: Final = 3
EXIT_CODE_NOT_YET: Final = 75
"""EX_TEMPFAIL of sysexits.h."""
CLOSURE: Final = "{closure}"
FILES: Final = "{files}"
_NEXT_BOOT: Final = "the system"


class CurrentNotKnown(NoRunningClosure):
    """The command `current` did not say what runs. Attributes: `command`, `problem`."""

    def __init__(self, command: str, problem: str) -> None:
        super().__init__(Path(command))
        self.command = command
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.command}: expected the name of the running closure on one line, {self.problem}"
        )


@frozen
class Commands:
    """The commands of a machine, each a program and its arguments. rollback: `None` is `switch`; others: none."""

    current: Sequence[str]
    prepare: Sequence[str]
    switch: Sequence[str]
    rollback: Sequence[str] | None = None
    confirm: Sequence[str] | None = None
    answered: Sequence[str] | None = None


@frozen
class CommandActivator:
    """An `Activator` that runs commands.

    files: the directory of a closure's files, with `{closure}` in it. attempt_file: the record of the last switch.
    unit: in which a switch runs; `None`: it runs as a child of the agent, and ends with it.
    """

    runner: CommandRunner
    commands: Commands
    files: str
    attempt_file: Path
    unit: SwitchUnit | None
    switch_timeout_seconds: float = 600.0
    prepare_timeout_seconds: float = 3600.0
    command_timeout_seconds: float = 120.0
    _answered: set[str] = field(factory=set[str], init=False, eq=False, repr=False)

    @property
    def switch_method(self) -> str:
        """The value for `ActivationStarted.switch_method`."""
        return "command"

    def root_of(self, closure: str) -> Path:
        """Return the directory of the files of `closure`, whether it exists or not."""
        return Path(self.files.replace(CLOSURE, quote(closure, safe="")))

    async def current(self) -> str:
        """Return what the command `current` prints. Raises: NoRunningClosure, CurrentNotKnown."""
        command = self.commands.current
        outcome = await self._run(command, "", self.command_timeout_seconds)
        if outcome.exit_code == EXIT_CODE_NOTHING_RUNS:
            raise NoRunningClosure(Path(command[0]))
        if outcome.exit_code != 0:
            raise CurrentNotKnown(command[0], f"found {_ending(outcome)}")
        name = outcome.stdout_tail.strip()
        if not is_closure_name(name):
            raise CurrentNotKnown(command[0], f"of {CLOSURE_NAME_EXPECTED}, found {name[:80]!r}")
        return name

    async def prepare(self, closure: str) -> PrepareOutcome:
        """Run the command `prepare`, which fetches the closure and checks what it fetched."""
        if not is_closure_name(closure):
            expected = f"the name of the closure: expected {CLOSURE_NAME_EXPECTED}"
            reason = f"{expected}, found {closure[:300]!r}"
            return SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, reason)
        outcome = await self._run(self.commands.prepare, closure, self.prepare_timeout_seconds)
        if outcome.exit_code == 0 and not outcome.wrote_too_much:
            return Prepared(closure)
        if outcome.exit_code == EXIT_CODE_NOT_YET or outcome.timed_out:
            return ClosureNotHere(_ending(outcome))
        return SwitchFailed(SwitchPhase.REALISE, outcome.exit_code or 1, _ending(outcome))

    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        """Prepare `closure` and run the command `switch`, unless it is running and no switch is unfinished."""
        limit_seconds = time_limit_seconds_of(self.switch_timeout_seconds, time_limit_seconds)
        return await self._carried_out(closure, self.commands.switch, limit_seconds, order_id)

    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        """Prepare the older `closure` and run the command `rollback`, or `switch`."""
        command = self.commands.rollback or self.commands.switch
        limit_seconds = self.switch_timeout_seconds
        if self.unit is not None and self._record.of_order(order_id) is None:
            # The switch that failed. If it restarts the agent again and again, its end would never be seen.
            await self.unit.stop()
        outcome = await self._carried_out(closure, command, limit_seconds, order_id)
        return rollback_finished(outcome, await self.current())

    async def answered(self) -> None:
        """Run the command `answered`, once for what runs. Raises: OSError, if it fails."""
        if self.commands.answered is None:
            return
        running = await self.current()
        if running in self._answered:
            return
        command, limit = self.commands.answered, self.command_timeout_seconds
        outcome = await self._run(command, running, limit)
        if outcome.exit_code != 0:
            raise OSError(f"{command[0]}: {_ending(outcome)}")
        self._answered.clear()
        self._answered.add(running)

    @property
    def _record(self) -> AttemptFile:
        return AttemptFile(self.attempt_file)

    async def _carried_out(
        self, closure: str, command: Sequence[str], limit_seconds: float, order_id: str
    ) -> SwitchOutcome:
        try:
            unfinished, begun = self._record.last(), self._record.of_order(order_id)
            if self.unit is not None:
                # One that an earlier agent began may go on.
                unit = await self.unit.ended(limit_seconds)
                if isinstance(unit, SwitchFailed):
                    return unit
                if begun is not None and unit.is_known:
                    said = await self.unit.said(unit)
                    return await self._judged(begun, unit.exit_code, said)
            running = await self.current()
            if running == closure and unfinished is None:
                return SwitchCompleted(closure, 0)
            prepared = await self.prepare(closure)
            if not isinstance(prepared, Prepared):
                return prepared
            attempt = Attempt(order_id, closure, running, boot_id="")
            if self.unit is None:
                self._record.put(attempt)
                outcome = await self._run(command, closure, limit_seconds)
                exit_code, said = outcome.exit_code, _said(outcome)
                if exit_code == 0 and outcome.wrote_too_much:
                    exit_code = EXIT_CODE_OF_AGENT
            else:
                # Before the record, for the result of another order's unit would be taken for this one's.
                await self.unit.clear()
                self._record.put(attempt)
                start = self.unit.starting(self._words(command, closure))
                started = await self._run(start, "", self.command_timeout_seconds)
                if started.exit_code != 0:
                    return SwitchFailed(SwitchPhase.SWITCH, started.exit_code, _ending(started))
                ended = await self.unit.ended(limit_seconds)
                if isinstance(ended, SwitchFailed):
                    return ended
                exit_code, said = ended.exit_code, await self.unit.said(ended)
            return await self._judged(attempt, exit_code, said)
        except OSError as error:
            return SwitchFailed(SwitchPhase.SWITCH, EXIT_CODE_OF_AGENT, str(error))

    async def _judged(self, attempt: Attempt, exit_code: int, said: str) -> SwitchOutcome:
        """Return what the end of the command means, by its exit code and by what runs now."""
        try:
            running = await self.current()
        except NoRunningClosure as error:
            return SwitchFailed(SwitchPhase.CONFIRM, EXIT_CODE_OF_AGENT, str(error))
        if exit_code == EXIT_CODE_NOT_YET and running == attempt.running:
            self._record.forget()
            return ClosureNotHere(said or "the command `switch` asks to be run again")
        if exit_code == EXIT_CODE_DEFERRED and running == attempt.running:
            return SwitchDeferred(said.splitlines()[-1].strip() if said.strip() else _NEXT_BOOT)
        if exit_code != 0:
            return SwitchFailed(SwitchPhase.SWITCH, exit_code, said)
        if running != attempt.closure:
            return ClosureMismatch(attempt.closure, running)
        if self.commands.confirm is not None:
            confirm = self.commands.confirm
            outcome = await self._run(confirm, attempt.closure, self.command_timeout_seconds)
            if outcome.exit_code != 0:
                return SwitchFailed(SwitchPhase.CONFIRM, outcome.exit_code, _ending(outcome))
        self._record.forget()
        return SwitchCompleted(attempt.closure, 0)

    async def _run(
        self, command: Sequence[str], closure: str, timeout_seconds: float
    ) -> CommandOutcome:
        words = self._words(command, closure)
        return await self.runner.run(words, timeout_seconds=timeout_seconds)

    def _words(self, command: Sequence[str], closure: str) -> list[str]:
        files = str(self.root_of(closure))
        return [word.replace(CLOSURE, closure).replace(FILES, files) for word in command]


def _said(outcome: CommandOutcome) -> str:
    """Return the end of what a command wrote: of its errors, or else of its output."""
    return outcome.stderr_tail.strip() or outcome.stdout_tail.strip()


def _ending(outcome: CommandOutcome) -> str:
    if outcome.timed_out:
        end = "it was stopped after its time-out"
    elif outcome.wrote_too_much:
        end = f"it was stopped after {OUTPUT_BYTES_MAX} bytes of output"
    else:
        end = f"exit code {outcome.exit_code}"
    said = _said(outcome)
    return f"{end}: {said}" if said else end
