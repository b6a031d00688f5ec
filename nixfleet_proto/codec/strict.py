"""A cattrs converter that coerces nothing and reports every problem with its path.

Valid input, nearly everything, is read by `quick` instead. By default cattrs turns "3" into 3, turns a string
into a tuple, and raises a bare `KeyError` for an unknown tag: its hooks for these are replaced here. A new type on the
wire needs no change in this file unless it has a field of a new kind.
Source: docs/spec/wire.md, JSON.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum, auto
from functools import cached_property, partial
from operator import eq
from typing import Any, Generic, TypeAlias, TypeVar, assert_never, cast, get_args, get_origin

import attrs
import orjson
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, override

from nixfleet_proto.codec.json_text import as_dict, canonical_bytes, member_path, parse_json
from nixfleet_proto.codec.primitives import (
    BOOLEAN,
    INTEGER,
    LIST,
    NOTHING,
    OBJECT,
    ROLLOUT_ID,
    SIGNED_FIELDS,
    STRING,
    TIME,
    MalformedValue,
    format_time,
    one_of,
    read_bool,
    read_count,
    read_enum,
    read_json_value,
    read_list,
    read_object,
    read_rollout_id,
    read_signed,
    read_string,
    read_time,
    shown,
)
from nixfleet_proto.codec.problem import PROBLEMS_LOOKED_FOR, DecodeError, DecodeProblem
from nixfleet_proto.codec.quick import QuickReader, QuickReaders
from nixfleet_proto.codec.writing import Writer, class_writer
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue

T = TypeVar("T")
Reader: TypeAlias = Callable[[JsonValue, object], Any]

_READERS: dict[Any, tuple[str, Reader]] = {
    str: (STRING, read_string),
    bool: (BOOLEAN, read_bool),
    int: (INTEGER, read_count),
    datetime: (TIME, read_time),
    RolloutId: (ROLLOUT_ID, read_rollout_id),
}
# The alias refers to itself: only as an argument does it have a value that a hook can be found by.
_JSON_VALUE = get_args(FrozenMap[str, JsonValue])[1]


class Absent(Enum):
    """What is written for a field with its default."""

    AS_NULL = auto()
    LEFT_OUT = auto()
    LEFT_OUT_AS_ANY_DEFAULT = auto()


class Spelling:
    """One way to spell types in JSON.

    name_of: a field's name in JSON. reshaped: by class, what to make of a value before it is read as
    one, for older and shorter forms. left_out: by class, the fields that are left out when absent even where
    others are null, because they were added later. cases: the classes of each union that is tagged, by kind.
    """

    def __init__(
        self,
        name_of: Callable[[str], str],
        absent: Absent,
        reshaped: Mapping[type, Callable[[JsonValue], JsonValue]] = FrozenMap(),
        left_out: Mapping[type, Collection[str]] = FrozenMap(),
    ) -> None:
        self.name_of = name_of
        self.cases: dict[object, Mapping[str, type]] = {}
        self._absent = absent
        self._left_out = left_out
        self._reshaped = reshaped
        self.converter: Converter = Converter(detailed_validation=True)
        self.quick: QuickReaders = QuickReaders(
            name_of, self.cases, reshaped, self.converter.get_structure_hook
        )
        self._register_reading()
        self._register_writing()

    def add(self, form: object, read: Reader, write: Writer) -> None:
        """Spell `form` as these two do; `read` raises `MalformedValue`."""
        self.converter.register_structure_hook_func(partial(eq, form), read)
        self.quick.add(form, read)
        self.converter.register_unstructure_hook_func(partial(eq, form), write)

    def tag(self, union: object, cases: Mapping[str, type]) -> None:
        """Spell `union` as an object whose `kind`, the first in it, names the case."""
        kinds = {case: kind for kind, case in cases.items()}
        writers: dict[type, Writer] = {}
        expected = one_of(cases)
        self.cases[union] = cases

        def read(value: JsonValue, _: object = None) -> Any:
            kind = read_object(value).get("kind", NOTHING)
            if not isinstance(kind, str) or kind not in cases:
                raise MalformedValue(expected, kind, "kind")
            return self.converter.structure(value, cast("type[Any]", cases[kind]))

        def write(value: object) -> Any:
            case = type(value)
            if case not in writers:
                writers[case] = self._class_writer(case, kinds[case])
            return writers[case](value)

        self.converter.register_structure_hook(union, read)
        self.converter.register_unstructure_hook(union, write)

    def problems_of(self, error: Exception) -> tuple[DecodeProblem, ...]:
        """Return what `error`, raised while a value was read, says about it."""
        return tuple(_problems(error, "$", self.name_of))

    def _register_reading(self) -> None:
        register = self.converter.register_structure_hook_factory
        for form, (_, reader) in _READERS.items():
            self.converter.register_structure_hook(form, reader)
        self.converter.register_structure_hook(StrEnum, read_enum)
        self.converter.register_structure_hook_func(partial(eq, _JSON_VALUE), read_json_value)
        register(attrs.has, self._class_reader)
        register(_is_tuple, self._tuple_reader)
        register(_is_frozen_map, self._map_reader)

    def _register_writing(self) -> None:
        register = self.converter.register_unstructure_hook_factory
        register(
            lambda form: form in (str, RolloutId, _JSON_VALUE) or _is_str_enum(form), _as_it_is
        )
        self.converter.register_unstructure_hook(datetime, format_time)
        register(attrs.has, self._class_writer)
        register(_is_frozen_map, self._map_writer)

    def _class_reader(self, cls: type[Any]) -> Reader:
        read_members = make_dict_structure_fn(cls, self.converter, **self._overrides(cls))
        reshaped = self._reshaped.get(cls)

        def read(value: JsonValue, _: object = None) -> Any:
            return read_members(read_object(value if reshaped is None else reshaped(value)), cls)

        return read

    def _class_writer(self, cls: type[Any], kind: str | None = None) -> Writer:
        hook_of = self.converter.get_unstructure_hook
        return class_writer(cls, self.name_of, self._absent_values(cls), hook_of, kind)

    def _absent_values(self, cls: type[Any]) -> dict[str, object]:
        defaults = {field.name: field.default for field in attrs.fields(cls)}
        match self._absent:
            case Absent.AS_NULL:
                return {name: defaults[name] for name in self._left_out.get(cls, ())}
            case Absent.LEFT_OUT:
                return {name: None for name, default in defaults.items() if default is None}
            case Absent.LEFT_OUT_AS_ANY_DEFAULT:
                return {
                    name: default.factory() if hasattr(default, "factory") else default
                    for name, default in defaults.items()
                    if default is not attrs.NOTHING
                }
            case _:
                assert_never(self._absent)

    def _overrides(self, cls: type[Any]) -> dict[str, Any]:
        return {
            field.name: override(
                rename=self.name_of(field.name),
                struct_hook=read_signed if field.name in SIGNED_FIELDS else None,
            )
            for field in attrs.fields(cls)
        }

    # In place of cattrs' own readers, which read a list to its end however much of it is wrong.

    def _tuple_reader(self, form: Any) -> Reader:
        item_form = get_args(form)[0]
        read_item = self.converter.get_structure_hook(item_form)

        def read(value: JsonValue, _: object = None) -> Any:
            items: list[Any] = []
            errors: list[Exception] = []
            for index, item in enumerate(read_list(value)):
                try:
                    items.append(read_item(item, item_form))
                except Exception as error:
                    errors.append(_noted(error, index, item_form))
                    if len(errors) == PROBLEMS_LOOKED_FOR:
                        break
            _require_none(errors, form)
            return tuple(items)

        return read

    def _map_reader(self, form: Any) -> Reader:
        name_form, item_form = get_args(form)
        read_name, read_item = map(self.converter.get_structure_hook, (name_form, item_form))

        def read(value: JsonValue, _: object = None) -> Any:
            items: dict[Any, Any] = {}
            errors: list[Exception] = []
            for name, item in read_object(value).items():
                try:
                    items[read_name(name, name_form)] = read_item(item, item_form)
                except Exception as error:
                    errors.append(_noted(error, name, item_form))
                    if len(errors) == PROBLEMS_LOOKED_FOR:
                        break
            _require_none(errors, form)
            return FrozenMap(items)

        return read

    def _map_writer(self, form: Any) -> Writer:
        write_item = self.converter.get_unstructure_hook(get_args(form)[1])
        # orjson takes no name of a class of its own, such as a rollout id.
        return lambda value: {str(name): write_item(item) for name, item in value.items()}


class Coder(Generic[T]):
    """Bytes <-> one type, in one spelling. `what`: how errors call the type."""

    def __init__(self, spelling: Spelling, form: object, what: str) -> None:
        self.spelling = spelling
        self.form = form
        self.what = what

    @cached_property
    def read_quickly(self) -> QuickReader:
        """Reads what is as it should be; raises anything for what is not, or may not be."""
        return self.spelling.quick.reader_of(self.form)

    @cached_property
    def _write(self) -> Writer:
        write: Writer = self.spelling.converter.get_unstructure_hook(self.form)
        return write

    @cached_property
    def _read(self) -> Reader:
        read: Reader = self.spelling.converter.get_structure_hook(self.form)
        return read

    def decode(self, data: bytes) -> T:
        """Return the value that `data` holds. Raises: DecodeError."""
        return self.of_json(parse_json(data, self.what))

    def of_json(self, parsed: JsonValue) -> T:
        """Return the value that `parsed` spells. Raises: DecodeError."""
        try:
            value: T = self.read_quickly(parsed)
            return value
        except Exception:
            # Whatever it was: the strict reader can say it, or takes the value after all. Not from in here,
            # or its refusal would tell of two attempts.
            pass
        return self.read_strictly(parsed)

    def each_of_json(self, parsed: Sequence[JsonValue]) -> tuple[T, ...]:
        """As `of_json`, for each. Raises: DecodeError."""
        try:
            return tuple(map(self.read_quickly, parsed))
        except Exception:
            pass
        return tuple(map(self.of_json, parsed))

    def read_strictly(self, parsed: JsonValue) -> T:
        """As `of_json`, in three times the time: this is what finds every problem. Raises: DecodeError."""
        try:
            value: T = self._read(parsed, None)
        except (BaseValidationError, MalformedValue, InvalidValue) as error:
            raise DecodeError(self.what, self.spelling.problems_of(error)) from error
        return value

    def encode(self, value: T) -> bytes:
        """Return `value` in one line, fields in the order of the type."""
        return orjson.dumps(self._write(value), default=as_dict)

    def encode_canonical(self, value: T) -> bytes:
        """Return `value` as canonical JSON. Raises: Uncanonical."""
        return canonical_bytes(self._write(value))

    def to_json(self, value: T) -> JsonValue:
        """Return `value` as JSON that is not text yet."""
        parsed: JsonValue = self._write(value)
        return parsed


def camel_case(name: str) -> str:
    """Return the field name as it is spelt in JSON: `exit_code` is `exitCode`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def snake_case(name: str) -> str:
    """Return the field name as it is; `from_` loses what Python wants of it."""
    return name.removesuffix("_")


