"""Every relative link of the pages leads somewhere: to a file that is there, and to a heading that it has."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_relative_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    """Who follows a link arrives."""
    text = page.read_text(encoding="utf-8")
    for file, heading in links_of(text):
        there = page.parent / file if file else page
        assert there.exists(), f"{page}: {file}"
        assert not heading or heading in headings_of(there.read_text(encoding="utf-8")), heading


def test_a_page_is_read_as_its_readers_see_it() -> None:
    """A link in code is none, one to another site is not ours, and one may name a heading alone."""
    page = "[a](b.md#c-d) `[e](f.md)` [g](https://h.example) [i](#j)\n```\n# m\n[k](l.md)\n```\n# Sealed, `too`\n"
    assert list(links_of(page)) == [("b.md", "c-d"), ("", "j")]
    assert headings_of(page) == {"sealed-too"}
