"""The fenced blocks of a page, with the lines they are on, and the comparison of output with what a page shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

DOCS: Final = Path(__file__).parents[2] / "docs"
ANYTHING: Final = "…"
"""Stands in shown output for what differs from run to run."""


@frozen
class Block:
    """A fenced block. line: of its first line of content, counted from 1. shown_output: the `text` block after it."""

    language: str
    line: int
    text: str
    shown_output: str | None = None


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of `page` in their order; each `text` block belongs to the block before it."""
    waiting: Block | None = None
    for block in _fenced(page):
        if block.language == "text" and waiting is not None:
            yield Block(waiting.language, waiting.line, waiting.text, block.text)
            waiting = None
            continue
        if waiting is not None:
            yield waiting
        waiting = block
    if waiting is not None:
        yield waiting


def _fenced(page: str) -> Iterator[Block]:
    language, begin, lines = "", 0, list[str]()
    for number, line in enumerate(page.splitlines(keepends=True), 1):
        fence = re.fullmatch(r"```(.*)\n?", line)
        if fence is None:
            lines.append(line)
        elif begin:
            yield Block(language, begin, "".join(lines))
            begin = 0
        else:
            language, begin, lines = fence[1], number + 1, []


def is_shown(shown: str, found: str) -> bool:
    """Return whether `found` is what a page shows; `…` stands for anything."""
    pattern = ".*".join(map(re.escape, shown.strip().split(ANYTHING)))
    return re.fullmatch(pattern, found.strip(), re.DOTALL) is not None
