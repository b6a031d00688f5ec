"""Activates NixOS systems, with NixOS's own programs. Decides when a switch must wait for a boot.

    1. nix-store --realise           the system is in the store, with contents verified by Nix; if no
                                     substituter has it or none answers, it is not here yet
    2. nix-env --set                 the system profile: boots, once the bootloader is updated
    3. compare with what runs        dbus, systemd, kernel or init differ: install the bootloader,
                                     and leave the rest to the next boot
    4. systemd-run, detached         a switch may restart the agent, and must survive that
    5. wait for the unit's end       300 s; then read which system runs

`/run/current-system` changes in the middle of a switch, before units are restarted, so the link is
read after the unit has ended. An agent that was restarted by its own switch finds the unit, waits for
it, and then reads what runs; its probes report units that failed to start.

Every program of a closure is called by its store path. `/run/current-system/bin` belongs to the
current closure, which after a failure is the broken one.
Source: docs/spec/runtimes.md, Activators; docs/spec/host-machine.md, Deferred.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from attrs import frozen

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
from nixfleet_agent.activation.command import (
    EXIT_CODE_TIMED_OUT,
    OUTPUT_BYTES_MAX,
    CommandOutcome,
    CommandRunner,
)
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.releases.nar import InvalidClosureName, split_closure_name
from nixfleet_runtime.storage.regular_file import read_regular_file

SWITCH_UNIT: Final = "nixfleet-switch"
SWITCH_SCRIPT: Final = "bin/switch-to-configuration"
_JOURNAL_LINES: Final = 40


@frozen
class _Unit:
    """The state of the switch unit in systemd. A unit that systemd does not know has succeeded."""

    under_way: bool
    exit_code: int = 0
    invocation: str = ""


@frozen
class NixosActivator:
    """An `Activator` for NixOS; a closure is the name of a system in the Nix store."""

    commands: CommandRunner
    clock: Clock
    store: Path = Path("/nix/store")
    profile: Path = Path("/nix/var/nix/profiles/system")
    current_system: Path = Path("/run/current-system")
    switch_timeout_seconds: float = 300.0
    poll_interval_seconds: float = 2.0
    realise_timeout_seconds: float = 3600.0
    command_timeout_seconds: float = 120.0

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
        path = str(self.root_of(closure))
        failure = await self._failure_of(
            SwitchPhase.REALISE, ["nix-store", "--realise", path], self.realise_timeout_seconds
        )
        return Prepared(closure) if failure is None else ClosureNotHere(str(failure))

    async def switch(self, closure: str, time_limit_seconds: float | None = None) -> SwitchOutcome:
        """Select `closure` and switch to it, or defer it to the next boot when it must be."""
        limit_seconds = time_limit_seconds_of(self.switch_timeout_seconds, time_limit_seconds)
        unfinished = await self._unit_ended(limit_seconds)
        if isinstance(unfinished, SwitchFailed):
            return unfinished
        before = await self.current()
        if before == closure == _closure_at(self.profile):
            return SwitchCompleted(closure, 0)
        prepared = await self.prepare(closure)
        if not isinstance(prepared, Prepared):
            return prepared
        failure = await self._set_profile(closure)
        if failure is not None:
            return failure
        component = deferring_component(self.current_system, self.root_of(closure))
        if component is not None:
            return await self._defer(closure, component)
        return await self._switch_live(before, closure, limit_seconds)

    async def rollback(self, closure: str) -> RollbackFinished:
        """Switch back to `closure`: the same steps, each with the older system's own programs."""
        outcome = await self.switch(closure)
        return rollback_finished(outcome, await self.current())

    async def _set_profile(self, closure: str) -> SwitchFailed | None:
        command = ["nix-env", "-p", str(self.profile), "--set", str(self.root_of(closure))]
        failure = await self._failure_of(SwitchPhase.PROFILE_SET, command)
        found = _closure_at(self.profile)
        if failure is None and found != closure:
            reason = f"{self.profile}: expected a link to {closure}, found {found}"
            return SwitchFailed(SwitchPhase.PROFILE_SET, EXIT_CODE_OF_AGENT, reason)
        return failure

    async def _defer(self, closure: str, component: str) -> SwitchOutcome:
        command = [str(self.root_of(closure) / SWITCH_SCRIPT), "boot"]
        failure = await self._failure_of(SwitchPhase.BOOTLOADER, command)
        return failure or SwitchDeferred(component)

    async def _switch_live(self, before: str, closure: str, limit_seconds: float) -> SwitchOutcome:
        # A failed unit occupies its name until it is reset; usually there is none.
        await self._run(["systemctl", "reset-failed", f"{SWITCH_UNIT}.service"])
        failure = await self._failure_of(SwitchPhase.SWITCH, _fire(self.root_of(closure)))
        if failure is not None:
            return failure
        unit = await self._unit_ended(limit_seconds)
        if isinstance(unit, SwitchFailed):
            return unit
        return await self._switched(before, closure, unit)

    async def _switched(self, before: str, closure: str, unit: _Unit) -> SwitchOutcome:
        running = await self.current()
        if running not in (before, closure):
            return ClosureMismatch(closure, running)
        if unit.exit_code == EXIT_CODE_DEFERRED:
            return SwitchDeferred("init")
        if unit.exit_code != 0:
            return SwitchFailed(SwitchPhase.SWITCH, unit.exit_code, await self._journal_of(unit))
        if running == before != closure:
            reason = f"{self.current_system}: expected {closure} after the switch, found {running}"
            return SwitchFailed(SwitchPhase.CONFIRM, EXIT_CODE_OF_AGENT, reason)
        return SwitchCompleted(running, 0)

    async def _unit_ended(self, limit_seconds: float) -> _Unit | SwitchFailed:
        """Wait until no switch is under way; stop one that exceeds the time-out."""
        deadline = self.clock.now() + timedelta(seconds=limit_seconds)
        while (unit := await self._unit()).under_way:
            if self.clock.now() >= deadline:
                # Left running, it would interfere with the rollback that is likely to follow.
                await self._run(["systemctl", "stop", f"{SWITCH_UNIT}.service"])
                reason = f"{SWITCH_UNIT} was stopped after {limit_seconds:g} s"
                return SwitchFailed(SwitchPhase.CONFIRM, EXIT_CODE_TIMED_OUT, reason)
            await self.clock.sleep(self.poll_interval_seconds)
        return unit

    async def _unit(self) -> _Unit:
        properties = "ActiveState,ExecMainCode,ExecMainStatus,InvocationID"
        command = ["systemctl", "show", f"{SWITCH_UNIT}.service", f"--property={properties}"]
        outcome = await self._run(command)
        # systemd restarts itself in some switches: no answer does not mean that the unit has ended.
        return _unit_of(outcome.stdout_tail) if outcome.exit_code == 0 else _Unit(under_way=True)

    async def _journal_of(self, unit: _Unit) -> str:
        match = f"_SYSTEMD_INVOCATION_ID={unit.invocation}"
        lines = f"--lines={_JOURNAL_LINES}"
        outcome = await self._run(["journalctl", match, lines, "--output=cat", "--no-pager"])
        return outcome.stdout_tail

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


