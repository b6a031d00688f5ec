"""How the tests of pages read a page: blocks with their lines and outputs, and `…` for what differs."""

import pytest

from tests.docs.pages import Block, blocks_of, is_shown

PAGE = "# A\n\n```sh\na\nb\n```\n\nThen:\n\n```text\nc\n```\n\n```python\nd\n```\n```text\ne\n```\n```\nf\n```\n"


def test_a_text_block_is_the_output_of_the_block_before_it() -> None:
    """Blocks come in their order, with the line of their first line; a block without output has none."""
    assert list(blocks_of(PAGE)) == [
        Block("sh", 4, "a\nb\n", "c\n"),
        Block("python", 15, "d\n", "e\n"),
        Block("", 21, "f\n"),
    ]


@pytest.mark.parametrize(
    ("shown", "found", "expected"),
    [
        ("a 1\n", "a 1\n", True),
        ("a 1\n", "a 2\n", False),
        ("a …\nc", "a 2\nb\nc\n", True),
        ("…c", "c\n", True),
        ("a.c", "abc", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_an_ellipsis_stands_for_anything_and_everything_else_for_itself(
    shown: str, found: str, expected: bool
) -> None:
    """What a page shows is compared to the letter, except around `…`."""
    assert is_shown(shown, found) is expected
