"""What every frozen class of public data has besides attrs: it checks what it is given, and its repr is Python.

A field is checked by its annotation when an instance is made, `attrs.evolve` included. A check is one generated
function per class, compiled when the first instance is made: imports stay fast, and a valid record costs one call more.
What the codec and the reducer make of values that were checked already is not checked again; see `drafting`.
Rejected: attrs validators (a call per field), a check in `step` alone (the error would come far from the mistake).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import attrs

from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.frozen_map import FrozenMap

T = TypeVar("T")

SHOWN_LENGTH_MAX = 80


def checked(cls: type[T]) -> type[T]:
    """Let instances of `cls` check their fields, and show themselves as Python. Below `@frozen`.

    A class whose fields can contradict each other, or be numbers that make no sense, has a method `_contradictions`
    that yields a ValueProblem for each; it is called when every field is of its type.
    Raises, when an instance is made: InvalidValue, with every field that is wrong.
    """
    added = cast("Any", cls)
    added.__attrs_post_init__ = _check_first
    added.__repr__ = _repr
    return cls


class WordEnum(StrEnum):
    """An enum of words. Its repr is Python: `HostState.PENDING`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def problems_of(path: str, value: object, form: object) -> Iterator[ValueProblem]:
    """Yield what keeps `value` from being a `form`, an annotation. path: how a problem names the value."""
    if not _is_one(form)(value):
        yield from _inner_problems(path, value, form) or (_problem(path, value, form),)


def require_arguments(function: str, **arguments: tuple[object, object]) -> None:
    """Check the arguments of a call: each by name, as (value, annotation).

    Raises: InvalidValue, with every argument that is wrong.
    """
    problems = [
        problem
        for name, (value, form) in arguments.items()
        if not _is_one(form)(value)
        for problem in problems_of(name, value, form)
    ]
    if problems:
        raise InvalidValue(function, tuple(problems))


def contradictions(record: object) -> Iterator[ValueProblem]:
    """Yield what contradicts in a record of a checked class that was made without the check, as the codec makes them.

    Not what contradicts in the records inside it.
    """
    yield from getattr(record, "_contradictions", tuple[ValueProblem, ...])()


def at_least(path: str, number: int, least: int) -> Iterator[ValueProblem]:
    """Yield a problem if `number` is less than `least`."""
    if number < least:
        yield ValueProblem(path, f"{least} or more", str(number))


def at_most(path: str, number: int, most: int) -> Iterator[ValueProblem]:
    """Yield a problem if `number` is more than `most`."""
    if number > most:
        yield ValueProblem(path, f"{most} or less", str(number))


def same(path: str, value: str, wanted: str, why: str) -> Iterator[ValueProblem]:
    """Yield a problem if `value` is not `wanted`. why: what it must agree with."""
    if value != wanted:
        yield ValueProblem(path, f"{wanted!r}, as {why}", repr(value))


def not_empty(path: str, text: str) -> Iterator[ValueProblem]:
    """Yield a problem if `text` is empty."""
    if not text:
        yield ValueProblem(path, "a name", "an empty string")


def is_default(field: "attrs.Attribute[Any]", value: object) -> bool:
    """Return whether `value` is what the field has when it is not given."""
    default = field.default
    if default is attrs.NOTHING:
        return False
    if hasattr(default, "factory"):
        default = cast("Any", default).factory()
    return type(value) is type(default) and value == default


def class_of(value: object) -> type[Any]:
    """Return the class of `value`, for code that reads its fields by name."""
    return type(value)


def shown(value: object) -> str:
    """Return `value` as an error shows it, with its type: never longer than a line."""
    if value is None:
        return "None"
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    if len(text) > SHOWN_LENGTH_MAX:
        text = f"{text[:SHOWN_LENGTH_MAX]}…"
    return f"{text} ({type(value).__name__})"


# --- the repr --------------------------------------------------------------------------------------