def deferring_component(running: Path, target: Path) -> str | None:
    """Return the component that differs between two systems and cannot be replaced live, `None` if none does.

    The first of dbus, systemd, kernel and init when several differ.
    """
    for component, identity_in in _COMPONENTS:
        if identity_in(running) != identity_in(target):
            return component
    return None


def _dbus_in(system: Path) -> str | None:
    # Compares the implementation, not the build: its unit changes whenever a service is added, and a
    # live switch does not restart it while the implementation is the same.
    unit = _resolved(system / "etc/systemd/system/dbus.service")
    return unit.name if unit else None


def _systemd_in(system: Path) -> Path | None:
    return _resolved(system / "systemd")


def _kernel_in(system: Path) -> Path | None:
    return _resolved(system / "kernel")


def _init_in(system: Path) -> str | None:
    # `init` itself contains the name of its system, so it always differs; NixOS compares this version.
    version = system / "init-interface-version"
    return read_regular_file(version).decode() if version.is_file() else None


_COMPONENTS: Final[tuple[tuple[str, Callable[[Path], Path | str | None]], ...]] = (
    ("dbus", _dbus_in),
    ("systemd", _systemd_in),
    ("kernel", _kernel_in),
    ("init", _init_in),
)


def _fire(system: Path) -> list[str]:
    return [
        "systemd-run",
        f"--unit={SWITCH_UNIT}",
        "--service-type=exec",
        "--no-ask-password",
        "--quiet",
        "--",
        str(system / SWITCH_SCRIPT),
        "switch",
    ]


def _unit_of(shown: str) -> _Unit:
    pairs = (line.partition("=") for line in shown.splitlines())
    properties = {key: value for key, _, value in pairs}
    state = properties.get("ActiveState", "")
    status = int(properties.get("ExecMainStatus") or 0)
    exited = properties.get("ExecMainCode", "0") in ("0", "1")
    exit_code = status if exited else 128 + status
    return _Unit(
        under_way=state not in ("inactive", "failed"),
        # A unit can also fail without an exit status, for instance when memory runs out.
        exit_code=exit_code or int(state == "failed"),
        invocation=properties.get("InvocationID", ""),
    )


def _closure_at(link: Path) -> str | None:
    target = _resolved(link)
    return target.name if target else None


def _resolved(path: Path) -> Path | None:
    """Return the final target of `path`, `None` when it does not exist."""
    return path.resolve() if path.exists() else None