def _noted(error: Exception, member: str | int, form: object) -> Exception:
    error.add_note(IterableValidationNote("", member, form))
    return error


def _require_none(errors: list[Exception], form: Any) -> None:
    if errors:
        message = f"while structuring {form!r}"
        raise IterableValidationError(message, errors, form)  # pyright: ignore[reportCallIssue]  # by `__new__`


def _problems(
    error: BaseException, path: str, name_of: Callable[[str], str]
) -> Iterator[DecodeProblem]:
    note = _note_of(error)
    if isinstance(note, AttributeValidationNote):
        path = member_path(path, name_of(note.name))
    elif note is not None:
        path = member_path(path, note.index)
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, path, name_of)
    elif isinstance(error, MalformedValue):
        at = path if error.member is None else member_path(path, error.member)
        yield DecodeProblem(at, error.expected, shown(error.found))
    elif isinstance(error, InvalidValue):
        for problem in error.problems:
            yield DecodeProblem(f"{path}.{name_of(problem.path)}", problem.expected, problem.found)
    elif isinstance(error, KeyError) and note is not None:
        yield DecodeProblem(path, _expected_of(note.type), shown(NOTHING))
    else:
        raise error  # a defect here, not bad input


def _note_of(error: BaseException) -> AttributeValidationNote | IterableValidationNote | None:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote | IterableValidationNote):
            return note
    return None


def _expected_of(form: Any) -> str:
    if form in _READERS:
        return _READERS[form][0]
    if _is_str_enum(form):
        return one_of(form)
    if _is_tuple(form):
        return LIST
    return OBJECT


def _is_str_enum(form: Any) -> bool:
    return isinstance(form, type) and issubclass(form, StrEnum)


def _is_tuple(form: Any) -> bool:
    return get_origin(form) is tuple


def _is_frozen_map(form: Any) -> bool:
    return get_origin(form) is FrozenMap


def _as_it_is(_: object) -> Writer:
    return identity
