"""Nothing is tested under `python -O`: there a test that should fail passes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("test", "what"),
    [
        ("tests/test_links.py", "the tests of nixfleet"),
        ("property_tests/test_scopes_laws.py", "the tests of nixfleet"),
    ],
)
def test_the_suite_refuses_to_run_without_assertions(test: str, what: str) -> None:
    """pytest ends with a usage error that names what was refused, and runs nothing."""
    done = _optimized("-m", "pytest", "-n", "0", test)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{what} cannot run under `python -O`" in done.stderr


def test_importing_a_contract_without_assertions_is_refused() -> None:
    """An implementer's suite stops where it imports a contract."""
    done = _optimized("-c", "import nixfleet_testing.contracts.journal")

    assert done.returncode != 0
    assert "the contracts of nixfleet_testing cannot run under `python -O`" in done.stderr


def _optimized(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-O", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
