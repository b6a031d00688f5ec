"""`checked`: what each annotation accepts, and how a problem is worded."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent, DispatchAck
from nixfleet_proto.checked import checked
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.frozen_map import FrozenMap

NAIVE = datetime(2026, 5, 16, 1, 0)  # noqa: DTZ001


@frozen
@checked
class Sample:
    """A field of every kind of annotation that public data has."""

    text: str = ""
    flag: bool = False
    count: int = 0
    share: float = 0.0
    raw: bytes = b""
    length: timedelta = timedelta(0)
    at: datetime | None = None
    names: frozenset[str] = frozenset()
    labels: tuple[tuple[str, int], ...] = ()
    waves: FrozenMap[str, tuple[int, ...]] = FrozenMap()
    fact: AgentEvent | None = None
    answer: str | int | float | bytes | None = None


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("text", 7, "text: expected a string, found 7 (int)"),
        ("flag", 1, "flag: expected True or False, found 1 (int)"),
        ("count", True, "count: expected an integer, found True (bool)"),
        ("share", "half", "share: expected a number, found 'half' (str)"),
        ("raw", "x", "raw: expected bytes, found 'x' (str)"),
        ("length", 5, "length: expected a timedelta, found 5 (int)"),
        (
            "at",
            NAIVE,
            "at: expected a datetime with a UTC offset, found 2026-05-16T01:00:00, which has none",
        ),
        ("at", 5, "at: expected a datetime with a UTC offset or None, found 5 (int)"),
        ("names", ("a",), "names: expected a frozenset, found ('a',) (tuple)"),
        ("names", frozenset({7}), "an item of names: expected a string, found 7 (int)"),
        ("labels", "x", "labels: expected a tuple, of a tuple of 2 each, found 'x' (str)"),
        ("labels", (("a",),), "labels[0]: expected a tuple of 2, found ('a',) (tuple)"),
        ("labels", (("a", "b"),), "labels[0][1]: expected an integer, found 'b' (str)"),
        ("waves", {}, "waves: expected a FrozenMap, found {} (dict)"),
        (
            "waves",
            FrozenMap({"edge": 1}),
            "waves['edge']: expected a tuple, of an integer each, found 1 (int)",
        ),
        ("waves", FrozenMap({7: (1,)}), "a key of waves: expected a string, found 7 (int)"),
        (
            "answer",
            (),
            "answer: expected one of string, integer, number, bytes, None, found () (tuple)",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(
    field: str, value: Any, problem: str
) -> None:
    """The problem names the field and the item, what was expected, and what was found."""
    with pytest.raises(InvalidValue) as refusal:
        Sample(**{field: value})

    assert str(refusal.value) == f"Sample: {problem}"


def test_a_union_of_many_classes_is_named_by_its_cases() -> None:
    """A value that is no fact is told which facts there are."""
    wrong: Any = "DispatchAck"
    with pytest.raises(InvalidValue, match="fact: expected one of DispatchAck, ActivationStarted"):
        Sample(fact=wrong)


def test_a_value_of_each_annotated_type_is_accepted() -> None:
    """Integers are numbers too; a fact of a union is accepted by its class."""
    at = datetime.fromisoformat("2026-05-16T01:00:00+00:00")
    sample = Sample("a", True, 1, 2, b"x", timedelta(1), at, fact=DispatchAck("old", at, 1))

    assert (sample.share, sample.fact) == (2, DispatchAck("old", at, 1))
    assert Sample(labels=(("a", 1),), waves=FrozenMap({"a": (1,)})).waves["a"] == (1,)


def test_a_long_value_is_cut_where_it_is_shown() -> None:
    """An error is never longer than a line, whatever it was given."""
    wrong: Any = ["x" * 1000]
    with pytest.raises(InvalidValue) as refusal:
        Sample(text=wrong)

    assert str(refusal.value).endswith("xxx… (list)")
    assert len(str(refusal.value)) < 150


def test_the_repr_has_the_fields_that_differ_from_their_defaults() -> None:
    """It is the Python that makes an equal record."""
    assert repr(Sample()) == "Sample()"
    assert repr(Sample("a", names=frozenset())) == "Sample(text='a')"
