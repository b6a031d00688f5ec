"""Rewrite the output in every scenario file (or in those that are named): `python -m tests.scenarios.rewrite`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.scenarios.scenario_file import read, text_of
from tests.scenarios.words import ScenarioError

DIRECTORY = Path(__file__).parent


def main(arguments: Sequence[str]) -> int:
    """Rewrite the files, and name those that changed. Returns 1 if one of them has an error, which is printed."""
    paths = [Path(argument) for argument in arguments] or sorted(DIRECTORY.glob("*.txt"))
    errors = 0
    for path in paths:
        try:
            text = text_of(read(path))
        except ScenarioError as error:
            sys.stderr.write(f"{error}\n")
            errors += 1
            continue
        if text != path.read_text():
            path.write_text(text)
            sys.stdout.write(f"rewrote {path}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
