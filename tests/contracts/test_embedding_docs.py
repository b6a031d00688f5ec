"""What `docs/how-to/embedding.md` shows runs as it is shown: the page alone leads to a contract that passes."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "embedding.md").read_text()
SHOWN = dict(re.findall(r"```python\n# ([^\n]+)\n(.*?)```", PAGE, re.DOTALL))
CORRECTED = "image_activator.py, corrected"
STORE_LINES_MAX = 155
IS_FILE = [name for name in SHOWN if name.endswith(".py")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the files that the page shows, and no configuration."""
    for name in IS_FILE:
        (tmp_path / name).write_text(SHOWN[name])
    return tmp_path


def run_pytest(project: Path, file: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-pno:cacheprovider", file]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "file",
    [
        "test_my_applier.py",
        "test_file_journal.py",
        "test_file_store.py",
        "test_queue_transport.py",
        "test_my_rows.py",
    ],
)
def test_what_the_page_shows_passes_its_contract(project: Path, file: str) -> None:
    """Files with the names and the contents that the page gives, and pytest, are all that it takes."""
    exit_code, said = run_pytest(project, file)

    assert exit_code == 0, said


def test_the_store_is_short() -> None:
    """A whole store is a page and a half of code."""
    lines = [line for line in SHOWN["file_store.py"].splitlines() if line.strip()]

    assert len(lines) < STORE_LINES_MAX


def test_the_activator_with_a_bug_fails_as_the_page_says(project: Path) -> None:
    """One test fails, and says what the page says that it says."""
    exit_code, said = run_pytest(project, "test_image_activator.py")

    shown = re.findall(r"```\n(FAILED .*?)\nAssertionError: (.*?)```", PAGE, re.DOTALL)
    ((failed, message),) = shown
    assert exit_code == 1, said
    assert failed in said
    assert said.count("FAILED ") == 1
    assert " ".join(message.split()) in said


def test_the_corrected_activator_passes(project: Path) -> None:
    """With the method that the page gives instead, nothing fails."""
    buggy = SHOWN["image_activator.py"]
    begin, end = buggy.index("    async def switch"), buggy.index("    async def rollback")
    corrected = f"{buggy[:begin]}{SHOWN[CORRECTED]}\n{buggy[end:]}"
    (project / "image_activator.py").write_text(corrected)
    exit_code, said = run_pytest(project, "test_image_activator.py")

    assert exit_code == 0, said


def test_the_code_of_the_page_passes_the_type_checker(project: Path) -> None:
    """What is shown is typed as strictly as everything else here."""
    command = [sys.executable, "-m", "mypy", "--strict", *IS_FILE]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_each_codec_of_the_table_is_where_it_says() -> None:
    """Every function that the table of codecs names is in the module of its row, or in that of the row above."""
    begin = PAGE.index("| of | encode, decode | from |")
    rows = PAGE[begin:].partition("\n\n")[0].splitlines()[2:]
    module, names = "", set[str]()
    for _, _, functions, place, _ in (row.split("|") for row in rows):
        module = next(iter(re.findall(r"`(nixfleet_[a-z_.]+)`", place)), module)
        of_row = set(re.findall(r"`([a-z_]+)(?:\([^`]*)?`", functions)) - {"commit", "str"}
        missing = {name for name in of_row if not hasattr(importlib.import_module(module), name)}
        assert missing == set(), module
        names |= of_row

    assert len(names) == 19


def test_each_contract_of_the_table_is_where_it_says() -> None:
    """Every dotted name of the first table leads to something."""
    names = re.findall(r"`(nixfleet_[a-z_.]+\.[A-Z]\w+)`", PAGE)

    assert len(names) >= 16
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute), name
