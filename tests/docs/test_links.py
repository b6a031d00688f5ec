"""Links lead somewhere: from page to page, and from the sources to the pages and sections that they name."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")]
PAGES = [*TOP, *sorted(ROOT.glob("docs/**/*.md"))]
SOURCES = [
    *(it.name for it in ROOT.glob("nixfleet*") if it.is_dir()),
    *("runtimes", "tests", "property_tests", "examples", "benchmarks", "tools"),
]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")
REFERENCE = re.compile(r"\b(docs/[\w/-]+\.(?:md|json|svg))(?:, ([^;\"]+))?")


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
def test_a_relative_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    """Every relative link of a page can be followed."""
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


def references_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield each page that a source names, and what follows it after a comma: a section, then anything."""
    joined = re.sub(r"\s*\n\s*(?:# |-- )?", " ", source)
    yield from REFERENCE.findall(joined)


def sources() -> Iterator[Path]:
    """Yield every source of the project but this one, whose references lead nowhere on purpose."""
    for room in SOURCES:
        for kind in ("*.py", "*.sql", "*.toml"):
            yield from (it for it in sorted((ROOT / room).rglob(kind)) if it != Path(__file__))


def problem_of(page: str, following: str) -> str | None:
    """Return what is wrong with the reference, `None` if it leads to a page, and in the specification to a section."""
    if not (ROOT / page).exists():
        return f"{page} does not exist"
    if page.startswith("docs/spec/") and following and not following.startswith(_sections(page)):
        return f"{page} has no section {following[:40]!r}; it has {', '.join(_sections(page))}"
    return None


@cache
def _sections(page: str) -> tuple[str, ...]:
    headings = HEADING.findall(FENCED.sub("", (ROOT / page).read_text(encoding="utf-8")))
    return tuple(heading.replace("`", "") for heading in headings)


def test_every_page_and_section_that_a_source_names_exists() -> None:
    """`Source: docs/spec/wire.md, Limits` leads to a heading `Limits`, in every file that says such a thing."""
    problems = []
    references = 0
    for source in sources():
        for page, following in references_of(source.read_text(encoding="utf-8")):
            references += 1
            problem = problem_of(page, following)
            if problem:
                problems.append(f"{source.relative_to(ROOT)}: {problem}")

    assert not problems, "\n".join(problems)
    assert references > 150


def test_a_reference_that_leads_nowhere_is_a_problem() -> None:
    """A page or a section that does not exist is named; a section may be wrapped over two lines of a comment."""
    source = "# Source: docs/spec/wire.md, POST\n# /v1/enroll; docs/spec/none.md, X; docs/spec/wire.md, Nothing."
    there, no_page, no_section = references_of(source)

    assert there == ("docs/spec/wire.md", "POST /v1/enroll")
    assert problem_of(*there) is None
    assert problem_of(*no_page) == "docs/spec/none.md does not exist"
    assert "no section 'Nothing.'" in str(problem_of(*no_section))
