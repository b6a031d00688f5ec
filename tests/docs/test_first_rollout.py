"""docs/tutorials/first-rollout.md is true: its Python blocks run in their order, and print what the page shows."""

import contextlib
import io

from tests.docs.pages import DOCS, Block, blocks_of, is_shown

PAGE = DOCS / "tutorials" / "first-rollout.md"


def run(block: Block, names: dict[str, object]) -> str:
    """Run a block among the names of those before it, and return what it printed.

    A traceback names the page and the line.
    """
    code = compile("\n" * (block.line - 1) + block.text, str(PAGE), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def test_every_block_of_the_page_runs_and_prints_what_it_shows() -> None:
    """Typed one after the other, the blocks tell the story of the page."""
    blocks = [block for block in blocks_of(PAGE.read_text("utf-8")) if block.language == "python"]
    assert len(blocks) >= 8

    names: dict[str, object] = {}
    for block in blocks:
        printed = run(block, names)
        assert is_shown(block.shown_output or "", printed), (
            f"{PAGE}:{block.line}: printed\n{printed}"
        )
