"""What an installed entry point does to a process that imports Hypothesis, seen in fresh interpreters."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRY_POINT = "nixfleet_testing.plugin:register_types"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory that tells Hypothesis of the entry point, as an installed wheel does."""
    info = tmp_path / "told-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: told\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[hypothesis]\nnixfleet = {ENTRY_POINT}\n")
    return tmp_path


def printed(code: str, installed: Path) -> str:
    prelude = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(installed)!r}]\n"
    # Development mode off and warnings as they are: an example drawn outside a test warns.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", prelude + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DRAW = "print(type(st.from_type(HostRolloutState).example()).__name__)"
TYPE = "from nixfleet_state_machine.host.state import HostRolloutState\n"
HYPOTHESIS = "from hypothesis import strategies as st\n"


@pytest.mark.parametrize("imports", [HYPOTHESIS + TYPE, TYPE + HYPOTHESIS], ids=["after", "before"])
def test_a_type_imported_before_or_after_hypothesis_is_known(imports: str, installed: Path) -> None:
    """`st.from_type` draws a record though nothing but its type was imported."""
    check = 'print("nixfleet_testing.strategies" in sys.modules)\n'
    assert printed(imports + check + DRAW, installed) == "False\nHostRolloutState"


def test_importing_hypothesis_imports_nothing_of_the_library(installed: Path) -> None:
    """Hypothesis is told names; no module of the library is loaded for that."""
    code = HYPOTHESIS + (
        "print(sorted(name for name in sys.modules if name.startswith('nixfleet')))"
    )
    assert printed(code, installed) == "['nixfleet_testing', 'nixfleet_testing.plugin']"


def test_a_strategy_that_a_user_registers_stays_in_force(installed: Path) -> None:
    """Ours are fetched when first needed, and do not replace what was registered meanwhile."""
    code = (
        HYPOTHESIS
        + TYPE
        + "st.register_type_strategy(HostRolloutState, st.just('mine'))\n"
        + "import nixfleet_testing.strategies\n"
        + "print(st.from_type(HostRolloutState).example())"
    )
    assert printed(code, installed) == "mine"


def test_a_watched_module_keeps_its_own_loader(installed: Path) -> None:
    """Tracebacks, coverage and `inspect` find the source as if nobody had watched."""
    code = (
        HYPOTHESIS
        + "import nixfleet_proto.ids as module, inspect\n"
        + "print(type(module.__loader__).__name__, type(module.__spec__.loader).__name__)\n"
        + "print(inspect.getsource(module).splitlines()[0][:14])"
    )
    lines = printed(code, installed).splitlines()
    assert lines == ["SourceFileLoader SourceFileLoader", '"""Identifiers']


def test_the_distribution_declares_the_entry_point() -> None:
    """What these tests plant is what the wheel installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["hypothesis"] == {"nixfleet": ENTRY_POINT}
