"""Readers of the smallest parts of a message: what each accepts, and how a refusal names what was expected.

A reader takes a parsed JSON value (and the expected type, which cattrs passes) and returns it or raises
`MalformedValue`; the caller adds the path. Nothing is coerced: "3" is not 3, nor is true 1 or 1.0 1.
Source: docs/spec/wire.md, JSON.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Final, TypeAlias, TypeVar, cast

import orjson

from nixfleet_proto.checked import require_arguments
from nixfleet_proto.codec.problem import DecodeError, DecodeProblem, cut
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.json_value import JsonValue

E = TypeVar("E", bound=StrEnum)

U64_MAX = 2**64 - 1
I32_MIN, I32_MAX = -(2**31), 2**31 - 1

SIGNED_FIELDS = ("exit_code", "expect_exit_code", "current_wave", "from_wave")
"""The fields that may be negative: exit codes, and the wave before the first, which is -1."""

STRING = "a string"
BOOLEAN = "true or false"
INTEGER = "an integer"
LIST = "a list"
OBJECT = "an object"
TIME = "an RFC 3339 time"
ROLLOUT_ID = "a rollout id '{channel}@{channel_ref}'"

# `fromisoformat` takes far more than RFC 3339: dates alone, weeks, any separator, no offset.
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII
)


class Nothing:
    """Stands for a missing field in a refusal."""


NOTHING: Final = Nothing()

Found: TypeAlias = "JsonValue | Nothing"


class MalformedValue(ValueError):
    """A value is not what was expected. `member`: the member of it that is wrong, if it is not the whole."""

    def __init__(self, expected: str, found: Found, member: str | int | None = None) -> None:
        super().__init__(expected, found, member)
        self.expected = expected
        self.found = found
        self.member = member

    def __str__(self) -> str:
        where = "" if self.member is None else f"{self.member}: "
        return f"{where}expected {self.expected}, found {self.found!r:.100}"


def read_string(value: JsonValue, _: object = None) -> str:
    if type(value) is not str:
        raise MalformedValue(STRING, value)
    return value


def read_bool(value: JsonValue, _: object = None) -> bool:
    if type(value) is not bool:
        raise MalformedValue(BOOLEAN, value)
    return value


def read_count(value: JsonValue, _: object = None) -> int:
    """An unsigned 64-bit integer: every integer of the wire but SIGNED_FIELDS is a count."""
    if type(value) is not int:
        raise MalformedValue(INTEGER, value)
    if not 0 <= value <= U64_MAX:
        raise MalformedValue("an integer from 0 to 2^64 - 1", value)
    return value


def read_signed(value: JsonValue, _: object = None) -> int:
    """A signed 32-bit integer, as operating systems have exit codes."""
    if type(value) is not int:
        raise MalformedValue(INTEGER, value)
    if not I32_MIN <= value <= I32_MAX:
        raise MalformedValue("an integer from -2^31 to 2^31 - 1", value)
    return value


def read_rollout_id(value: JsonValue, _: object = None) -> RolloutId:
    try:
        return RolloutId(read_string(value))
    except InvalidRolloutId as error:
        raise MalformedValue(ROLLOUT_ID, value) from error


def read_time(value: JsonValue, _: object = None) -> datetime:
    """An RFC 3339 time with its offset, in UTC; digits beyond microseconds are dropped."""
    if type(value) is not str or not _RFC3339.fullmatch(value):
        raise MalformedValue(TIME, value)
    try:
        at = datetime.fromisoformat(value)
        return at if at.tzinfo is UTC else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MalformedValue(TIME, value) from error


def read_json_value(value: JsonValue, _: object = None) -> JsonValue:
    """Any JSON, frozen, for records that carry it without interpreting it."""
    if isinstance(value, Mapping):
        return FrozenMap({name: read_json_value(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return tuple(map(read_json_value, value))
    return value


def read_list(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise MalformedValue(LIST, value)
    return value


def read_object(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise MalformedValue(OBJECT, value)
    return value


def read_enum(value: JsonValue, enum: type[E]) -> E:
    member = members_of(enum).get(value) if isinstance(value, str) else None
    if member is None:
        raise MalformedValue(one_of(enum), value)
    return cast("E", member)


@cache
def members_of(enum: type[StrEnum]) -> Mapping[str, StrEnum]:
    """Return the members by value: calling the enum, which asks no more, takes three times as long."""
    return {member.value: member for member in enum}


def parse_time(text: str) -> datetime:
    """Return the time that `text` names, in UTC. Raises: DecodeError."""
    try:
        return read_time(text)
    except MalformedValue as refused:
        raise DecodeError("time", (DecodeProblem("$", refused.expected, shown(text)),)) from refused


def format_time(at: datetime) -> str:
    """Return `at` as RFC 3339 in UTC: a fraction of 0, 3 or 6 digits, the shortest that is exact.

    Raises: InvalidValue, for a time without a UTC offset.
    """
    if at.tzinfo is None:
        require_arguments("format_time", at=(at, datetime))
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    # orjson does in a fifth of the time what `isoformat` does, except for the three digits.
    text = orjson.dumps(utc, option=orjson.OPT_UTC_Z)[1:-1].decode()
    is_in_milliseconds = utc.microsecond and not utc.microsecond % 1000
    return f"{text[:-4]}Z" if is_in_milliseconds else text


def one_of(names: Iterable[str]) -> str:
    """Return a closed set of strings as a refusal shows it."""
    return "one of " + ", ".join(f"'{name}'" for name in names)


def shown(found: Found) -> str:
    """Return `found` as a refusal shows it: short, and never a whole subtree."""
    if isinstance(found, Nothing):
        return "nothing"
    if isinstance(found, Mapping):
        return OBJECT
    if isinstance(found, Sequence) and not isinstance(found, str):
        return LIST
    return cut(orjson.dumps(found).decode())
