"""What holds for every ten mistakes in one fleet: they are ten messages."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_release import DeclarationError, check
from tests.release.planted import MISTAKES, Planted, line_of, planted, stanza_of

COUNT = 10


def ten_of(mistakes: list[Planted]) -> tuple[Planted, ...]:
    """The first ten of them that stand in different parts of the fleet."""
    by_stanza = {stanza_of(it): it for it in reversed(mistakes)}
    return tuple(it for it in mistakes if by_stanza[stanza_of(it)] is it)[:COUNT]


@given(st.permutations(MISTAKES).map(ten_of))
def test_ten_mistakes_are_ten_messages(mistakes: tuple[Planted, ...]) -> None:
    """Whichever they are, each is told once, in its line, and nothing else is."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "fleet.toml")
        file.write_text(planted(*mistakes), encoding="utf-8")
        with pytest.raises(DeclarationError) as caught:
            check(file)

    told = [(it.place and it.place.line, it.path) for it in caught.value.problems]
    assert sorted(told) == sorted((line_of(it), it.path) for it in mistakes)
    assert len(told) == COUNT
