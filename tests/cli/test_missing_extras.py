"""What the command says where the libraries of an extra are not installed: one line that names the extra."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from nixfleet_cli.shared.extras import EXTRA_OF

ROOT = Path(__file__).parents[2]
# An interpreter in which some modules cannot be imported, as where they are not installed.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder


class Without(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Without())
sys.argv = ["nixfleet", *{arguments!r}]
from nixfleet_cli.__main__ import run
run()
"""


def _of(*extras: str) -> set[str]:
    return {module for module, extra in EXTRA_OF.items() if extra in extras}


@pytest.mark.parametrize(
    ("missing", "arguments", "line"),
    [
        (("cli", "runtime", "http"), (), ("nixfleet", "cli")),
        (("cli", "runtime", "http"), ("status", "x.db"), ("nixfleet", "cli")),
        (("runtime", "http"), ("status", "x.db"), ("nixfleet status", "runtime")),
        (("runtime", "http"), ("keys", "new", "x"), ("nixfleet keys", "runtime")),
        (
            ("http",),
            ("control-plane", "run", "--config", "x"),
            ("nixfleet control-plane run", "http"),
        ),
        (("http",), ("agent", "run", "--config", "x"), ("nixfleet agent run", "http")),
        (("http",), ("enroll", "--config", "x"), ("nixfleet enroll", "http")),
        (("http",), ("openapi",), ("nixfleet openapi", "http")),
        (
            ("http",),
            ("operator", "rollouts", "--url", "https://x", "--key", "x"),
            ("nixfleet operator rollouts", "http"),
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_command_without_its_libraries_names_the_extra_on_one_line(
    missing: tuple[str, ...], arguments: tuple[str, ...], line: tuple[str, str]
) -> None:
    """Exit code 2, no traceback, and what to install."""
    code = WITHOUT.format(missing=_of(*missing), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    command, extra = line
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"Error: {command} needs the extra \"{extra}\": pip install 'nixfleet[{extra}]'\n"
    )


@pytest.mark.parametrize("arguments", [("--help",), ("control-plane", "run", "--help")])
def test_help_needs_no_network_libraries(arguments: tuple[str, ...]) -> None:
    """Reading what a command does never asks for an extra of the command."""
    code = WITHOUT.format(missing=_of("http"), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: nixfleet" in done.stdout


def test_every_library_of_an_extra_is_known_by_the_module_that_it_brings() -> None:
    """The table of modules is that of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        _name(requirement): extra
        for extra in ("runtime", "http", "nats", "postgres", "testing", "cli")
        for requirement in project["optional-dependencies"][extra]
        if not requirement.startswith("nixfleet[")
    }
    modules = packages_distributions()
    found = {_name(modules[module][0]): extra for module, extra in EXTRA_OF.items()}
    assert found == declared


def _name(requirement: str) -> str:
    for end, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_."):
            return requirement[:end].lower().replace("_", "-")
    return requirement.lower().replace("_", "-")


@pytest.mark.parametrize("argument", ["--version", "--help", "-h"])
def test_version_and_help_need_no_extra(argument: str) -> None:
    """A plain install says which version it is, and that the commands need an extra."""
    code = WITHOUT.format(missing=_of("cli", "runtime", "http"), arguments=(argument,))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nixfleet " if argument == "--version" else "Usage: nixfleet")
    assert ("pip install 'nixfleet[cli]'" in done.stdout) is (argument != "--version")


def test_the_command_runs_as_the_module_of_the_front_door() -> None:
    """`python -m nixfleet` is the command."""
    done = subprocess.run(
        [sys.executable, "-m", "nixfleet", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nixfleet ")
