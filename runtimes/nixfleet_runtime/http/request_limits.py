"""The maximal length of texts and lists in requests, except events, which `nixfleet_proto.codec.limits` limits.

What a request holds is kept: in the log, in memory by host, or in the process log. So no text of one has the length
that its sender chooses: a request's body is read by a `RequestCoder`.
Source: docs/spec/wire.md, Calls.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import attrs

from nixfleet_proto.codec.json_text import member_path
from nixfleet_proto.codec.limits import LENGTHS_MAX, TEXT_LENGTH_MAX
from nixfleet_proto.codec.problem import PROBLEMS_LOOKED_FOR, DecodeError, DecodeProblem
from nixfleet_proto.codec.strict import Coder, Spelling
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue

T = TypeVar("T")

REQUEST_LENGTHS_MAX: Final[Mapping[str, int]] = {
    **LENGTHS_MAX,
    "reason": 4096,
    "last_seqs": 4096,
    "refusals": 1024,
    "excused_hosts": 32_768,
    "hosts": 32_768,
}
"""By field: characters of a text, items of a list."""


class RequestCoder(Coder[T]):
    """As `Coder`, and refuses texts and lists that are too long."""

    @classmethod
    def limiting(cls, coder: Coder[T]) -> "RequestCoder[T]":
        """Return `coder` with the limits of requests."""
        return cls(coder.spelling, coder.form, coder.what)

    def of_json(self, parsed: JsonValue) -> T:
        """Return the value that `parsed` spells. Raises: DecodeError, also for texts and lists that are too long."""
        value = super().of_json(parsed)
        problems = tuple(islice(_too_long(value, "$", "", self.spelling), PROBLEMS_LOOKED_FOR))
        if problems:
            raise DecodeError(self.what, problems)
        return value


def length_max_of(name: str) -> int:
    """Return the limit of a field of this name."""
    return REQUEST_LENGTHS_MAX.get(name, TEXT_LENGTH_MAX)


def request_limits_of(cls: type) -> Iterator[tuple[str, type, int]]:
    """Yield the fields of an attrs class that have a length: name, `str`, `tuple` or `FrozenMap`, and limit."""
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", cls)):
        forms = {get_origin(form) or form for form in (field.type, *get_args(field.type))}
        found = next((kind for kind in (tuple, FrozenMap, str) if kind in forms), None)
        if found is not None:
            yield field.name, found, length_max_of(field.name)


def _too_long(value: Any, path: str, name: str, spelling: Spelling) -> Iterator[DecodeProblem]:
    """Yield what is too long in `value`, which is the field `name`, at `path`."""
    match value:
        case str():
            yield from _longer_than(length_max_of(name), value, path, "characters")
        case tuple():
            yield from _longer_than(length_max_of(name), value, path, "items")
            for index, item in enumerate(value):
                yield from _too_long(item, f"{path}[{index}]", "", spelling)
        case Mapping():
            yield from _longer_than(length_max_of(name), value, path, "items")
            for key, item in value.items():
                yield from _longer_than(TEXT_LENGTH_MAX, key, path, "characters of a name")
                yield from _too_long(item, member_path(path, key[:TEXT_LENGTH_MAX]), "", spelling)
        case _ if attrs.has(type(value)):
            for field in attrs.fields(type(value)):
                member = f"{path}.{spelling.name_of(field.name)}"
                yield from _too_long(getattr(value, field.name), member, field.name, spelling)
        case _:
            pass  # numbers, times and words of a list are as long as their type allows


def _longer_than(length_max: int, value: Any, path: str, unit: str) -> Iterator[DecodeProblem]:
    if len(value) > length_max:
        yield DecodeProblem(path, f"at most {length_max} {unit}", f"{len(value)}")
