"""What a guide imports is public: it is in a package's front, or docs/reference/stability.md names its module."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks_of

FRONTS = {
    "nixfleet",
    "nixfleet_proto",
    "nixfleet_state_machine",
    "nixfleet_release",
    "nixfleet_secrets",
}
PUBLIC = FRONTS | set(
    re.findall(
        r"`(nixfleet_\w+(?:\.\w+)+)`", (DOCS / "reference" / "stability.md").read_text("utf-8")
    )
)
PARTS_OF_TESTING = {
    f"nixfleet_testing.{part}" for part in ("explore", "fleet_in_memory", "machines", "strategies")
}
EMBEDDING = (DOCS / "how-to" / "embedding.md").read_text("utf-8")
CONTRACTS = set(re.findall(r"`(nixfleet_testing\.contracts\.\w+)\.\w+`", EMBEDDING))


def imports_of(page: Path) -> set[tuple[str, str]]:
    """Return module and name of each import from a package of ours, in the Python blocks of `page`."""
    found = set[tuple[str, str]]()
    for block in blocks_of(page.read_text("utf-8")):
        if block.language == "python" and "from nixfleet" in block.text:
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nixfleet"):
                    found |= {(node.module or "", alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("page", sorted(DOCS.glob("how-to/*.md")), ids=lambda page: page.stem)
def test_what_a_guide_imports_is_public(page: Path) -> None:
    """Every import of a guide is of a name that exists, in a module that keeps its names."""
    for module, name in imports_of(page):
        assert module in PUBLIC | PARTS_OF_TESTING | CONTRACTS, f"{page.name} imports from {module}"
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_a_module_that_is_promised_exists(module: str) -> None:
    """What the page of promises names can be imported."""
    importlib.import_module(module)
