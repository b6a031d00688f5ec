"""The quick readers by themselves: what they take, and what they leave to the strict one."""

from typing import Any

import pytest
from attrs import field, frozen

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.primitives import MalformedValue, read_string
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue


@frozen
class Word:
    """A type that is spelt in a way of its own: as its text."""

    text: str


@frozen
class Letter:
    first_word: Word
    other_words: tuple[Word, ...] = ()
    last_word: Word | None = None
    by_name: FrozenMap[str, Word] = field(factory=lambda: FrozenMap[str, Word]())
    mode: ProbeMode = ProbeMode.OBSERVE
    exit_code: int = -1


def _read_word(value: JsonValue, _: object = None) -> Word:
    text = read_string(value)
    if not text.isalpha():
        raise MalformedValue("a word", value)
    return Word(text)


def _letters() -> Coder[Letter]:
    spelling = Spelling(camel_case, Absent.AS_NULL)
    spelling.add(Word, _read_word, lambda word: word.text)
    return Coder(spelling, Letter, "letter")


def test_a_form_with_a_spelling_of_its_own_is_read_by_it_wherever_it_stands() -> None:
    """As a field, an item, an option, and a value in a mapping."""
    letter = _letters().read_quickly(
        {"firstWord": "hi", "otherWords": ["dear"], "lastWord": "yours", "byName": {"a": "b"}}
    )

    assert letter == Letter(Word("hi"), (Word("dear"),), Word("yours"), FrozenMap({"a": Word("b")}))


def test_the_strict_reader_takes_what_the_quick_one_takes() -> None:
    """Both make the same of it."""
    letters, spelt = _letters(), {"firstWord": "hi", "mode": "enforce"}

    assert letters.read_strictly(spelt) == letters.read_quickly(spelt)


def test_what_is_left_out_has_its_default() -> None:
    """A constant, what a factory makes, and nothing at all."""
    assert _letters().read_quickly({"firstWord": "hi", "newer": 1}) == Letter(Word("hi"))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"firstWord": None},
        {"firstWord": "1"},
        {"otherWords": "dear"},
        {"otherWords": ["1"]},
        {"lastWord": 1},
        {"byName": []},
        {"byName": {"a": 1}},
        {"mode": None},
        {"mode": []},
        {"mode": "warn"},
        {"exitCode": None},
        {"exitCode": True},
        {"exitCode": 1.0},
        {"exitCode": 2**31},
    ],
)
def test_what_is_not_as_it_should_be_is_left_to_the_strict_reader(members: Any) -> None:
    """The quick reader gives up, whatever the exception; the coder's refusal is the strict reader's."""
    spelt = {"firstWord": "hi", **members} if members else {}
    letters = _letters()

    with pytest.raises(Exception):  # noqa: B017, PT011 - any will do
        letters.read_quickly(spelt)
    with pytest.raises(DecodeError) as refusal:
        letters.of_json(spelt)
    with pytest.raises(DecodeError) as strictly:
        letters.read_strictly(spelt)
    assert refusal.value.problems == strictly.value.problems


def test_a_refusal_says_nothing_of_the_quick_reader() -> None:
    """What it met is no part of the error: nobody has to read about two attempts."""
    with pytest.raises(DecodeError) as refusal:
        _letters().of_json({})

    assert refusal.value.__cause__ is not None
    assert refusal.value.__cause__.__context__ is None
