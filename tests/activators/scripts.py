"""The example scripts as activators, with settings and programs of a test's own."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from nixfleet_agent.activation.command import CommandActivator, Commands
from nixfleet_runtime.process.command import ProcessRunner

SCRIPTS = Path(__file__).parents[2] / "examples" / "activators"


def activator_of(
    script: str,
    settings: Mapping[str, str],
    directory: Path,
    *,
    files: str = "/nowhere/{closure}",
    others: tuple[str, ...] = (),
) -> CommandActivator:
    """Return an activator that runs an example script within the agent.

    settings: its environment, besides the test's. others: its commands besides current, prepare and switch.
    """
    environment = [f"{name}={value}" for name, value in settings.items()]
    start = ("/usr/bin/env", *environment, str(SCRIPTS / script))
    words = {
        name: (*start, name, "{closure}", *(["{files}"] if name == "prepare" else []))
        for name in ("current", "prepare", "switch", *others)
    }
    return CommandActivator(
        ProcessRunner(), Commands(**words), files, directory / "switch.json", unit=None
    )


def set_up(activator: CommandActivator, closure: str) -> None:
    """Let a closure that was prepared run, as after the installation of a machine."""
    command = [word.replace("{closure}", closure) for word in activator.commands.switch]
    subprocess.run(command, check=True)


def put_program(directory: Path, name: str, text: str) -> None:
    """Put a program that is a shell script into `directory`, in place of the real one."""
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\n{text}")
    program.chmod(0o755)
