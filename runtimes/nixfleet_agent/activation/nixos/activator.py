"""Activates NixOS systems, with NixOS's own programs.

    1. nix-store --realise           the system is in the store, with contents verified by Nix, and kept from the
                                     garbage collector; if no substituter has it or none answers, it is not here yet
    2. nix-env                       the system profile: boots, once the bootloader is updated
    3. the attempt is put on record  which order switches from what to what, and in which boot
    4. compare with what runs        a component that cannot be replaced differs: install the bootloader only, and
                                     leave the rest to the next boot
    5. systemd-run, detached         a switch may restart the agent, and must survive that
    6. wait for the unit's end       600 s, more than NixOS itself waits; then read which system runs

`/run/current-system` changes in the middle of a switch, before units are restarted, so the link is
read after the unit has ended. An agent that was restarted by its own switch finds the attempt on record and the unit,
waits for it, and judges its result as if it had not been restarted.

Every program of a closure is called by its store path. `/run/current-system/bin` belongs to the
current closure, which after a failure is the broken one.
Source: docs/spec/runtimes.md, Activators; docs/spec/host-machine.md, Deferred.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from nixfleet_agent.activation.activator import (
    EXIT_CODE_DEFERRED,
    EXIT_CODE_OF_AGENT,
    EXIT_CODE_UNITS_FAILED,
    SWITCH_SCRIPT,
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
from nixfleet_agent.activation.attempt import Attempt, AttemptFile, write_beside_the_journal
from nixfleet_agent.activation.nixos.components import deferring_component, resolved
from nixfleet_agent.activation.nixos.dead_man import arm, disarm, way_back
from nixfleet_agent.activation.switch_unit import SWITCH_UNIT, SwitchUnit, UnitState
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.process.command import (
    OUTPUT_BYTES_MAX,
    CommandOutcome,
    CommandRunner,
)
from nixfleet_runtime.releases.nar import InvalidClosureName, split_closure_name
from nixfleet_runtime.storage.regular_file import read_regular_file

_EXIT_CODE_LOCKED: Final = 11
"""EAGAIN: another switch holds NixOS's own lock, for instance somebody's `nixos-rebuild`."""
_GENERATION: Final = re.compile(r"-(\d+)-link\Z")


class OnFailedUnits(StrEnum):
    """What follows when units failed in a switch: it is done, they are named and probes decide; or it has failed."""

    REPORT = "report"
    FAIL = "fail"


@frozen
class NixosActivator:
    """An `Activator` for NixOS; a closure is the name of a system in the Nix store.

    attempt_file: the record of the last switch. roots: links that keep systems from the garbage collector.
    agent_unit: the agent's own unit, started again when a switch ends badly; empty: none is.
    dead_man_seconds: after how long a machine goes back whose agent was not answered after a switch; 0: never.
    systemctl, nix_env: what must outlast a switch; paths into the store rather than names.
    """

    commands: CommandRunner
    clock: Clock
    store: Path = Path("/nix/store")
    profile: Path = Path("/nix/var/nix/profiles/system")
    current_system: Path = Path("/run/current-system")
    switch_timeout_seconds: float = 600.0
    poll_interval_seconds: float = 2.0
    realise_timeout_seconds: float = 3600.0
    command_timeout_seconds: float = 120.0
    attempt_file: Path = Path("/var/lib/nixfleet-agent/switch.json")
    roots: Path = Path("/nix/var/nix/gcroots/nixfleet")
    booted_system: Path = Path("/run/booted-system")
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
    agent_unit: str = "nixfleet-agent.service"
    on_failed_units: OnFailedUnits = OnFailedUnits.REPORT
    dead_man_seconds: float = 1200.0
    systemctl: str = "systemctl"
    nix_env: str = "nix-env"

    @property
    def switch_method(self) -> str:
        """The value for `ActivationStarted.switch_method`."""
        return "systemd-run"

    def root_of(self, closure: str) -> Path:
        """Return the store path of `closure`, whether it exists or not."""
        return self.store / closure

    async def current(self) -> str:
        """Return the system that `/run/current-system` points to.

        Raises: NoRunningClosure.
        """
        running = _closure_at(self.current_system)
        if running is None:
            raise NoRunningClosure(self.current_system)
        return running

    async def prepare(self, closure: str) -> PrepareOutcome:
        """Realise `closure`: Nix fetches or builds it, and verifies what it fetched.

        Any failure may pass: a cache that lacks it or does not answer, a full disk, a key that is not trusted yet.
        """
        try:
            split_closure_name(closure)
        except InvalidClosureName as error:
            return SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, str(error))
        failure = await self._kept("target", closure)
        if failure is not None:
            return ClosureNotHere(str(failure))
        script = self.root_of(closure) / SWITCH_SCRIPT
        if not script.is_file():
            reason = f"{script}: expected the switch script of a NixOS system, found none"
            return SwitchFailed(SwitchPhase.VERIFY, EXIT_CODE_OF_AGENT, reason)
        return Prepared(closure)

    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        """Select `closure` and switch to it, or defer it to the next boot when it must be."""
        return await self._carried_out(closure, time_limit_seconds, order_id, is_way_back=False)

    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        """Switch back to `closure`: the same steps, each with the older system's own programs."""
        left = _closure_at(self.profile)
        outcome = await self._carried_out(closure, None, order_id, is_way_back=True)
        finished = rollback_finished(outcome, await self.current())
        if finished.exit_code == 0 and left is not None and left != closure:
            said = (finished.stderr_tail, await self._forgotten(left))
            return evolve(finished, stderr_tail="\n".join(filter(None, said)))
        return finished

    async def answered(self) -> None:
        """Stop the timer that would bring the machine back. Raises: OSError."""
        attempt = AttemptFile(self.attempt_file).last()
        if attempt is not None and attempt.is_armed:
            await self._run(disarm(self.systemctl))
            AttemptFile(self.attempt_file).put(evolve(attempt, is_armed=False))

    async def _carried_out(
        self,
        closure: str,
        time_limit_seconds: float | None,
        order_id: str,
        *,
        is_way_back: bool,
    ) -> SwitchOutcome:
        limit_seconds = time_limit_seconds_of(self.switch_timeout_seconds, time_limit_seconds)
        deadline = self.clock.now() + timedelta(seconds=limit_seconds)
        try:
            begun = AttemptFile(self.attempt_file).of_order(order_id)
        except OSError as error:
            return SwitchFailed(SwitchPhase.SWITCH, EXIT_CODE_OF_AGENT, str(error))
        if is_way_back and begun is None:
            # The switch that failed. If it restarts the agent again and again, nobody would see its end.
            await self._unit.stop()
        unit = await self._unit.ended(limit_seconds)
        if isinstance(unit, SwitchFailed):
            return unit
        if begun is not None:
            found = await self._found(begun, unit, is_way_back=is_way_back)
            if found is not None:
                return found
        running = await self.current()
        if running == closure == _closure_at(self.profile):
            return SwitchCompleted(closure, 0)
        prepared = await self.prepare(closure)
        if not isinstance(prepared, Prepared):
            return prepared
        # On the way back what runs now is what failed.
        failure = None if is_way_back else await self._kept("rollback", running)
        failure = failure or await self._set_profile(closure)
        if failure is not None:
            return failure
        attempt = begun or await self._attempt(order_id, closure, running)
        while True:
            outcome = await self._switched_once(attempt, limit_seconds, is_way_back=is_way_back)
            is_locked = isinstance(outcome, SwitchFailed) and outcome.exit_code == _EXIT_CODE_LOCKED
            # The lock is taken before anything changes, so what ran still runs.
            if not is_locked or running != await self.current() or self.clock.now() >= deadline:
                return outcome
            await self.clock.sleep(self.poll_interval_seconds)

    # The steps before the switch.

    async def _attempt(self, order_id: str, closure: str, running: str) -> Attempt:
        return Attempt(
            order_id=order_id,
            closure=closure,
            running=running,
            boot_id=self._boot_id(),
            failed_units=await self._failed_units(),
        )

    async def _kept(self, name: str, closure: str) -> SwitchFailed | None:
        """Realise `closure` and keep it from the garbage collector, under `name`, until another one takes the name."""
        try:
            self.roots.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, str(error))
        path, root = str(self.root_of(closure)), str(self.roots / name)
        command = ["nix-store", "--realise", path, "--add-root", root]
        return await self._failure_of(SwitchPhase.REALISE, command, self.realise_timeout_seconds)

    async def _set_profile(self, closure: str) -> SwitchFailed | None:
        generation = self._generation_of(closure)
        action = (
            ["--set", str(self.root_of(closure))]
            if generation is None
            else ["--switch-generation", generation]
        )
        command = [self.nix_env, "-p", str(self.profile), *action]
        failure = await self._failure_of(SwitchPhase.PROFILE_SET, command)
        found = _closure_at(self.profile)
        if failure is None and found != closure:
            reason = f"{self.profile}: expected a link to {closure}, found {found}"
            return SwitchFailed(SwitchPhase.PROFILE_SET, EXIT_CODE_OF_AGENT, reason)
        return failure

    def _generation_of(self, closure: str) -> str | None:
        """Return the number of the newest generation of the profile that is `closure`, `None` if none is."""
        numbers = [
            int(found[1])
            for link in self.profile.parent.glob(f"{self.profile.name}-*-link")
            if (found := _GENERATION.search(link.name)) and _closure_at(link) == closure
        ]
        return str(max(numbers)) if numbers else None

    async def _forgotten(self, closure: str) -> str:
        """Remove the generation of a system that was rolled back from, so that nobody boots it. Return what failed."""
        generation = self._generation_of(closure)
        if generation is None:
            return ""
        command = [self.nix_env, "-p", str(self.profile), "--delete-generations", generation]
        outcome = await self._run(command)
        return "" if outcome.exit_code == 0 else outcome.stderr_tail

    # The switch.

    async def _switched_once(
        self, attempt: Attempt, limit_seconds: float, *, is_way_back: bool
    ) -> SwitchOutcome:
        target = self.root_of(attempt.closure)
        component = self._deferring(attempt)
        action = "switch" if component is None else "boot"
        phase = SwitchPhase.SWITCH if component is None else SwitchPhase.BOOTLOADER
        # A failed unit occupies its name until it is reset, and one that succeeded until it is stopped. Before the
        # record, for the result of another order's unit would be taken for this one's.
        await self._unit.clear()
        await self._run(disarm(self.systemctl))
        is_armed = self.dead_man_seconds > 0 and component is None and not is_way_back
        try:
            AttemptFile(self.attempt_file).put(evolve(attempt, is_armed=is_armed))
        except OSError as error:
            return SwitchFailed(phase, EXIT_CODE_OF_AGENT, str(error))
        failure = await self._armed(attempt) if is_armed else None
        command = self._unit.starting([str(target / SWITCH_SCRIPT), action])
        failure = failure or await self._failure_of(phase, command)
        if failure is not None:
            return failure
        unit = await self._unit.ended(limit_seconds)
        return unit if isinstance(unit, SwitchFailed) else await self._judged(attempt, unit)

    async def _armed(self, attempt: Attempt) -> SwitchFailed | None:
        prior = self.root_of(attempt.running)
        script = self.attempt_file.with_suffix(".way-back")
        commands = way_back(prior, self.profile, self.agent_unit, self.systemctl, self.nix_env)
        try:
            write_beside_the_journal(script, commands)
        except OSError as error:
            return SwitchFailed(SwitchPhase.SWITCH, EXIT_CODE_OF_AGENT, str(error))
        return await self._failure_of(SwitchPhase.SWITCH, arm(self.dead_man_seconds, script))

    def _deferring(self, attempt: Attempt) -> str | None:
        target = self.root_of(attempt.closure)
        return deferring_component(self.root_of(attempt.running), target, self.booted_system)

    async def _found(
        self, attempt: Attempt, unit: UnitState, *, is_way_back: bool
    ) -> SwitchOutcome | None:
        """Return how the switch on record ended, `None` if it is to be carried out (again)."""
        running = await self.current()
        if unit.is_known:
            is_locked = unit.exit_code == _EXIT_CODE_LOCKED and running == attempt.running
            return None if is_locked else await self._judged(attempt, unit)
        if running == attempt.closure:
            # It booted into it, or somebody reset the unit: what the script said is not known any more.
            return SwitchCompleted(running, 0)
        profile = _closure_at(self.profile)
        is_interrupted = self._boot_id() == attempt.boot_id and profile == attempt.closure
        if is_interrupted or is_way_back:
            return None
        return self._brought_back(attempt, running)

    async def _judged(self, attempt: Attempt, unit: UnitState) -> SwitchOutcome:
        """Return what the end of the unit means, by its exit code and by what runs now."""
        running, component = await self.current(), self._deferring(attempt)
        if running not in (attempt.running, attempt.closure):
            return ClosureMismatch(attempt.closure, running)
        if component is not None and running != attempt.closure:
            if unit.exit_code == 0:
                return SwitchDeferred(component)
            return SwitchFailed(SwitchPhase.BOOTLOADER, unit.exit_code, await self._unit.said(unit))
        if running == attempt.closure and unit.exit_code in (0, EXIT_CODE_UNITS_FAILED):
            return await self._completed(attempt, unit)
        if unit.exit_code == EXIT_CODE_DEFERRED and running == attempt.running:
            return SwitchDeferred("init")
        if unit.exit_code not in (0, EXIT_CODE_UNITS_FAILED):
            return SwitchFailed(SwitchPhase.SWITCH, unit.exit_code, await self._unit.said(unit))
        return self._brought_back(attempt, running)

    def _brought_back(self, attempt: Attempt, running: str) -> SwitchFailed:
        expected = f"expected {attempt.closure} after its switch"
        reason = f"was brought back: {self.current_system}: {expected}, found {running}"
        return SwitchFailed(SwitchPhase.CONFIRM, EXIT_CODE_OF_AGENT, reason)

    async def _completed(self, attempt: Attempt, unit: UnitState) -> SwitchOutcome:
        if unit.exit_code == 0:
            return SwitchCompleted(attempt.closure, 0)
        failed = tuple(sorted({*await self._failed_units()} - {*attempt.failed_units}))
        if self.on_failed_units is OnFailedUnits.FAIL:
            reason = f"units failed: {' '.join(failed)}\n{await self._unit.said(unit)}"
            return SwitchFailed(SwitchPhase.SWITCH, unit.exit_code, reason)
        return SwitchCompleted(attempt.closure, unit.exit_code, failed)

    # What systemd says.

    @property
    def _unit(self) -> SwitchUnit:
        return SwitchUnit(
            self.commands,
            self.clock,
            self.agent_unit,
            self.systemctl,
            self.poll_interval_seconds,
            self.command_timeout_seconds,
        )

    async def _failed_units(self) -> tuple[str, ...]:
        """Return the units that have failed, without the switch itself; none if systemd does not answer."""
        command = [self.systemctl, "list-units", "--state=failed", "--plain", "--no-legend"]
        outcome = await self._run(command)
        lines = outcome.stdout_tail.splitlines() if outcome.exit_code == 0 else []
        names = {line.split()[0] for line in lines if line.strip()}
        return tuple(sorted(names - {f"{SWITCH_UNIT}.service"}))

    def _boot_id(self) -> str:
        return read_regular_file(self.boot_id_file).decode().strip()

    async def _failure_of(
        self, phase: SwitchPhase, command: Sequence[str], timeout_seconds: float | None = None
    ) -> SwitchFailed | None:
        outcome = await self._run(command, timeout_seconds)
        if outcome.exit_code == 0 and not outcome.wrote_too_much:
            return None
        stopped = f"{command[0]} was stopped after its time-out: " if outcome.timed_out else ""
        if outcome.wrote_too_much:
            stopped = f"{command[0]} was stopped after {OUTPUT_BYTES_MAX} bytes of output: "
        return SwitchFailed(phase, outcome.exit_code, stopped + outcome.stderr_tail)

    async def _run(
        self, command: Sequence[str], timeout_seconds: float | None = None
    ) -> CommandOutcome:
        limit = self.command_timeout_seconds if timeout_seconds is None else timeout_seconds
        return await self.commands.run(command, timeout_seconds=limit)


def _closure_at(link: Path) -> str | None:
    target = resolved(link)
    return target.name if target else None
