"""Every reference to the specification names a page and a section of it that exist.

A reference is `docs/spec/<page>.md`, or `docs/spec/<page>.md, <Section>` with the heading as the page has it; several
sections of one page are joined by ", " or " and ".
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.test_links import FENCED, HEADING, ROOT, SOURCES

SPEC = ROOT / "docs" / "spec"
REFERENCES_MIN = 100
REFERENCE = re.compile(r"docs/spec/([\w-]+)\.md")
# A section begins with a capital; what goes on in lower case is the sentence around the reference.
SECTION = re.compile(r"(?:, | and )(?=[A-Z])")
LINE_BREAK = re.compile(r"\s*\n[ \t]*(?:# ?)?")


def sections_of(page: str) -> list[str]:
    """Return the headings of a page without backticks, the longest first."""
    headings = HEADING.findall(FENCED.sub("", page))
    return sorted((heading.replace("`", "").strip() for heading in headings), key=len, reverse=True)


def absent_references_of(code: str, pages: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the references of `code` to pages or sections that are not in `pages`, which has the sections of each."""
    text = LINE_BREAK.sub(" ", code.replace("`", ""))
    for reference in REFERENCE.finditer(text):
        name = reference[1]
        if name not in pages:
            yield reference[0]
            continue
        end = reference.end()
        while (joint := SECTION.match(text, end)) is not None:
            rest = text[joint.end() :]
            named = next(
                (it for it in pages[name] if re.match(rf"{re.escape(it)}(?!\w)", rest)), None
            )
            if named is None:
                yield f"{reference[0]}, {rest.split(maxsplit=1)[0]}"
                break
            end = joint.end() + len(named)


def test_every_reference_names_a_page_and_a_section_that_exist() -> None:
    """Each `docs/spec/<page>.md, <Section>` of a Python file leads to a heading of that page."""
    pages = {page.stem: sections_of(page.read_text(encoding="utf-8")) for page in SPEC.glob("*.md")}
    references = 0
    absent: list[str] = []
    for source in SOURCES:
        if source == Path(__file__):
            continue
        code = source.read_text(encoding="utf-8")
        references += len(REFERENCE.findall(code))
        absent += (f"{source.relative_to(ROOT)}: {it}" for it in absent_references_of(code, pages))

    assert absent == []
    assert references >= REFERENCES_MIN or not SPEC.exists()


def test_a_reference_to_an_absent_page_or_section_is_found() -> None:
    """Pages, sections, several sections and broken lines are read; what a sentence goes on with is no section."""
    pages = {"wire": ["POST /v1/enroll", "Hosts and Keys", "Hosts", "Operators"]}
    code = """
    Source: SPEC/wire.md, `POST /v1/enroll`; SPEC/wire.md, Hosts and Operators.

    As SPEC/wire.md, in one place for both. SPEC/wire.md, Hosts and
    Keys: so. SPEC/wire.md.
    # SPEC/wire.md,
    # Operators
    SPEC/gone.md, Hosts. SPEC/wire.md, Hostsmen. SPEC/wire.md, Hosts, Anchors.
    """
    absent = absent_references_of(code.replace("SPEC", "docs/spec"), pages)

    assert [it.removeprefix("docs/spec/") for it in absent] == [
        "gone.md",
        "wire.md, Hostsmen.",
        "wire.md, Anchors.",
    ]
