"""JSON text: read strictly, written canonically. The values are not interpreted here.

orjson reads and writes. It silently keeps the last of two equal names, so `parse_json` checks for them, in C where
possible: the text may be from an unknown sender, and its size must bound the time. The sorted output of orjson is
canonical (RFC 8785) if it is ASCII; otherwise rfc8785 is used, which takes thirty times as long. A property test
compares the two.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, cast

import orjson
import rfc8785

from nixfleet_proto.codec.problem import (
    PROBLEMS_LOOKED_FOR,
    DecodeError,
    DecodeProblem,
    cut,
)
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.json_value import JsonValue

INTEGER_MAX = 2**53 - 1  # what a reader that has only doubles can tell from its neighbours

CONTAINERS_MAX: Final = 32_768
"""How many lists and objects a message may have: a full batch of events in 1 MiB has fewer than 22,000."""
COMMAS_MAX: Final = 65_536
"""How many commas a message may have between its values: such a batch has about one in 17 bytes."""
PATH_LENGTH_MAX: Final = 200

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class Uncanonical(NixfleetError, ValueError):
    """A value that canonical JSON has no single form for. `problem` says where and what."""

    def __init__(self, problem: DecodeProblem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"has no canonical form: {self.problem}"


def parse_json(data: bytes, what: str = "JSON text") -> JsonValue:
    """Return the value of `data`: one value, in UTF-8, each name once in an object.

    what: how errors call the text.
    Raises: DecodeError.
    """
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DecodeError(what, (DecodeProblem("$", "JSON", str(error)),)) from error
    try:
        rewritten = orjson.dumps(value)
    except TypeError as error:  # orjson reads deeper than it writes
        raise DecodeError(what, (DecodeProblem("$", "at most 254 levels", "more"),)) from error
    # Had a name been dropped, the text could not have come back the same.
    if rewritten != data:
        _require_unique_names(data, what)
    return value


def require_affordable(data: bytes, what: str) -> None:
    """Return if `data`, which is not parsed yet, has no more parts than a message may have.

    The time it takes to parse a text depends on its parts: a mebibyte of `[]` takes thirty times as long as one of
    events. Raises: DecodeError.
    """
    if data.count(b"{") + data.count(b"[") <= CONTAINERS_MAX and data.count(b",") <= COMMAS_MAX:
        return
    # They may be in strings.
    bare = _STRINGS.sub(b"", data)
    containers, commas = bare.count(b"{") + bare.count(b"["), bare.count(b",")
    if containers > CONTAINERS_MAX:
        expected = f"at most {CONTAINERS_MAX} lists and objects"
        raise DecodeError(what, (DecodeProblem("$", expected, f"{containers}"),))
    if commas > COMMAS_MAX:
        raise DecodeError(what, (DecodeProblem("$", f"at most {COMMAS_MAX} commas", f"{commas}"),))


def canonical_bytes(value: JsonValue) -> bytes:
    """Return `value` as RFC 8785 writes it.

    Raises: Uncanonical, for floats and for integers beyond ±(2^53 - 1).
    """
    if not _is_fit(value):
        raise Uncanonical(next(_unfit(value, "$")))
    # Names sort by UTF-16 unit there and by UTF-8 byte here: in ASCII that is the same order.
    text = sorted_bytes(value)
    return text if text.isascii() else rfc8785.dumps(orjson.loads(text))


def sorted_bytes(value: JsonValue) -> bytes:
    """Return `value` in one line with its names sorted; canonical if its names are ASCII.

    For payloads whose names are ours. Integers of up to 64 bits are written in full.
    """
    return orjson.dumps(value, default=as_dict, option=orjson.OPT_SORT_KEYS)


def as_dict(value: object) -> dict[str, JsonValue]:
    """Return a mapping that is no dict as one: the `default` that orjson asks for."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, JsonValue]", value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def member_path(path: str, member: str | int) -> str:
    """Return the path of a member of the value at `path`. Long names are cut, and so are long paths."""
    if len(path) > PATH_LENGTH_MAX:
        return path if path.endswith("…") else f"{path}…"
    if isinstance(member, int):
        return f"{path}[{member}]"
    shown = cut(member)
    if _PLAIN_NAME.fullmatch(shown):
        return f"{path}.{shown}"
    return f"{path}[{json.dumps(shown, ensure_ascii=False)}]"


def _require_unique_names(data: bytes, what: str) -> None:
    # A list for each object, made and collected in C: a function of ours for each would take ten times as long.
    objects: list[list[tuple[str, JsonValue]]] = []
    json.loads(data, object_pairs_hook=objects.append)
    if any(len(members) > 1 and len(dict(members)) < len(members) for members in objects):
        raise DecodeError(what, tuple(islice(_repetitions(data), PROBLEMS_LOOKED_FOR)))


def _repetitions(data: bytes) -> Iterator[DecodeProblem]:
    repeated: dict[int, tuple[str, ...]] = {}

    def note(members: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        value = dict(members)
        if len(value) < len(members):
            counts = Counter(name for name, _ in members)
            repeated[id(value)] = tuple(name for name, count in counts.items() if count > 1)
        return value

    def within(value: JsonValue, path: str) -> Iterator[DecodeProblem]:
        for name in repeated.get(id(value), ()):
            yield DecodeProblem(
                member_path(path, name), "each name once in an object", "it repeated"
            )
        for member, inner in _members(value):
            if isinstance(inner, dict | list):
                yield from within(inner, member_path(path, member))

    yield from within(json.loads(data, object_pairs_hook=note), "$")


def _is_fit(value: JsonValue) -> bool:
    if value is None or isinstance(value, str | bool):
        return True
    if isinstance(value, int | float):
        return isinstance(value, int) and abs(value) <= INTEGER_MAX
    return all(map(_is_fit, value.values() if isinstance(value, Mapping) else value))


def _unfit(value: JsonValue, path: str) -> Iterator[DecodeProblem]:
    """Return the problem for which `_is_fit` refuses `value`, with its path, which is not tracked there."""
    if isinstance(value, int | float):
        if not _is_fit(value):
            yield DecodeProblem(path, "an integer within ±(2^53 - 1)", repr(value))
        return
    for member, inner in _members(value):
        yield from _unfit(inner, member_path(path, member))


def _members(value: JsonValue) -> Iterable[tuple[str | int, JsonValue]]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return enumerate(value)
    return ()
