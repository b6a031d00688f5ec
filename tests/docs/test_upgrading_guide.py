"""The commands of docs/how-to/upgrading.md are run, in their order, on files of version 1, and say what it shows."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks_of, is_shown
from tests.upgrades.test_samples import SAMPLES

PAGE = (DOCS / "how-to" / "upgrading.md").read_text("utf-8")
COMMANDS = [block for block in blocks_of(PAGE) if block.language == "sh"]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A directory with a control plane's database and an agent's journal, both of version 1."""
    for name, sample in (("control-plane.db", "database-1"), ("journal.db", "journal-1")):
        content = (SAMPLES / f"{sample}.sqlite.gz").read_bytes()
        (tmp_path / name).write_bytes(gzip.decompress(content))
    return tmp_path


def test_the_commands_of_the_page_do_what_it_says(machine: Path) -> None:
    """All of them, in one life of the two files; at the end the first version is there again."""
    before = (machine / "control-plane.db").read_bytes()
    for block in COMMANDS:
        found = _run(block, machine)
        if block.shown_output is not None:
            assert is_shown(block.shown_output, found), f"line {block.line}: {found}"
    assert len(COMMANDS) >= 5
    after = (machine / "control-plane.db").read_bytes()
    assert len(after) == len(before)
    assert not (machine / "control-plane.db-wal").exists()


def _run(block: Block, directory: Path) -> str:
    # No service runs here.
    script = f"set -e\nsystemctl() {{ :; }}\n{block.text}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"line {block.line}: {done.stderr}"
    return done.stdout
