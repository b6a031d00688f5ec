"""Fleets to declare in tests: written as TOML, for that is what people write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_release import CheckedFleet, DeclarationError, Problem, check

# Three hosts, two waves; nothing wrong with it.
SHOP = """
[hosts.web-01]
channel = "stable"
tags = ["web", "canary"]

[hosts.web-02]
channel = "stable"
tags = ["web"]

[hosts.db-01]
channel = "stable"
tags = ["db"]

[channels.stable]
policy = "canary-first"

[[policies.canary-first.waves]]
selector = { tags = ["canary"] }
soak_minutes = 5

[[policies.canary-first.waves]]
rest = true
"""


@pytest.fixture
def shop() -> str:
    """A small fleet, as text to add mistakes to."""
    return SHOP


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[str], CheckedFleet]:
    """Checks a declaration that is given as text."""

    def check_text(text: str) -> CheckedFleet:
        path = tmp_path / "fleet.toml"
        path.write_text(text, encoding="utf-8")
        return check(path)

    return check_text


@pytest.fixture
def problems(checked: Callable[[str], CheckedFleet]) -> Callable[[str], tuple[Problem, ...]]:
    """Finds the problems of a declaration that is given as text."""

    def problems_of(text: str) -> tuple[Problem, ...]:
        try:
            checked(text)
        except DeclarationError as error:
            return error.problems
        return ()

    return problems_of
