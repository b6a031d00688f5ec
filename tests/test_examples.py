"""The examples run, and print what the documentation says they do."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def printed_by(example: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / example], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_pure_step_example_prints_what_the_readme_shows() -> None:
    """The README shows the example to the letter, and its output."""
    readme = (ROOT / "README.md").read_text()
    code = (ROOT / "examples" / "pure_step.py").read_text().split('"""\n\n', 1)[1]
    assert code in readme
    assert printed_by("pure_step.py") in readme


def test_the_fleet_in_python_says_what_each_web_server_lives_by() -> None:
    """One check of the tag and one of the fleet, on each of the three."""
    assert printed_by("fleet_in_python.py").splitlines() == [
        f"web-0{number}: health_checks.{check}"
        for number in (1, 2, 3)
        for check in ("http-ok from tag web", "system-is-up from fleet")
    ]


def test_an_own_applier_carries_a_host_to_converged() -> None:
    """An embedder's applier of under 80 lines takes one host through a whole rollout."""
    output = printed_by("own_applier.py").splitlines()
    assert output == [
        "01:00 web-01: Pending -> Activating",
        "01:00 web-01: Activating -> Soaking",
        "01:10 web-01: Soaking -> Converged",
        "4 facts sent; web-01 runs 'new'",
    ]
    assert len((ROOT / "examples" / "own_applier.py").read_text().splitlines()) < 80


def test_the_device_fleet_prints_what_its_readme_shows() -> None:
    """Two tills run an app; its second version fails on one of them, and a camera reads nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.device_fleet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout in (ROOT / "examples/device_fleet/README.md").read_text()
    assert len(done.stdout.splitlines()) == 3


def test_the_device_fleet_has_fewer_than_400_lines_of_code() -> None:
    """Its README says so: without the demonstration, imports, docstrings, comments and blank lines."""
    modules = [
        path
        for path in (ROOT / "examples" / "device_fleet").glob("*.py")
        if path.name != "__main__.py"
    ]
    assert len(modules) >= 8
    assert sum(map(lines_of_code, modules)) < 400


def lines_of_code(path: Path) -> int:
    text = path.read_text()
    other: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            is_text and isinstance(node, ast.stmt)
        ):
            other.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        number not in other and bool(line.strip()) and not line.strip().startswith("#")
        for number, line in enumerate(text.splitlines(), 1)
    )
