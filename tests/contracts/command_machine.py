"""A machine whose closures are files that a shell script selects: what an operator's own activator is made of."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from nixfleet_agent.activation.command import CommandActivator, Commands
from nixfleet_runtime.process.command import ProcessRunner
from nixfleet_testing.contracts.activator import ActivatedMachine, SwitchBehaviour
from tests.contracts.machines import SCRIPTS

# The store has a file a closure: its name on the first line, then what its switch does.
PROGRAM = """#!/bin/sh
cd "$1" || exit 1
STUCK=$1/stuck
closure=store/$3
case $2 in
current) [ -e current ] || exit 3; cat current ;;
prepare)
    [ -e "$closure" ] || { echo "$3 is not here" >&2; exit 75; }
    [ "$(head -n 1 "$closure")" = "$3" ] || { echo "$3 has other content" >&2; exit 1; } ;;
switch)
    echo "$3" >> began
    eval "$(tail -n +2 "$closure")"
    printf '%s\\n' "$3" > current.new && mv current.new current ;;
esac
"""


class CommandMachine(ActivatedMachine):
    """Real processes; a switch ends with its agent, and is run again by the next."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.store.mkdir()
        self.program = directory / "activate"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)

    def commands(self, **others: Sequence[str]) -> Commands:
        """Return the commands of this machine. others: in place of these, or besides them."""
        words = {
            name: (str(self.program), str(self.directory), name, "{closure}") for name in NAMES
        }
        return Commands(**{**words, **others})

    def activator(self) -> CommandActivator:
        return self.activator_of(self.commands())

    def activator_of(self, commands: Commands) -> CommandActivator:
        """Return an activator of this machine that runs these commands."""
        return CommandActivator(
            ProcessRunner(),
            commands,
            str(self.store / "{closure}.files"),
            self.directory / "switch.json",
            unit=None,
        )

    def add(self, name: str, behaviour: SwitchBehaviour = SwitchBehaviour.SUCCEEDS) -> str:
        (self.store / name).write_text(f"{name}\n{SCRIPTS[behaviour]}\n")
        return name

    async def boot(self, closure: str) -> None:
        (self.directory / "current").write_text(f"{closure}\n")

    def switched(self) -> Sequence[str]:
        began = self.directory / "began"
        return began.read_text().splitlines() if began.exists() else []

    async def until_stuck(self) -> None:
        while not (self.directory / "stuck").exists():  # noqa: ASYNC110 - another process makes it
            await anyio.sleep(0.005)

    def withhold(self, closure: str) -> Callable[[], None]:
        delivered, away = self.store / closure, self.store / f".{closure}"
        delivered.rename(away)

        def deliver() -> None:
            away.rename(delivered)

        return deliver

    def spoil(self, closure: str) -> None:
        (self.store / closure).write_text("another\n")


NAMES = ("current", "prepare", "switch")