def _repr(self: Any) -> str:
    """`Class(field=value, …)`, without the fields that have their defaults."""
    fields = [
        f"{field.name}={value!r}"
        for field in attrs.fields(class_of(self))
        if not is_default(field, value := getattr(self, field.name))
    ]
    return f"{type(self).__qualname__}({', '.join(fields)})"


# --- the check -------------------------------------------------------------------------------------


def _check_first(self: Any) -> None:
    """The check of a class of which no instance was made yet: compiles the real one, for all that follow."""
    cls = class_of(self)
    check = cls.__attrs_post_init__ = _compiled(cls)
    check(self)


# `drafting` makes instances without it: it stores nothing.
cast("Any", _check_first).only_checks = True


def _compiled(cls: type[Any]) -> Callable[[Any], None]:
    scope: dict[str, Any] = {}
    wrong = [_is_wrong(f"self.{field.name}", field.type, scope) for field in attrs.fields(cls)]
    condition = " or ".join(filter(None, wrong)) or "False"
    scope |= {"refuse": _refuse, "refuse_contradictions": _refuse_contradictions}
    source = f"def check(self):\n    if {condition}:\n        refuse(self)"
    if hasattr(cls, "_contradictions"):
        source += (
            "\n    for problem in self._contradictions():\n        refuse_contradictions(self)"
        )
    exec(compile(source, f"<check of {cls.__qualname__}>", "exec"), scope)
    check = scope["check"]
    check.only_checks = True
    return cast("Callable[[Any], None]", check)


@cache
def _is_one(form: Any) -> Callable[[object], bool]:
    """Return a function that says whether a value is a `form`."""
    scope: dict[str, Any] = {}
    wrong = _is_wrong("value", form, scope) or "False"
    return cast("Callable[[object], bool]", eval(f"lambda value: not {wrong}", scope))


def _refuse(self: Any) -> None:
    cls = class_of(self)
    problems = tuple(
        problem
        for field in attrs.fields(cls)
        for problem in problems_of(field.name, getattr(self, field.name), field.type)
    )
    raise InvalidValue(cls.__qualname__, problems)


def _refuse_contradictions(self: Any) -> None:
    raise InvalidValue(class_of(self).__qualname__, tuple(self._contradictions()))


def _is_wrong(value: str, form: Any, scope: dict[str, Any]) -> str:
    """Return the source of a condition: the expression `value` is not of type `form`. Empty if every value is."""
    if form is object:
        return ""
    if form is datetime:
        scope["datetime"] = datetime
        return f"(not isinstance({value}, datetime) or {value}.tzinfo is None)"
    if form is bool:
        return f"({value} is not True and {value} is not False)"
    if form is int:
        return f"type({value}) is not int"  # nor is True an integer here
    if form is float:
        return f"type({value}) not in (float, int)"
    if form is NoneType:
        return f"{value} is not None"
    origin, arguments = get_origin(form), get_args(form)
    if origin in (Union, UnionType):
        return _is_no_case(value, arguments, scope)
    if origin is tuple:
        return _is_no_tuple(value, arguments, scope)
    if origin in _COLLECTIONS:
        return _is_no_collection(value, origin, arguments, scope)
    if origin is Iterable or form is Iterable:
        # Not its items: they may be there only once. A string is not the collection of its letters.
        scope["Iterable"] = Iterable
        return f"(not isinstance({value}, Iterable) or isinstance({value}, str))"
    if isinstance(origin or form, type):
        return f"not isinstance({value}, {_named(origin or form, scope)})"
    return ""  # a type variable, or JSON that is carried and not looked at


def _is_no_case(value: str, cases: Sequence[Any], scope: dict[str, Any]) -> str:
    if all(attrs.has(case) for case in cases):
        scope[kinds := f"kinds{len(scope)}"] = frozenset(cases)
        return f"(type({value}) not in {kinds} and not isinstance({value}, tuple({kinds})))"
    wrong = [_is_wrong(value, case, scope) for case in cases]
    # None first: most options are absent.
    return f"({' and '.join(sorted(wrong, key=len))})" if all(wrong) else ""


