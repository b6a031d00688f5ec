"""JSON text: read strictly, written canonically. The values are not interpreted here.

orjson reads and writes; it keeps the last of two equal names without a word, so `parse_json` looks again. For
canonical JSON its sorted output is RFC 8785's own as long as it is ASCII; for the rest there is rfc8785, which
takes thirty times as long. A property test holds the two together.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import orjson
import rfc8785

from nixfleet_proto.codec.problem import DecodeError, DecodeProblem
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.json_value import JsonValue

INTEGER_MAX = 2**53 - 1  # what a reader that has only doubles can tell from its neighbours

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


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
    """Return the path of a member of what is at `path`."""
    if isinstance(member, int):
        return f"{path}[{member}]"
    if _PLAIN_NAME.fullmatch(member):
        return f"{path}.{member}"
    return f"{path}[{json.dumps(member, ensure_ascii=False)}]"


def _require_unique_names(data: bytes, what: str) -> None:
    problems = tuple(_repetitions(json.loads(data, object_pairs_hook=_Object), "$"))
    if problems:
        raise DecodeError(what, problems)


class _Object(dict[str, JsonValue]):
    """An object, and which of its names were written more than once."""

    def __init__(self, members: Sequence[tuple[str, JsonValue]]) -> None:
        super().__init__(members)
        self.repeated: tuple[str, ...] = ()
        if len(self) < len(members):
            counts = Counter(name for name, _ in members)
            self.repeated = tuple(name for name, count in counts.items() if count > 1)


def _repetitions(value: JsonValue, path: str) -> Iterator[DecodeProblem]:
    if isinstance(value, _Object):
        for name in value.repeated:
            yield DecodeProblem(
                member_path(path, name), "each name once in an object", "it repeated"
            )
    for member, inner in _members(value):
        yield from _repetitions(inner, member_path(path, member))


def _is_fit(value: JsonValue) -> bool:
    if value is None or isinstance(value, str | bool):
        return True
    if isinstance(value, int | float):
        return isinstance(value, int) and abs(value) <= INTEGER_MAX
    return all(map(_is_fit, value.values() if isinstance(value, Mapping) else value))


def _unfit(value: JsonValue, path: str) -> Iterator[DecodeProblem]:
    """What `_is_fit` has against `value`, with the path, which it would cost too much to keep."""
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
