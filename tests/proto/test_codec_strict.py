"""The strict converter as those use it who spell types of their own: who is to blame, and where."""

from typing import TypeVar

import pytest
from attrs import frozen

from nixfleet_proto.codec import DecodeError, DecodeProblem
from nixfleet_proto.codec.json_text import sorted_bytes
from nixfleet_proto.codec.primitives import MalformedValue
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue

T = TypeVar("T")


class Word:
    """A type that a test spells itself."""


@frozen
class Pause:
    rollout_id: RolloutId
    is_urgent: bool = False


@frozen
class Note:
    last_word: Word


def _coder(form: type[T]) -> Coder[T]:
    return Coder(Spelling(camel_case, Absent.AS_NULL), form, "form")


def _problems(coder: Coder[T], parsed: JsonValue) -> tuple[DecodeProblem, ...]:
    with pytest.raises(DecodeError) as refusal:
        coder.of_json(parsed)
    return refusal.value.problems


def test_reading_a_rollout_id_gives_one() -> None:
    """Text of the right shape becomes an id, with its parts."""
    pause = _coder(Pause).of_json({"rolloutId": "stable@a1b2", "isUrgent": True})

    assert pause == Pause(RolloutId("stable@a1b2"), is_urgent=True)
    assert pause.rollout_id.channel == "stable"


@pytest.mark.parametrize("text", ["stable", "@a1b2", "stable@", "a@b@c"])
def test_reading_a_malformed_rollout_id_is_refused_where_it_stands(text: str) -> None:
    """A text that names no rollout is the sender's mistake, and told with its path."""
    (problem,) = _problems(_coder(Pause), {"rolloutId": text, "isUrgent": False})

    assert problem == DecodeProblem(
        "$.rolloutId", "a rollout id '{channel}@{channel_ref}'", f'"{text}"'
    )


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_reading_anything_but_true_and_false_as_a_boolean_is_refused(value: JsonValue) -> None:
    """Numbers and words are no booleans, whatever Python makes of them."""
    (problem,) = _problems(_coder(Pause), {"rolloutId": "stable@a1b2", "isUrgent": value})

    assert (problem.path, problem.expected) == ("$.isUrgent", "true or false")


def test_reading_that_fails_by_our_own_mistake_is_not_blamed_on_the_sender() -> None:
    """What a reader raises, other than a refusal, comes out as it is."""

    def read(value: JsonValue, _: object = None) -> Word:
        raise ZeroDivisionError

    spelling = Spelling(camel_case, Absent.AS_NULL)
    spelling.add(Word, read, str)

    with pytest.raises(ZeroDivisionError):
        Coder[Note](spelling, Note, "note").of_json({"lastWord": "thanks"})


def test_a_refusal_that_carries_a_note_of_its_own_keeps_its_path() -> None:
    """What a reader writes on its refusal does not hide where the value stood."""

    def read(value: JsonValue, _: object = None) -> Word:
        refused = MalformedValue("a kind word", value)
        refused.add_note("as agreed")
        raise refused

    spelling = Spelling(camel_case, Absent.AS_NULL)
    spelling.add(Word, read, str)

    assert _problems(Coder[Note](spelling, Note, "note"), {"lastWord": "no"}) == (
        DecodeProblem("$.lastWord", "a kind word", '"no"'),
    )


def test_writing_what_has_no_json_form_is_refused() -> None:
    """What is neither JSON nor a mapping cannot be written; the type is named."""
    unwritable: JsonValue = [object()]  # type: ignore[list-item]

    with pytest.raises(TypeError, match="object"):
        sorted_bytes(unwritable)