def _is_no_tuple(value: str, items: Sequence[Any], scope: dict[str, Any]) -> str:
    wrong = [f"not isinstance({value}, tuple)"]
    if items[1:] == (...,):
        item = _is_wrong("item", items[0], scope)
        wrong += [f"any([{item} for item in {value}])"] if item else []
    else:
        wrong.append(f"len({value}) != {len(items)}")
        wrong += [_is_wrong(f"{value}[{at}]", item, scope) for at, item in enumerate(items)]
    return f"({' or '.join(filter(None, wrong))})"


def _is_no_collection(value: str, kind: type, items: Sequence[Any], scope: dict[str, Any]) -> str:
    wrong = [f"not isinstance({value}, {_named(kind, scope)})"]
    key = _is_wrong("key", items[0], scope)
    wrong += [f"any([{key} for key in {value}])"] if key else []
    if issubclass(kind, Mapping) and (item := _is_wrong("item", items[1], scope)):
        wrong.append(f"any([{item} for item in {value}.values()])")
    return f"({' or '.join(wrong)})"


def _named(kind: type, scope: dict[str, Any]) -> str:
    scope[kind.__name__] = kind
    return kind.__name__


# --- what is wrong ---------------------------------------------------------------------------------


def _inner_problems(path: str, value: Any, form: Any) -> tuple[ValueProblem, ...]:
    """Return the problems of the items of a collection that is of the right kind itself."""
    origin, forms = get_origin(form), get_args(form)
    given: Any = value  # not narrowed by the kind that it is found to be
    items: list[tuple[str, Any, Any]] = []
    if origin in (Union, UnionType):
        return next(filter(None, (_inner_problems(path, value, case) for case in forms)), ())
    if origin is tuple and isinstance(value, tuple):
        each = (forms[0],) * len(given) if forms[1:] == (...,) else forms
        named = enumerate(zip(given, each, strict=False))
        items += [(f"{path}[{at}]", item, wanted) for at, (item, wanted) in named]
    elif origin in (frozenset, Set) and isinstance(value, origin):
        items += [(f"an item of {path}", item, forms[0]) for item in given]
    elif origin in (FrozenMap, Mapping) and isinstance(value, origin):
        for key, item in given.items():
            items += [(f"a key of {path}", key, forms[0]), (f"{path}[{key!r}]", item, forms[1])]
    return tuple(problem for item in items for problem in problems_of(*item))


def _problem(path: str, value: object, form: Any) -> ValueProblem:
    if isinstance(value, datetime) and value.tzinfo is None and datetime in (form, *get_args(form)):
        return ValueProblem(
            path, "a datetime with a UTC offset", f"{value.isoformat()}, which has none"
        )
    return ValueProblem(path, _expected(form), shown(value))


# The kinds of collections whose items are looked at. Mappings are (key, item), the others (item).
_COLLECTIONS = (frozenset, FrozenMap, Set, Mapping)

_WORDS: dict[object, str] = {
    str: "a string",
    bool: "True or False",
    int: "an integer",
    float: "a number",
    bytes: "bytes",
    datetime: "a datetime with a UTC offset",
    timedelta: "a timedelta",
    NoneType: "None",
    Mapping: "a mapping",
    Set: "a set",
    Iterable: "a collection",
}


def _expected(form: Any) -> str:
    origin, arguments = get_origin(form), get_args(form)
    if (kind := origin or form) in _WORDS:
        return _WORDS[kind]
    if origin in (Union, UnionType):
        # As `X | None` is read: the value that is meant, then that there may be none.
        cases = tuple(dict.fromkeys(map(_expected, arguments)))
        return (
            " or ".join(cases)
            if len(cases) <= 4
            else "one of " + ", ".join(re.sub("^an? ", "", case) for case in cases)
        )
    if origin is tuple and arguments[1:] == (...,):
        return f"a tuple, of {_expected(arguments[0])} each"
    if origin is tuple:
        return f"a tuple of {len(arguments)}"
    name: str = (origin or form).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
