"""CHANGELOG.md and the glossary have each entry once: merges of branches that all add lines leave copies."""

import re
from collections import Counter
from pathlib import Path

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text("utf-8")
GLOSSARY = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text("utf-8")
UNRELEASED = CHANGELOG.split("## Unreleased\n")[1].split("\n## ")[0]


def repeated(found: list[str]) -> list[str]:
    """Return what is in `found` more than once."""
    return [name for name, count in Counter(found).items() if count > 1]


def test_each_category_is_there_once() -> None:
    """Of the unreleased version, each category has one heading, and is one of Keep a Changelog's."""
    categories = re.findall(r"^### (.+)$", UNRELEASED, re.MULTILINE)

    assert repeated(categories) == []
    assert set(categories) <= {"Security", "Added", "Changed", "Deprecated", "Removed", "Fixed"}


def test_no_entry_begins_as_another_does() -> None:
    """No two entries of the unreleased version have the same first four words."""
    entries = [
        " ".join(line.split()[1:5]) for line in UNRELEASED.splitlines() if line.startswith("- ")
    ]

    assert len(entries) > 30
    assert repeated(entries) == []


def test_the_glossary_explains_each_word_once() -> None:
    """No two entries are about the same word."""
    words = re.findall(r"^- \*\*(.+?)\*\*:", GLOSSARY, re.MULTILINE)

    assert len(words) > 100
    assert repeated(words) == []
