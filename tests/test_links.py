"""The links and the paths that pages and docstrings give exist: files, and the headings within them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")
PATH = re.compile(r"`([^`\s]+\.(?:py|md|toml|txt))`")
PAGE_IN_CODE = re.compile(r"\bdocs/[\w./-]*\.(?:md|json|svg)\b")
FOLDERS = (
    *(
        "benchmarks",
        "docs",
        "examples",
        "property_tests",
        "requirements",
        "runtimes",
        "tests",
        "tools",
    ),
    *(folder.name for folder in sorted(ROOT.glob("nixfleet*"))),
)
FILES = (
    *(file for file in ROOT.iterdir() if file.is_file()),
    *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()),
)
SOURCES = tuple(file for file in FILES if file.suffix == ".py" and file != Path(__file__))


def links_of(page: str) -> Iterator[tuple[str, str]]:
    """Yield the file and the heading of each relative link; empty where the link does not say."""
    for link in LINK.findall(CODE.sub("", FENCED.sub("", page))):
        if not ELSEWHERE.match(link):
            file, _, heading = link.partition("#")
            yield file, heading


def headings_of(page: str) -> set[str]:
    """Return what links call the headings of a page: lower case, a hyphen for each space, nothing but words."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(FENCED.sub("", page))
    }


def absent_paths_of(page: str, files: Iterable[Path]) -> list[str]:
    """Return the paths in backticks that no file has: each is whole or a suffix, and may have wildcards.

    A bare name may also be a file that the page's own examples write or read.
    """
    examples = " ".join(FENCED.findall(page))
    return [
        path
        for path in PATH.findall(FENCED.sub("", page))
        if not any(file.match(path.removeprefix("…/")) for file in files)
        and ("/" in path or path not in examples)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_relative_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    """Every relative link names a file, and where it names a heading the file has it."""
    text = page.read_text(encoding="utf-8")
    for file, heading in links_of(text):
        there = page.parent / file if file else page
        assert there.exists(), f"{page}: {file}"
        assert not heading or heading in headings_of(there.read_text(encoding="utf-8")), heading


# The changelog also tells of files that were renamed or deleted since.
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_a_path_in_backticks_is_a_file_of_the_repository(page: Path) -> None:
    """Every path of a page names a file, from the root or by its last parts."""
    assert absent_paths_of(page.read_text(encoding="utf-8"), FILES) == []


def test_a_page_that_the_code_refers_to_is_there() -> None:
    """Every `docs/…` in a docstring, a comment or a message of a Python file names a file."""
    named = {
        (page, str(source.relative_to(ROOT)))
        for source in SOURCES
        for page in PAGE_IN_CODE.findall(source.read_text(encoding="utf-8"))
    }

    assert len(named) > 20
    assert sorted(it for it in named if not (ROOT / it[0]).exists()) == []


def test_a_path_is_found_by_its_last_parts() -> None:
    """A whole path, a suffix and a wildcard are found; what is only the end of a name is not."""
    files = [ROOT / "nixfleet_proto" / "codec" / "quick.py"]
    page = "`nixfleet_proto/codec/quick.py` `codec/quick.py` `quick.py` `codec/*.py` `ick.py` `a/own.py`"

    assert absent_paths_of(page, files) == ["ick.py", "a/own.py"]


def test_a_bare_name_may_be_a_file_of_the_examples() -> None:
    """`own.py` is in the example, `other.py` is nowhere."""
    assert absent_paths_of("`own.py` `other.py`\n```\npython own.py\n```\n", []) == ["other.py"]


def test_a_page_is_read_as_its_readers_see_it() -> None:
    """A link in code is none, one to another site is not ours, and one may name a heading alone."""
    page = "[a](b.md#c-d) `[e](f.md)` [g](https://h.example) [i](#j)\n```\n# m\n[k](l.md)\n```\n# Sealed, `too`\n"
    assert list(links_of(page)) == [("b.md", "c-d"), ("", "j")]
    assert headings_of(page) == {"sealed-too"}
