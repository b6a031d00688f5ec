"""The quick readers and the strict one are of one mind, for every type that is sent or stored."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any

import attrs
import orjson
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_proto.codec import DecodeError, artefact, enrollment, evidence, wire
from nixfleet_proto.codec.json_text import as_dict
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http import bodies, commands, listings
from nixfleet_runtime.storage import record_codec
from nixfleet_secrets import sealed_file
from property_tests.anything import anything, times
from property_tests.spoiling import spoiled

MODULES = (
    artefact,
    enrollment,
    evidence,
    wire,
    record_codec,
    bodies,
    commands,
    listings,
    sealed_file,
)


def _coders(module: ModuleType) -> list[Coder[Any]]:
    return [value for value in vars(module).values() if isinstance(value, Coder)]


@frozen
class Moment:
    """A time, and nothing else that could be wrong."""

    at: datetime


MOMENT = Coder[Moment](Spelling(camel_case, Absent.AS_NULL), Moment, "moment")
CODERS = [coder for module in MODULES for coder in _coders(module)]

# There are thirty.
fewer = settings(max_examples=settings().max_examples // 5)
for_every_coder = pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.what)


@for_every_coder
@fewer
@given(data=st.data())
def test_what_was_written_is_read_quickly_and_as_the_strict_reader_does(
    coder: Coder[Any], data: st.DataObject
) -> None:
    """Nothing that we write ourselves is left to the strict reader."""
    spelt = data.draw(_spelt(coder))

    assert _exactly(coder.read_quickly(spelt)) == _exactly(coder.read_strictly(spelt))


@for_every_coder
@fewer
@given(data=st.data())
def test_what_was_spoilt_is_taken_or_refused_as_if_there_were_no_quick_reader(
    coder: Coder[Any], data: st.DataObject
) -> None:
    """Whatever else stands in a place, or nothing: the same value, or the same words for every problem."""
    spelt = orjson.loads(json.dumps(data.draw(_spelt(coder).flatmap(spoiled))))

    _assert_takes_no_more(coder, spelt)
    assert _outcome(coder.of_json, spelt) == _outcome(coder.read_strictly, spelt)


@given(times().map(datetime.isoformat), st.data())
def test_a_time_with_other_characters_is_read_as_the_strict_reader_does(
    text: str, data: st.DataObject
) -> None:
    """Weeks, the hour 24, digits of other scripts, something after the end: one rule for both."""
    zoned = text.replace("+00:00", "Z")
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(zoned)))
        written = data.draw(st.text("0123456789W-:TZtz +.,٣\x00", max_size=2))
        zoned = zoned[:place] + written + zoned[place + data.draw(st.integers(0, 2)) :]

    _assert_takes_no_more(MOMENT, {"at": zoned})


@pytest.mark.parametrize(
    "text",
    [
        "2026-W20-6T01:00:00Z",
        "2026-05-16T24:00:00Z",
        "2026-05-16T25:00:00Z",
        "2026-05-16T01:00:60Z",
        "2026-05-16T01:00:00Z0",
        "2026-05-16T01:00:00Z\x00",
        "2026-05-16T01:00:0٣Z",
        "2026-05-16t01:00:00Z",
        "0000-05-16T01:00:00Z",
    ],
)
def test_a_time_that_is_none_is_read_by_neither(text: str) -> None:
    """What `fromisoformat` takes besides, in one version of Python or another, is no RFC 3339 time."""
    with pytest.raises((ValueError, DecodeError)):
        MOMENT.read_quickly({"at": text})
    with pytest.raises(DecodeError):
        MOMENT.of_json({"at": text})


def _assert_takes_no_more(coder: Coder[Any], spelt: JsonValue) -> None:
    try:
        value = coder.read_quickly(spelt)
    except Exception:
        return
    assert _exactly(value) == _exactly(coder.read_strictly(spelt))


def _outcome(read: Callable[[JsonValue], object], spelt: JsonValue) -> object:
    try:
        return _exactly(read(spelt))
    except DecodeError as refusal:
        return refusal.problems


def _spelt(coder: Coder[Any]) -> st.SearchStrategy[Any]:
    """Values as they come out of a text."""
    return anything(coder.form).map(
        lambda value: orjson.loads(orjson.dumps(coder.to_json(value), default=as_dict))
    )


def _exactly(value: Any) -> object:
    """Everything there is to `value`, with the class of each part of it and in its order."""
    if attrs.has(type(value)):
        parts = attrs.astuple(value, recurse=False)
        return type(value), tuple(map(_exactly, parts))
    if isinstance(value, Mapping):
        return type(value), tuple((_exactly(key), _exactly(value[key])) for key in value)
    if isinstance(value, tuple):
        return type(value), tuple(map(_exactly, value))
    return type(value), value
