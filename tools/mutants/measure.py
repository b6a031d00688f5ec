"""Plant defects in the core, one at a time, and tell which of them no test notices.

mutmut plants and runs, on a copy of the checkout. What nobody notices must be explained in `explained.toml`, as a
mutant that behaves as the original does. Exit code 0: at least `SCORE_MIN` noticed, and all others explained.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPY = ROOT / "build" / "mutants" / "copy"
MUTMUT = str(Path(sys.executable).with_name("mutmut"))

COPIED = ("nixfleet_*", "tests", "property_tests", "pyproject.toml")
OWN = ("setup.cfg", "conftest.py")
MUTATED = {
    "host": "nixfleet_state_machine/host",
    "rollout": "nixfleet_state_machine/rollout",
    "planner": "nixfleet_state_machine/planner",
    "policy": "nixfleet_proto/policy.py",
}
"""What is mutated, by the part of its module's name that comes after the package."""
NOTICED = ("killed", "timeout")
SCORE_MIN = 95.0


class Mutant(NamedTuple):
    """A function and what differs in it, on one line each."""

    function: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.function}\n    - {self.before}\n    + {self.after}"


def main(arguments: list[str]) -> int:
    """Measure, or only judge the last measurement, and say what came of it."""
    parser = argparse.ArgumentParser(prog="tools/mutants/measure.py")
    parser.add_argument("--judge", action="store_true", help="the last measurement, once more")
    if not parser.parse_args(arguments).judge:
        _copy()
        environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants"}
        command = [MUTMUT, "run", "--max-children", "2"]
        subprocess.run(command, cwd=COPY, env=environment, check=True)
    return _judge(_statuses(), _explained())


# --- the copy --------------------------------------------------------------------------------------


def _copy() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for source in (found for pattern in COPIED for found in ROOT.glob(pattern)):
        if source.is_dir():
            shutil.copytree(
                source, COPY / source.name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(source, COPY)
    for name in OWN:
        shutil.copy(HERE / name, COPY)
    for where in MUTATED.values():
        path = COPY / where
        for file in path.rglob("*.py") if path.is_dir() else (path,):
            file.write_text(_with_plain_properties(file.read_text("utf-8")), "utf-8")


def _with_plain_properties(source: str) -> str:
    """Write each property as a method and `name = property(method)`: mutmut leaves decorated functions alone."""
    lines = source.split("\n")
    for function in reversed([*_properties(ast.parse(source))]):
        decorator = function.decorator_list[0]
        name, indent = function.name, " " * function.col_offset
        assert function.end_lineno is not None
        lines.insert(function.end_lineno, f"{indent}{name} = {ast.unparse(decorator)}(_get_{name})")
        at = function.lineno - 1
        lines[at] = lines[at].replace(f"def {name}(", f"def _get_{name}(")
        del lines[decorator.lineno - 1]
    return "\n".join(lines)


def _properties(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for class_ in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for function in (node for node in class_.body if isinstance(node, ast.FunctionDef)):
            if any(ast.unparse(each).endswith("property") for each in function.decorator_list):
                yield function


# --- what came of it -------------------------------------------------------------------------------


def _statuses() -> Mapping[str, str]:
    """Return what became of each mutant, by its name."""
    lines = _mutmut("results", "--all", "true").splitlines()
    pairs = (line.strip().partition(": ") for line in lines if ": " in line)
    return {name: status for name, _, status in pairs}


def _explained() -> Mapping[Mutant, str]:
    text = HERE.joinpath("explained.toml").read_text("utf-8")
    return {
        Mutant(entry["function"], entry["before"], after): entry["why"]
        for entry in tomllib.loads(text)["explained"]
        for after in entry["after"]
    }


def _judge(statuses: Mapping[str, str], explained: Mapping[Mutant, str]) -> int:
    all_of = Counter(_package(name) for name in statuses)
    noticed_of = Counter(_package(name) for name in statuses if statuses[name] in NOTICED)
    for package in MUTATED:
        _say(f"{package:8} {_score(noticed_of[package], all_of[package])}")
    _say(f"{'all':8} {_score(noticed_of.total(), all_of.total())}")

    unnoticed = {_mutant(name) for name in statuses if statuses[name] not in NOTICED}
    unexplained = sorted(unnoticed - explained.keys())
    # On a busy machine one that behaves as the original does may run out of time.
    late = {_mutant(name) for name in statuses if statuses[name] == "timeout"}
    stale = sorted(explained.keys() - unnoticed - late)
    _say(
        f"{len(unnoticed)} different ones were not noticed, {len(unexplained)} without explanation"
    )
    for mutant in unexplained:
        _say(f"  {mutant}")
    for mutant in stale:
        _say(f"explained, but noticed or gone: {mutant}")
    is_enough = 100 * noticed_of.total() >= SCORE_MIN * all_of.total()
    return 0 if is_enough and not unexplained and not stale else 1


def _score(noticed: int, of: int) -> str:
    return f"{noticed} of {of} noticed, {100 * noticed / max(of, 1):.1f} %"


def _package(name: str) -> str:
    return name.split(".")[1]


def _mutant(name: str) -> Mutant:
    """Return the mutant by what it does: its number changes with every edit of the function."""
    module, _, mangled = name.partition("__mutmut_")[0].rpartition(".")
    function = re.sub(r"^x_", "", mangled).replace("xǁ", "").replace("ǁ", ".")
    changed = [
        line for line in _mutmut("show", name).splitlines() if re.match(r"[-+](?![-+])", line)
    ]
    before, after = (
        " ".join(line[1:].strip() for line in changed if line.startswith(sign)) for sign in "-+"
    )
    place = module.removeprefix("nixfleet_state_machine.").removeprefix("nixfleet_proto.")
    return Mutant(f"{place}.{function}", before, after)


def _mutmut(*arguments: str) -> str:
    command = [MUTMUT, *arguments]
    return subprocess.run(command, cwd=COPY, check=True, capture_output=True, text=True).stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
