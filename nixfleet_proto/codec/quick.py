"""Fast readers for valid input: one generated function per class, which explains no refusal.

Nearly all input is valid. `strict` tracks the path of every field in order to report problems; a quick reader only
checks that each field is exactly as expected. Otherwise it raises any exception, without a message, and `Coder` passes
the same value to the strict reader, which decides. A quick reader that refuses too much costs time; one that accepts
too much would be a defect. property_tests/test_quick_laws.py checks both: what is accepted here is accepted there, with
an equal result, and everything that the codec ever wrote is accepted here.

The generated function, for an event:

    def read(_given):
        if _type(_given) is not dict: raise Surprise
        probe_name = _given["probeName"]
        if _type(probe_name) is not str: raise Surprise
        mode = _given["mode"]
        mode = _members_mode[mode]
        failure_reason = _given.get("failureReason")
        if failure_reason is not None:
            if _type(failure_reason) is not str: raise Surprise
        ...
        return _make(probe_name, mode, ...)

A form that is not handled below is read by the hook of the strict reader. The functions are generated, as attrs and
cattrs do, when they are first needed; most processes never need most of them.
Rejected: cattrs without its detailed validation (a tenth faster, it is the calls per field that cost), msgspec
(coerces in places, and is a dependency of the core).
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, cast, get_args, get_origin

import attrs

from nixfleet_proto.checked import contradictions
from nixfleet_proto.codec import primitives
from nixfleet_proto.codec.primitives import (
    I32_MAX,
    I32_MIN,
    SIGNED_FIELDS,
    U64_MAX,
    members_of,
    read_bool,
    read_count,
    read_list,
    read_object,
    read_rollout_id,
    read_string,
)
from nixfleet_proto.drafting import maker
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue

QuickReader: TypeAlias = Callable[[Any], Any]
Hook: TypeAlias = Callable[[JsonValue, Any], Any]


class Surprise(Exception):
    """The input is not as expected. The strict reader reports what is wrong."""


def read_time(value: Any) -> datetime:
    """As the strict reader's own; in half the time for whole seconds in UTC, as most are written.

    Everywhere else `fromisoformat` insists on digits. By itself it takes weeks, the hour 24 (in newer Pythons) and
    whatever follows a NUL.
    """
    if len(value) == 20 and value[4::3] == "--T::Z" and value[11:13] < "24":
        return datetime.fromisoformat(value)
    return primitives.read_time(value)


_PRIMITIVES: Mapping[object, QuickReader] = {
    str: read_string,
    bool: read_bool,
    int: read_count,
    datetime: read_time,
    RolloutId: read_rollout_id,
}


class QuickReaders:
    """The quick readers of one spelling, each made when it is first asked for.

    name_of, cases, reshaped: as `Spelling` has them. hook_of: what the strict reader reads a form with.
    """

    def __init__(
        self,
        name_of: Callable[[str], str],
        cases: Mapping[object, Mapping[str, type]],
        reshaped: Mapping[type, Callable[[JsonValue], JsonValue]],
        hook_of: Callable[[Any], Hook],
    ) -> None:
        self._name_of = name_of
        self._cases = cases
        self._reshaped = reshaped
        self._hook_of = hook_of
        self._readers: dict[object, QuickReader] = {}
        self._own: set[object] = set()

    def add(self, form: object, hook: Hook) -> None:
        """Read `form` with `hook`, regardless of its structure."""
        self._own.add(form)
        self._readers[form] = lambda value: hook(value, form)

    def reader_of(self, form: Any) -> QuickReader:
        """Return a function that returns the value of a `form`, or raises any exception."""
        if form not in self._readers:
            self._readers[form] = self._made(form)
        return self._readers[form]

    def _made(self, form: Any) -> QuickReader:
        if form in _PRIMITIVES:
            return _PRIMITIVES[form]
        if form in self._cases:
            return self._union_reader(self._cases[form])
        if get_origin(form) is tuple:
            return self._tuple_reader(form)
        if get_origin(form) is FrozenMap:
            return self._map_reader(form)
        if isinstance(form, type) and attrs.has(form):
            return self._class_reader(form)
        hook = self._hook_of(form)
        return lambda value: hook(value, form)

    def _union_reader(self, cases: Mapping[str, type]) -> QuickReader:
        readers: dict[Any, QuickReader] = {kind: self.reader_of(cases[kind]) for kind in cases}
        # What is no object has no item "kind"; what is no kind has no reader.
        return lambda value: readers[value["kind"]](value)

    def _tuple_reader(self, form: Any) -> QuickReader:
        read_item = self.reader_of(get_args(form)[0])

        return lambda value: tuple([read_item(item) for item in read_list(value)])

    def _map_reader(self, form: Any) -> QuickReader:
        read_name, read_item = map(self.reader_of, get_args(form))

        def read(value: JsonValue) -> FrozenMap[Any, Any]:
            items = read_object(value).items()
            return FrozenMap({read_name(name): read_item(item) for name, item in items})

        return read

    def _class_reader(self, cls: type[Any]) -> QuickReader:
        # `_type`: a field may be called `type`.
        scope: dict[str, Any] = {"Surprise": Surprise, "_make": maker(cls), "_type": type}
        lines: list[str] = []
        if cls in self._reshaped:
            scope["_reshape"] = self._reshaped[cls]
            lines.append("_given = _reshape(_given)")
        lines.append("if _type(_given) is not dict: raise Surprise")
        for field in attrs.fields(cls):
            lines += self._field(field, scope)
        passed = [f"{it.name}={it.name}" if it.kw_only else it.name for it in attrs.fields(cls)]
        lines.append(f"made = _make({', '.join(passed)})")
        if hasattr(cls, "_contradictions"):
            # What is made here is not checked; the strict reader says what is wrong.
            scope["_contradictions"] = contradictions
            lines.append("for _ in _contradictions(made): raise Surprise")
        lines.append("return made")
        source = "def read(_given):\n" + "\n".join(_indented(lines))
        exec(compile(source, f"<quick reader of {cls.__qualname__}>", "exec"), scope)
        return cast("QuickReader", scope["read"])

    def _field(self, field: "attrs.Attribute[Any]", scope: dict[str, Any]) -> list[str]:
        """Return the lines that read a field, or take its default."""
        name, spelt = field.name, self._name_of(field.name)
        taken, checks = f"{name} = _given[{spelt!r}]", self._checks(field, field.type, scope)
        if field.default is attrs.NOTHING:
            return [taken, *checks]
        if field.default is None:
            # Absent or null: to an option it is the same.
            return [f"{name} = _given.get({spelt!r})", *checks]
        scope[f"_default_{name}"] = field.default
        return [
            f"if {spelt!r} in _given:",
            *_indented([taken, *checks]),
            f"else: {name} = _default_{name}",
        ]

    def _checks(self, field: "attrs.Attribute[Any]", form: Any, scope: dict[str, Any]) -> list[str]:
        """Return the lines that make a `form` of the variable that has the field's name."""
        name, option = field.name, _option_of(form)
        if form in self._own:
            return self._call(field, form, scope)
        if option is not None:
            return [f"if {name} is not None:", *_indented(self._checks(field, option, scope))]
        if form is int:
            low, high = (I32_MIN, I32_MAX) if name in SIGNED_FIELDS else (0, U64_MAX)
            return [f"if _type({name}) is not int or not {low} <= {name} <= {high}: raise Surprise"]
        if form in (str, bool):
            return [f"if _type({name}) is not {form.__name__}: raise Surprise"]
        if isinstance(form, type) and issubclass(form, StrEnum):
            scope[f"_members_{name}"] = members_of(form)
            return [f"{name} = _members_{name}[{name}]"]
        return self._call(field, form, scope)

    def _call(self, field: "attrs.Attribute[Any]", form: Any, scope: dict[str, Any]) -> list[str]:
        scope[f"_read_{field.name}"] = self.reader_of(form)
        return [f"{field.name} = _read_{field.name}({field.name})"]


def _option_of(form: Any) -> Any:
    """Return the type that `form` makes optional; `None` if it is not an option."""
    first, *others = get_args(form) or (None,)
    is_option = get_origin(form) in (Union, UnionType) and others == [NoneType]
    return first if is_option else None


def _indented(lines: list[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)
