"""The API reference shows what it should: `make docs` renders it, and this finds what would be missing from it."""

import importlib
import re

import pytest

from tests.docs.pages import DOCS

PAGES = sorted((DOCS / "reference" / "api").glob("nixfleet*.md"))
DIRECTIVE = re.compile(r"^\.\. auto(module|class):: (\S+)$", re.MULTILINE)
SHOWN = [found for page in PAGES for found in DIRECTIVE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize("package", [page.stem for page in PAGES])
def test_a_page_shows_the_package_that_it_is_named_after(package: str) -> None:
    """The first directive of a page is the package itself, or a part of it."""
    page = DOCS / "reference" / "api" / f"{package}.md"
    first = DIRECTIVE.search(page.read_text("utf-8"))

    assert first is not None
    assert first[2].split(".")[0] == package


@pytest.mark.parametrize(("kind", "name"), SHOWN)
def test_what_a_page_shows_exists(kind: str, name: str) -> None:
    """A directive names a module, or a class in one."""
    if kind == "class":
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), attribute), type)
    else:
        importlib.import_module(name)


@pytest.mark.parametrize("part", ["explore", "fleet_in_memory", "machines", "strategies"])
def test_each_part_of_the_test_support_is_shown(part: str) -> None:
    """A part of `nixfleet_testing` with public names is in the reference."""
    assert ("module", f"nixfleet_testing.{part}") in SHOWN
