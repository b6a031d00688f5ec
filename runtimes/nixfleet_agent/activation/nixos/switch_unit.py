"""The transient unit that runs a system's own switch script: how it is started, and what it says of its end.

It is no child of the agent: a switch may restart the agent, and must survive that. Its result stays after a success
too (`RemainAfterExit`), so an agent that was restarted reads the same result as one that was not. When the script
ends badly it starts the agent (`ExecStopPost`), since the script may have stopped it before.
Source: docs/spec/runtimes.md, Activators.
"""

from pathlib import Path
from typing import Final

from attrs import frozen

SWITCH_UNIT: Final = "nixfleet-switch"
SWITCH_SCRIPT: Final = "bin/switch-to-configuration"
PROPERTIES: Final = "LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus,InvocationID"


@frozen
class Unit:
    """The state of the switch unit in systemd.

    is_known: whether systemd has its result; it has none of a unit that never was, and after a reboot.
    exit_code: the script's; 128 + n when signal n ended it.
    """

    is_known: bool
    under_way: bool
    exit_code: int = 0
    invocation: str = ""


# systemd restarts itself in some switches, and cannot be asked then. That does not mean that the unit has ended.
UNANSWERED: Final = Unit(is_known=True, under_way=True)


def unit_of(shown: str) -> Unit:
    """Return the unit as `systemctl show` describes it with `PROPERTIES`."""
    pairs = (line.partition("=") for line in shown.splitlines())
    properties = {key: value for key, _, value in pairs}
    state, sub_state = properties.get("ActiveState", ""), properties.get("SubState", "")
    status = int(properties.get("ExecMainStatus") or 0)
    exited = properties.get("ExecMainCode", "0") in ("0", "1")
    exit_code = status if exited else 128 + status
    return Unit(
        is_known=properties.get("LoadState") == "loaded",
        under_way=state not in ("inactive", "failed") and sub_state != "exited",
        # A unit can also fail without an exit status, for instance when memory runs out.
        exit_code=exit_code or int(state == "failed"),
        invocation=properties.get("InvocationID", ""),
    )


def fire(system: Path, action: str, agent_unit: str, systemctl: str) -> list[str]:
    """Return the command that starts the unit. systemctl: its path, which must outlast the switch."""
    revive = f"--property=ExecStopPost=-{systemctl} --no-block start {agent_unit}"
    return [
        "systemd-run",
        f"--unit={SWITCH_UNIT}",
        "--service-type=exec",
        "--remain-after-exit",
        *([revive] if agent_unit else []),
        "--no-ask-password",
        "--quiet",
        "--",
        str(system / SWITCH_SCRIPT),
        action,
    ]
