"""The fake NixOS machine that the activator's tests run on; no tests here.

A real store and real links in a temporary directory, and programs that do to them what NixOS's do to
the real ones. Its time passes only when the activator sleeps.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import define, field, frozen

from nixfleet_agent.activation.activator import SWITCH_SCRIPT
from nixfleet_agent.activation.nixos.activator import NixosActivator
from nixfleet_runtime.process.command import CommandOutcome

DONE = CommandOutcome(0)


class PassingClock:
    """A clock on which sleeping takes no time but its own."""

    def __init__(self) -> None:
        self._now = datetime(2026, 5, 16, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@frozen
class Parts:
    """What a system is made of, as far as a live switch minds."""

    dbus: str = "unit-dbus/dbus.service"
    systemd: str = "systemd-257"
    kernel: str = "linux-6.12"
    init: str = "systemd 2"
    inhibitors: str = ""


@define
class Switch:
    """How the switch to one system goes: how long, to which end, and what then runs."""

    seconds: float = 10
    exit_code: int = 0
    flips_to: str | None = None
    journal: str = ""
    fails: tuple[str, ...] = ()
    locked: int = 0
    action: str = "switch"
    started_at: datetime = datetime.min.replace(tzinfo=UTC)


@define
class FakeNixos:
    """A machine whose programs do to a real directory what NixOS's do to the real one."""

    directory: Path
    clock: PassingClock
    commands: list[str] = field(factory=list)
    switches: dict[str, Switch] = field(factory=dict)
    unit: Switch | None = None
    failed_units: set[str] = field(factory=set)
    dead_man: str = ""
    silent_systemctl_calls: int = 0
    broken: dict[str, CommandOutcome] = field(factory=dict)
    times_out: list[float] = field(factory=list)
    _boots: int = 0

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def profile(self) -> Path:
        return self.directory / "profiles" / "system"

    @property
    def current_system(self) -> Path:
        return self.directory / "run" / "current-system"

    def add(
        self,
        name: str,
        switch: Switch | None = None,
        *,
        parts: Parts = Parts(),
        in_cache: bool = False,
    ) -> str:
        """Make a system; return its closure name. Its switch goes well unless `switch` says else."""
        closure = f"{len(self.switches):032}-nixos-system-{name}"
        self.switches[closure] = switch or Switch()
        if self.switches[closure].flips_to is None:
            self.switches[closure].flips_to = closure
        system = self.store / closure
        (system / "etc" / "systemd" / "system").mkdir(parents=True)
        (system / "init-interface-version").write_text(parts.init, encoding="utf-8")
        if parts.inhibitors:
            (system / "switch-inhibitors").write_text(parts.inhibitors, encoding="utf-8")
        (system / SWITCH_SCRIPT).parent.mkdir()
        (system / SWITCH_SCRIPT).touch()
        self._link(system / "kernel", parts.kernel)
        self._link(system / "systemd", parts.systemd)
        self._link(system / "etc" / "systemd" / "system" / "dbus.service", parts.dbus)
        if in_cache:
            system.rename(self.directory / closure)
        return closure

    def _link(self, link: Path, part: str) -> None:
        target = self.store / part
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        link.symlink_to(target)

    def activator(self) -> NixosActivator:
        """Return an activator that knows this machine's places."""
        return NixosActivator(
            self,
            self.clock,
            store=self.store,
            profile=self.profile,
            current_system=self.current_system,
            attempt_file=self.directory / "agent" / "switch.json",
            roots=self.directory / "gcroots",
            booted_system=self.directory / "run" / "booted-system",
            boot_id_file=self.boot_id_file,
        )

    @property
    def boot_id_file(self) -> Path:
        return self.directory / "boot_id"

    def reboot(self, closure: str) -> None:
        """Boot into `closure`: what systemd knew is gone."""
        self._boots += 1
        self.boot_id_file.write_text(f"boot {self._boots}\n", encoding="utf-8")
        self.unit = None
        point(self.current_system, self.store / closure)
        point(self.directory / "run" / "booted-system", self.store / closure)

    def boot(self, closure: str) -> None:
        """Let `closure` run, and be what the profile leads to."""
        for link in (self.profile, self.current_system):
            link.parent.mkdir(exist_ok=True)
        self._select(closure)
        self.reboot(closure)

    def generations(self) -> dict[str, str]:
        """Return the system of each generation of the profile, by number."""
        links = self.profile.parent.glob("system-*-link")
        return {link.name.split("-")[1]: link.readlink().name for link in links}

    def _select(self, closure: str) -> None:
        number = 1 + max((int(each) for each in self.generations()), default=0)
        link = self.profile.parent / f"system-{number}-link"
        point(link, self.store / closure)
        point(self.profile, link)

    def fire(self, closure: str) -> None:
        """Start the switch unit, as an agent that is gone had done."""
        self._systemd_run(["systemd-run", str(self.store / closure / "bin" / "x"), "switch"])

    async def run(self, command: Sequence[str], *, timeout_seconds: float) -> CommandOutcome:
        self.commands.append(" ".join(command).replace(str(self.directory), ""))
        program = Path(command[0]).name
        self.times_out.append(timeout_seconds)
        if program in self.broken:
            return self.broken[program]
        programs: dict[str, Callable[[Sequence[str]], CommandOutcome]] = {
            "nix-store": self._nix_store,
            "nix-env": self._nix_env,
            "systemd-run": self._systemd_run,
            "systemctl": self._systemctl,
            "journalctl": self._journalctl,
            "switch-to-configuration": lambda _: DONE,
        }
        return programs[program](command)

    def _nix_store(self, command: Sequence[str]) -> CommandOutcome:
        closure = Path(command[2]).name
        cached = self.directory / closure
        if cached.exists():
            cached.rename(self.store / closure)
        if not (self.store / closure).exists():
            return CommandOutcome(1, stderr_tail=f"error: path {closure} is not valid")
        assert command[3] == "--add-root"
        point(Path(command[4]), self.store / closure)
        return DONE

    def _nix_env(self, command: Sequence[str]) -> CommandOutcome:
        match command[3]:
            case "--set":
                self._select(Path(command[4]).name)
            case "--switch-generation":
                point(self.profile, self.profile.parent / f"system-{command[4]}-link")
            case "--delete-generations":
                (self.profile.parent / f"system-{command[4]}-link").unlink()
            case action:
                raise AssertionError(action)
        return DONE

    def _systemd_run(self, command: Sequence[str]) -> CommandOutcome:
        if command[1] == "--unit=nixfleet-dead-man":
            self.dead_man = command[-1].replace(str(self.directory), "")
            return DONE
        if self.unit is not None:
            return CommandOutcome(1, stderr_tail="Unit nixfleet-switch.service was already loaded")
        self.unit = self.switches[Path(command[-2]).parent.parent.name]
        self.unit.started_at = self.clock.now()
        self.unit.action = command[-1]
        return DONE

    def _systemctl(self, command: Sequence[str]) -> CommandOutcome:
        if self.silent_systemctl_calls > 0:
            self.silent_systemctl_calls -= 1
            return CommandOutcome(1, stderr_tail="Failed to connect to bus")
        if command[1:] == ["stop", "nixfleet-dead-man.timer"]:
            self.dead_man = ""
            return DONE
        if command[1] in ("stop", "reset-failed"):
            # What has failed stays loaded until it is reset, and what has not until it is stopped.
            has_failed = self.unit is not None and _has_ended_badly(self.unit, self.clock.now())
            if has_failed == (command[1] == "reset-failed"):
                self.unit = None
            return DONE
        if command[1] == "list-units":
            lines = (f"{unit} loaded failed failed" for unit in sorted(self.failed_units))
            return CommandOutcome(0, stdout_tail="\n".join(lines))
        return CommandOutcome(0, stdout_tail=self._shown())

    def _journalctl(self, command: Sequence[str]) -> CommandOutcome:
        assert command[1] == "_SYSTEMD_INVOCATION_ID=abc"
        assert self.unit is not None
        return CommandOutcome(0, stdout_tail=self.unit.journal)

    def _shown(self) -> str:
        """Return what `systemctl show` prints, once what is due by now has happened."""
        unit = self.unit
        if unit is None:
            return _shown("inactive", "dead", 0, "")
        passed = (self.clock.now() - unit.started_at).total_seconds()
        if unit.locked:
            if passed < 1:
                return _shown("active", "running", 0, "abc")
            unit.locked -= 1
            return _shown("failed", "failed", 11, "abc")
        if passed >= unit.seconds / 2 and unit.flips_to is not None and unit.action == "switch":
            point(self.current_system, self.store / unit.flips_to)
        if passed < unit.seconds:
            return _shown("active", "running", 0, "abc")
        self.failed_units |= set(unit.fails)
        if unit.exit_code == 0:
            return _shown("active", "exited", 0, "abc")
        return _shown("failed", "failed", unit.exit_code, "abc")


def _has_ended_badly(unit: Switch, now: datetime) -> bool:
    ended = (now - unit.started_at).total_seconds() >= unit.seconds
    return ended and unit.exit_code != 0


def point(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _shown(state: str, sub_state: str, exit_code: int, invocation: str) -> str:
    """Return the properties as systemd has them: a signal's number is a status of its own kind."""
    kind, status = (2, exit_code - 128) if exit_code > 128 else (int(exit_code > 0), exit_code)
    return (
        f"LoadState={'loaded' if invocation else 'not-found'}\nSubState={sub_state}\n"
        f"ExecMainCode={kind}\nExecMainStatus={status}\n"
        f"InvocationID={invocation}\nActiveState={state}\n"
    )
