"""What a source names of the documentation exists: `Source: docs/spec/wire.md, Limits` leads to a heading `Limits`."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(folder.name for folder in ROOT.glob("nixfleet*") if folder.is_dir()),
    *("runtimes", "tests", "property_tests", "examples", "benchmarks", "tools"),
]
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
REFERENCE = re.compile(r"\b(docs/[\w/-]+\.(?:md|json|svg))(?:, ([^;\"]+))?")


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
    headings = HEADING.findall((ROOT / page).read_text(encoding="utf-8"))
    return tuple(heading.replace("`", "") for heading in headings)


def test_every_page_and_section_that_a_source_names_exists() -> None:
    """Every reference in every source leads to a page, and in the specification to a section."""
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
