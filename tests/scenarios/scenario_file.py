"""A scenario file: comments, and blocks of commands, `----` and output; read, run, and written with what was found.

A block ends at a blank line. Commands stand on lines of their own, or on one line with ` | ` between them.
"""

from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from nixfleet_testing.fleet_in_memory import FleetError, InMemoryFleet
from tests.scenarios.language import Command, FleetLine, read_command, read_fleet
from tests.scenarios.words import Place, ScenarioError

SEPARATOR = "----"


@frozen
class Block:
    """lines: as they stand in the file. output: what the file says that they print."""

    lines: tuple[str, ...]
    commands: tuple[Command, ...]
    output: tuple[str, ...]


@frozen
class ScenarioFile:
    """One file. header: its comment lines, of which the first says what it documents."""

    header: tuple[str, ...]
    fleet: FleetLine
    fleet_text: str
    blocks: tuple[Block, ...]


def read(path: Path) -> ScenarioFile:
    """Return the file at `path`. Raises: ScenarioError."""
    paragraphs = list(_paragraphs(path.read_text().splitlines()))
    if not paragraphs or not paragraphs[0][1][0].startswith("# "):
        raise ScenarioError(Place(path, 1), "expected a comment that says what the file documents")
    header = tuple(paragraphs.pop(0)[1])
    if not paragraphs:
        raise ScenarioError(Place(path, len(header) + 1), "expected the command fleet")
    line, fleet_lines = paragraphs.pop(0)
    place = Place(path, line)
    try:
        fleet = read_fleet(place, " ".join(fleet_lines))
    except FleetError as error:
        raise ScenarioError(place, str(error)) from error
    blocks = tuple(_read_block(path, line, lines) for line, lines in paragraphs)
    return ScenarioFile(header, fleet, "\n".join(fleet_lines), blocks)


def _paragraphs(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield lines that belong together, with the number of the first."""
    group: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            group.append(line)
        elif group:
            yield number - len(group), group
            group = []


def _read_block(path: Path, first: int, lines: list[str]) -> Block:
    end = lines.index(SEPARATOR) if SEPARATOR in lines else len(lines)
    commands = [
        read_command(Place(path, first + number), text)
        for number, line in enumerate(lines[:end])
        if not line.startswith("#")
        for text in line.split(" | ")
    ]
    return Block(tuple(lines[:end]), tuple(commands), tuple(lines[end + 1 :]))


def text_of(scenario: ScenarioFile) -> str:
    """Return the file as it should be: with the output that its commands have. Raises: ScenarioError."""
    parts = ["\n".join(scenario.header), scenario.fleet_text]
    parts += ["\n".join(lines) for lines in _outputs(scenario)]
    return "\n\n".join(parts) + "\n"


def _outputs(scenario: ScenarioFile) -> Iterator[list[str]]:
    declared = scenario.fleet
    try:
        fleet = InMemoryFleet.of(*declared.channels, offline=declared.offline)
    except FleetError as error:
        raise ScenarioError(declared.place, str(error)) from error
    with fleet:
        for block in scenario.blocks:
            yield [*block.lines, SEPARATOR, *_output(fleet, block)]


def _output(fleet: InMemoryFleet, block: Block) -> list[str]:
    seen = len(fleet.trace)
    printed: list[str] = []
    for command in block.commands:
        try:
            printed += command.step(fleet)
        except FleetError as error:
            raise ScenarioError(command.place, str(error)) from error
    trace = str(fleet.trace[seen:]).splitlines()
    return [line for line in (*trace, *printed) if line] or ["nothing happens"]
