"""The timer that brings a machine back if the agent of the new system cannot be reached. The commands only.

A closure whose agent cannot start, or that cuts the network, would lose its host: no agent is left to notice. So the
way back is set with systemd before the switch is started, and stopped once a control plane has answered an agent.
Source: docs/spec/runtimes.md, The way back of a lost agent.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nixfleet_agent.activation.activator import SWITCH_SCRIPT
from nixfleet_agent.activation.switch_unit import SWITCH_UNIT

DEAD_MAN: Final = "nixfleet-dead-man"


def arm(after_seconds: float, script: Path) -> Sequence[str]:
    """Return the command that starts the timer. script: the file that it runs.

    A file, since systemd does not read every argument back as it was given once its units are loaded again.
    """
    return [
        "systemd-run",
        f"--unit={DEAD_MAN}",
        f"--on-active={after_seconds:g}s",
        "--timer-property=AccuracySec=1s",
        # A way back that failed would keep the name, and no later switch could set its own.
        "--collect",
        "--no-ask-password",
        "--quiet",
        "--",
        "/bin/sh",
        str(script),
    ]


def disarm(systemctl: str) -> Sequence[str]:
    """Return the command that stops the timer."""
    return [systemctl, "stop", f"{DEAD_MAN}.timer"]


def way_back(prior: Path, profile: Path, agent_unit: str, systemctl: str, nix_env: str) -> str:
    """Return the script that makes `prior` run and boot again, with its own programs, and starts its agent.

    A switch that hangs is ended first: it holds NixOS's lock.
    """
    commands = (
        (systemctl, "stop", f"{SWITCH_UNIT}.service"),
        (nix_env, "-p", str(profile), "--set", str(prior)),
        (str(prior / SWITCH_SCRIPT), "switch"),
        (systemctl, "--no-block", "start", agent_unit),
    )
    # Each is tried, whatever became of those before it.
    return "".join(f"{shlex.join(command)}\n" for command in commands)
