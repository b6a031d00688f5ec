"""`[activator]` of kind `command`, read: an operator's own commands. `activation.command` says what they mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_agent.activation.command import CLOSURE, Commands
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import file_to_write
from nixfleet_runtime.documents.problems import quoted

_REQUIRED: Final = ("current", "prepare", "switch")
_ATTEMPT_FILE: Final = "switch.json"


@frozen
class CommandActivatorConfig:
    """The fields are those of `CommandActivator`. within_agent: whether a switch ends with its agent."""

    commands: Commands
    files: str
    attempt_file: Path
    within_agent: bool = False
    agent_unit: str = "nixfleet-agent.service"
    switch_timeout_seconds: float = 600.0
    prepare_timeout_seconds: float = 3600.0
    command_timeout_seconds: float = 120.0
    poll_interval_seconds: float = 2.0


def command_activator(journal: Path | None, section: Section) -> CommandActivatorConfig:
    """Return what `section` configures; its problems are reported there. journal: of the agent, if it is a file."""
    own = {
        name: _command(section, name) for name in (*_REQUIRED, "rollback", "confirm", "answered")
    }
    for name in _REQUIRED:
        section.require(name, "a program and its arguments")
    files = section.text("files", f"/var/lib/nixfleet-agent/files/{CLOSURE}")
    if not files.startswith("/") or CLOSURE not in files:
        section.refuse("files", "cannot be used", f"an absolute path with {CLOSURE}", quoted(files))
    beside = Path("/var/lib/nixfleet-agent/journal.db") if journal is None else journal
    commands = _commands(own)
    default = CommandActivatorConfig(commands, files, beside.with_name(_ATTEMPT_FILE))
    return CommandActivatorConfig(
        commands=commands,
        files=files,
        attempt_file=section.optional_path("attempt_file", file_to_write) or default.attempt_file,
        within_agent=section.flag("within_agent"),
        agent_unit=section.text("agent_unit", default.agent_unit),
        switch_timeout_seconds=section.seconds(
            "switch_timeout_seconds", default.switch_timeout_seconds
        ),
        prepare_timeout_seconds=section.seconds(
            "prepare_timeout_seconds", default.prepare_timeout_seconds
        ),
        command_timeout_seconds=section.seconds(
            "command_timeout_seconds", default.command_timeout_seconds
        ),
        poll_interval_seconds=section.seconds(
            "poll_interval_seconds", default.poll_interval_seconds
        ),
    )


def _commands(own: Mapping[str, tuple[str, ...] | None]) -> Commands:
    current, prepare, switch = (own[name] or () for name in _REQUIRED)
    return Commands(current, prepare, switch, own["rollback"], own["confirm"], own["answered"])


def _command(section: Section, name: str) -> tuple[str, ...] | None:
    words = section.texts(name)
    program = words[0] if words else ""
    if "/" in program and not program.startswith("/"):
        expected = "an absolute path, or the name of a program in PATH, and its arguments"
        section.refuse(name, "is a relative path", expected, quoted(program))
    if words and name in ("prepare", "switch", "rollback") and CLOSURE not in " ".join(words):
        expected = f"{CLOSURE} among the arguments, which names what to {name}"
        section.refuse(name, "names no closure", expected, quoted(" ".join(words)))
    return words
