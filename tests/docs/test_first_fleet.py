"""docs/tutorials/first-fleet.md is true: every block runs, in its order, in one shell, and prints what is shown."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nixfleet_cli.shared.clock_option import clock_arguments
from nixfleet_runtime.kernel.clock import SystemClock
from tests.docs.pages import DOCS, Block, blocks_of, is_shown

PAGE = DOCS / "tutorials" / "first-fleet.md"
IS_SET_UP = re.compile(r"python3 -m venv venv|\. venv/bin/activate|pip install .*")
"""Lines that make the environment in which this test runs already; tests of the wheel run `pip install`."""

SPEED = 30
SECONDS_MAX = 300
_BLOCK = re.compile(r"^@@ (\d+)\n", re.MULTILINE)


def script_of(page: str, port: int) -> str:
    """Return the `sh` blocks of the page as one script, each line where the page has it: bash's errors name it.

    Where a block begins, the script prints its line. The services run on a fast clock, and on a port that is free.
    """
    lines = [""] * (page.count("\n") + 1)
    lines[0] = f"set -eEuo pipefail; trap 'echo \"{PAGE.name}:$LINENO: exit code $?\" >&2' ERR"
    for block in blocks_of(page):
        if block.language == "sh":
            lines[block.line - 2] = f"echo @@ {block.line}"
            for number, line in enumerate(block.text.splitlines(), block.line - 1):
                lines[number] = "" if IS_SET_UP.fullmatch(line) else line
    clock = " ".join(clock_arguments(SPEED, SystemClock().now()))
    text = "\n".join(lines).replace("8080", str(port))
    return re.sub(
        r"^(nixfleet (?:agent|control-plane) run)", rf"\1 {clock}", text, flags=re.MULTILINE
    )


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port: int = some.getsockname()[1]
        return port


@contextmanager
def running(script: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `script` in its directory, and end all that it started."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(script.parent),
    }
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", script.name],
            cwd=script.parent,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield shell
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def output_of(found: str, block: Block) -> str:
    """Return what the block printed, out of the output of the whole script."""
    parts = _BLOCK.split(found)
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True)).get(block.line, "")


def test_every_block_of_the_page_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    """Followed word for word in an empty directory, the page ends with a fleet that went back and forward again."""
    page = PAGE.read_text(encoding="utf-8")
    script, output = tmp_path / "first-fleet.sh", tmp_path / "output"
    script.write_text(script_of(page, free_port()), encoding="utf-8")

    with running(script, output) as shell:
        exit_code = shell.wait(timeout=SECONDS_MAX)

    found = output.read_text(encoding="utf-8")
    assert exit_code == 0, f"{found}\n{logs(tmp_path)}"
    shown = [block for block in blocks_of(page) if block.shown_output is not None]
    assert len(shown) >= 7
    for block in shown:
        printed = output_of(found, block)
        assert is_shown(block.shown_output or "", printed), (
            f"{PAGE}:{block.line}: printed\n{printed}"
        )


def logs(directory: Path) -> str:
    return "\n".join(log.read_text() for log in directory.rglob("first-fleet/*.log"))


def test_a_block_that_fails_is_named_by_page_and_line(tmp_path: Path) -> None:
    """A command that does not end well ends the script, and the message says where on the page it is."""
    script, output = tmp_path / "page.sh", tmp_path / "output"
    script.write_text(script_of("# A page\n\n```sh\ntrue\nfalse\n```\n", port=1))

    with running(script, output) as shell:
        assert shell.wait(timeout=SECONDS_MAX) == 1

    assert output.read_text() == f"@@ 4\n{PAGE.name}:5: exit code 1\n"


def test_what_the_script_leaves_out_is_what_makes_the_environment() -> None:
    """Three lines of one block are not run: the virtual environment, its activation, and the installation."""
    left_out = [
        line
        for block in blocks_of(PAGE.read_text(encoding="utf-8"))
        for line in block.text.splitlines()
        if IS_SET_UP.fullmatch(line)
    ]

    assert left_out[:2] == ["python3 -m venv venv", ". venv/bin/activate"]
    assert [line.split()[:2] for line in left_out[2:]] == [["pip", "install"]]
