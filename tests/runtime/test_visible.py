"""`visible`: what a text from elsewhere looks like on a terminal and in a log."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nixfleet_runtime.kernel.visible import shortened, visible

HOSTILE = {
    "an escape sequence": ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    "a NUL": ("a\x00b", r"a\x00b"),
    "a forged row": ("ok\n  180  ada pauses", r"ok\x0a  180  ada pauses"),
    "a carriage return": ("ok\rbad", r"ok\x0dbad"),
    "a C1 control": ("\x9b31m", r"\x9b31m"),
    "DEL": ("\x7f", r"\x7f"),
    "bidirectional marks": ("\u200e\u200f\u061c", r"\u200e\u200f\u061c"),
    "overrides": ("\u202a\u202e", r"\u202a\u202e"),
    "isolates": ("\u2066\u2069", r"\u2066\u2069"),
    "separators": ("\u2028\u2029", r"\u2028\u2029"),
    "a zero-width space": ("web\u200b-01", r"web\u200b-01"),
    "half of a surrogate pair": ("\ud800", r"\ud800"),
    "an unassigned character": ("\u0378", r"\u0378"),
    "a tag beyond two bytes": ("\U000e0041", r"\U000e0041"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_each_kind_of_invisible_character_is_shown_by_its_number(text: str, shown: str) -> None:
    """What moves the cursor, ends the line, reorders or hides is spelt out."""
    assert visible(text) == shown


@given(st.text(st.characters()))
@example("\ud800")
def test_a_visible_text_is_one_printable_line(text: str) -> None:
    """Whatever comes in, what goes out can be printed, encoded and read back line by line."""
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


@given(st.text(st.characters()))
def test_showing_twice_is_showing_once(text: str) -> None:
    """Two layers that both escape do no harm."""
    assert visible(visible(text)) == visible(text)


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_printable_text_is_left_as_it_is(text: str) -> None:
    """Letters of any script, accents and symbols are shown as they are."""
    assert visible(text) == text


@given(st.text(st.characters(exclude_characters="…"), max_size=60), st.integers(10, 50))
def test_a_shortened_text_keeps_its_beginning_and_its_end(text: str, length_max: int) -> None:
    """It is never longer than asked; one that fits stays as it is."""
    short = shortened(text, length_max)
    assert len(short) <= length_max
    if len(text) <= length_max:
        assert short == text
    else:
        begin, _, end = short.partition(" […] ")
        assert text.startswith(begin)
        assert text.endswith(end)
        assert min(len(begin), len(end)) > 0
