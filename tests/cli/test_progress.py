"""How far a command is: shown at a terminal, on standard error, and nowhere else."""

import os
import pty
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_cli.shared.output import Output
from nixfleet_cli.shared.progress import progress
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.store.queries import HEAD, open_for_reading
from nixfleet_runtime.process.progress import noting
from tests.cli.conftest import Invoke


def at_a_terminal(*command: str | Path) -> tuple[str, str]:
    """Run the command with standard error at a terminal; return both outputs. The terminal's has its escapes."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "nixfleet_cli", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=follower,
            env=environment,
            text=True,
        ) as process:
            os.close(follower)
            shown = bytearray()
            while piece := _read(leader):
                shown += piece
            assert process.stdout is not None
            said = process.stdout.read()
            assert process.wait() == 0, shown.decode()
    finally:
        os.close(leader)
    return said, shown.decode()


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # Linux, when the last process has closed the other side.
        return b""


def test_a_command_at_a_terminal_shows_how_far_it_is(nixfleet: Invoke, database: Path) -> None:
    """On standard error alone: what it prints is byte for byte what a pipe gets."""
    said, shown = at_a_terminal("log", "verify", database)
    plain = nixfleet("log", "verify", database)
    with closing(open_for_reading(database)) as connection:
        rows = HEAD.of(connection)
    assert "verifying the chain" in shown
    assert f"{rows}/{rows}" in shown
    assert said == plain.stdout
    assert plain.stderr == ""


def test_json_at_a_terminal_has_no_bar(database: Path) -> None:
    """A program reads it, whatever standard error is."""
    said, shown = at_a_terminal("log", "rebuild", "--check", database, "--json")
    assert said.startswith("{")
    assert shown == ""


@pytest.mark.parametrize("length", [0, 1, 4, 5, 11])
def test_all_items_are_noted_and_passed_on(length: int) -> None:
    """Every so many of them, and the rest at the end."""
    noted: list[int] = []
    assert list(noting(range(length), noted.append, every=5)) == list(range(length))
    assert sum(noted) == length
    assert max(noted) <= 5


def test_every_row_of_a_log_that_is_checked_is_noted(database: Path) -> None:
    """Of the chain and of the replay, so that a bar reaches its end."""
    with closing(open_for_reading(database)) as connection:
        rows = HEAD.of(connection)
        for check in (
            lambda noted: check_chain(connection, noted),
            lambda noted: check_views(connection, noted=noted),
        ):
            noted: list[int] = []
            check(noted.append)
            assert sum(noted) == rows > 0


def test_a_bar_that_is_not_shown_takes_everything() -> None:
    """Commands do not ask whether somebody looks."""
    with progress(Output(as_json=True), "working", "rows", 3) as bar:
        bar.noted(2)
        with bar.hidden():
            bar.noted(1)
