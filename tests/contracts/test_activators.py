"""Our activators keep the contract of an activator."""

from pathlib import Path

from nixfleet_testing.contracts.activator import ActivatorContract
from tests.contracts.command_machine import CommandMachine
from tests.contracts.machines import DirectoryMachine, NixosMachine


class TestDirectoryActivator(ActivatorContract):
    """Closures that are directories, with real scripts."""

    def make_machine(self, directory: Path) -> DirectoryMachine:
        """Return a store and a profile in `directory`."""
        return DirectoryMachine(directory)


class TestNixosActivator(ActivatorContract):
    """NixOS systems, with NixOS's programs replaced."""

    def make_machine(self, directory: Path) -> NixosMachine:
        """Return a machine whose files are in `directory`."""
        return NixosMachine(directory)


class TestCommandActivator(ActivatorContract):
    """An operator's own commands, as real processes."""

    def make_machine(self, directory: Path) -> CommandMachine:
        """Return a machine whose files are in `directory`."""
        return CommandMachine(directory)


class TestCommandActivatorUnderTrio(TestCommandActivator):
    """The same under trio."""

    backend = "trio"


class TestDirectoryActivatorUnderTrio(TestDirectoryActivator):
    """The same under trio."""

    backend = "trio"


class TestNixosActivatorUnderTrio(TestNixosActivator):
    """The same under trio."""

    backend = "trio"
