"""The transient unit of systemd in which a switch runs: how it is started and awaited, and what it says of its end.

It is no child of the agent: a switch may restart the agent, and must survive that. Its result stays after a success
too (`RemainAfterExit`), so an agent that was restarted reads the same result as one that was not. When the command
ends badly it starts the agent (`ExecStopPost`), since the command may have stopped it before.
Source: docs/spec/runtimes.md, Activators.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from attrs import frozen

from nixfleet_agent.activation.activator import SwitchFailed, SwitchPhase
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.process.command import (
    EXIT_CODE_TIMED_OUT,
    CommandOutcome,
    CommandRunner,
)

SWITCH_UNIT: Final = "nixfleet-switch"
_SERVICE: Final = f"{SWITCH_UNIT}.service"
_PROPERTIES: Final = "LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus,InvocationID"
_JOURNAL_LINES: Final = 40


@frozen
class UnitState:
    """The state of the switch unit in systemd.

    is_known: whether systemd has its result; it has none of a unit that never was, and after a reboot.
    exit_code: the command's; 128 + n when signal n ended it.
    """

    is_known: bool
    under_way: bool
    exit_code: int = 0
    invocation: str = ""


# systemd restarts itself in some switches, and cannot be asked then. That does not mean that the unit has ended.
UNANSWERED: Final = UnitState(is_known=True, under_way=True)


@frozen
class SwitchUnit:
    """The unit, of which there is one on a machine. systemctl: its path, which must outlast the switch.

    agent_unit: started again when a switch ends badly; empty: none is.
    """

    commands: CommandRunner
    clock: Clock
    agent_unit: str
    systemctl: str = "systemctl"
    poll_interval_seconds: float = 2.0
    command_timeout_seconds: float = 120.0

    def starting(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return what starts the unit with `command`; it must not be there already (`cleared`)."""
        revive = f"--property=ExecStopPost=-{self.systemctl} --no-block start {self.agent_unit}"
        return [
            "systemd-run",
            f"--unit={SWITCH_UNIT}",
            "--service-type=exec",
            "--remain-after-exit",
            *([revive] if self.agent_unit else []),
            *(f"--setenv={name}={value}" for name, value in (environment or {}).items()),
            "--no-ask-password",
            "--quiet",
            "--",
            *command,
        ]

    async def state(self) -> UnitState:
        """Return the unit's state; while systemd does not answer, that of one that is under way."""
        outcome = await self._run([self.systemctl, "show", _SERVICE, f"--property={_PROPERTIES}"])
        return _state_of(outcome.stdout_tail) if outcome.exit_code == 0 else UNANSWERED

    async def ended(self, limit_seconds: float) -> UnitState | SwitchFailed:
        """Wait until no switch is under way; stop one that exceeds the limit, which has failed."""
        deadline = self.clock.now() + timedelta(seconds=limit_seconds)
        while (unit := await self.state()).under_way:
            if self.clock.now() >= deadline:
                # Left running, it would interfere with the rollback that is likely to follow.
                await self.stop()
                reason = f"{SWITCH_UNIT} was stopped after {limit_seconds:g} s"
                return SwitchFailed(SwitchPhase.CONFIRM, EXIT_CODE_TIMED_OUT, reason)
            await self.clock.sleep(self.poll_interval_seconds)
        return unit

    async def stop(self) -> None:
        """End the switch that is under way, if one is; a result that stayed after a success is forgotten."""
        await self._run([self.systemctl, "stop", _SERVICE])

    async def clear(self) -> None:
        """Make room for another switch: a unit that failed occupies its name until it is reset, too."""
        await self.stop()
        await self._run([self.systemctl, "reset-failed", _SERVICE])

    async def said(self, unit: UnitState) -> str:
        """Return the last lines that the command wrote, both outputs."""
        match = f"_SYSTEMD_INVOCATION_ID={unit.invocation}"
        lines = f"--lines={_JOURNAL_LINES}"
        outcome = await self._run(["journalctl", match, lines, "--output=cat", "--no-pager"])
        return outcome.stdout_tail

    async def _run(self, command: Sequence[str]) -> CommandOutcome:
        return await self.commands.run(command, timeout_seconds=self.command_timeout_seconds)


def _state_of(shown: str) -> UnitState:
    """Return the state that `systemctl show` describes with `_PROPERTIES`."""
    pairs = (line.partition("=") for line in shown.splitlines())
    properties = {key: value for key, _, value in pairs}
    state, sub_state = properties.get("ActiveState", ""), properties.get("SubState", "")
    status = int(properties.get("ExecMainStatus") or 0)
    exited = properties.get("ExecMainCode", "0") in ("0", "1")
    exit_code = status if exited else 128 + status
    return UnitState(
        is_known=properties.get("LoadState") == "loaded",
        under_way=state not in ("inactive", "failed") and sub_state != "exited",
        # A unit can also fail without an exit status, for instance when memory runs out.
        exit_code=exit_code or int(state == "failed"),
        invocation=properties.get("InvocationID", ""),
    )
