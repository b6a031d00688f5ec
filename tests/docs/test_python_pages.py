"""Pages that are one Python program are true: their blocks run in their order, and print what the page shows."""

import contextlib
import io
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks_of, is_shown

PAGES = {
    DOCS / "tutorials" / "first-rollout.md": 8,
    DOCS / "how-to" / "embedding-the-planner.md": 6,
    DOCS / "reference" / "api" / "nixfleet.md": 1,
}
"""Each page, and how many Python blocks it has at least."""


def run(page: Path, block: Block, names: dict[str, object]) -> str:
    """Run a block among the names of those before it, and return what it printed.

    A traceback names the page and the line.
    """
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_the_page_runs_and_prints_what_it_shows(page: Path) -> None:
    """Typed one after the other, the blocks print what the page shows after each."""
    blocks = [block for block in blocks_of(page.read_text("utf-8")) if block.language == "python"]
    assert len(blocks) >= PAGES[page]

    names: dict[str, object] = {}
    for block in blocks:
        printed = run(page, block, names)
        assert is_shown(block.shown_output or "", printed), (
            f"{page}:{block.line}: printed\n{printed}"
        )
