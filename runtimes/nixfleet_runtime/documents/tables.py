"""Reads tables of unknown content: each value is returned with its type, or recorded as a problem.

A placeholder replaces a value that is missing or unusable, so that reading continues and finds all problems. The caller
checks `problems` at the end and discards the result if there are any. Keys that were never read are problems too,
because a misspelt key must not count as absent.

Fleet declarations and the configurations of both sides are read with this.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard, TypeVar

from nixfleet_runtime.documents.problems import Problem, at, closest, is_below, listed, quoted
from nixfleet_runtime.storage.regular_file import read_regular_file

T = TypeVar("T")
ChoiceT = TypeVar("ChoiceT", bound=StrEnum)

INTEGER_MAX = (
    2**31 - 1
)  # in minutes about 4,000 years; larger values overflow when times are computed

_EXPECTED: Mapping[type, str] = {
    str: "a string",
    int: f"an integer up to {INTEGER_MAX}",
    float: f"a number up to {INTEGER_MAX}",
    bool: "true or false",
    list: "an array, [...]",
    dict: "a table, {...}",
    datetime: "a date and time with an offset, 2026-05-16T01:00:00Z",
}


def read_toml(file: Path) -> Mapping[str, object] | Problem:
    """Return the parsed content of `file`, or why it cannot be read as TOML."""
    try:
        return tomllib.loads(read_regular_file(file).decode())
    except tomllib.TOMLDecodeError as error:
        return Problem(str(file), "not TOML", "TOML 1.0", str(error))
    except UnicodeDecodeError as error:
        return Problem(str(file), "not TOML", "UTF-8", str(error))
    except OSError as error:
        found = error.strerror or str(error)
        return Problem(str(file), "cannot be read", "a readable file", found)


class Document:
    """One document while it is read. `root` is its outermost table."""

    def __init__(
        self, content: Mapping[str, object], misspelt: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """misspelt: corrections of misspelt keys, by the path of their table."""
        self._problems: list[Problem] = []
        self._tables: dict[str, Table] = {}
        self._misspelt = misspelt or {}
        self.root = self.table(content, "")

    def table(self, content: Mapping[str, object], path: str) -> "Table":
        """Return the reader for the table at `path`; the same one at every call."""
        if path not in self._tables:
            corrected = _corrected(content, self._misspelt.get(path, {}))
            self._tables[path] = Table(self, corrected, path)
        return self._tables[path]

    def refuse(self, path: str, message: str, expected: str, found: str) -> None:
        """Record that the value at `path` cannot be used."""
        self.add(Problem(path, message, expected, found))

    def add(self, problem: Problem) -> None:
        """Record a problem."""
        self._problems.append(problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems so far: at most one per path, and none inside another."""
        refused: dict[str, Problem] = {}
        for problem in self._problems:
            refused.setdefault(problem.path, problem)
        return tuple(each for each in refused.values() if not is_below(each.path, refused))

    def unknown_keys(self) -> tuple[Problem, ...]:
        """Return a problem for each key that was not read. Called once everything has been read."""
        return tuple(key for table in self._tables.values() for key in table.unknown_keys())

    def misspelt(self) -> dict[str, dict[str, str]]:
        """Return the unknown keys that are probably known ones, with those, by the path of their table."""
        by_table = {path: table.misspelt() for path, table in self._tables.items()}
        return {path: keys for path, keys in by_table.items() if keys}


class Table:
    """One table of a document, at `path`. Reading a key makes it known, whether it is present or not."""

    def __init__(self, document: Document, content: Mapping[str, object], path: str) -> None:
        self._document = document
        self._content = content
        self._known: set[str] = set()
        self.path = path

    def has(self, key: str) -> bool:
        """Return whether `key` is present."""
        self._known.add(key)
        return key in self._content

    def require(self, key: str, expected: str) -> None:
        """Record a problem if `key` is missing."""
        if not self.has(key):
            self.refuse(key, "missing", expected, "nothing")

    def is_given(self, key: str, value: str) -> bool:
        """Return whether `key` is present with just this text. If so, it is a known key."""
        is_it = self._content.get(key) == value
        self._known |= {key} if is_it else set()
        return is_it

    def unsupported(self, key: str, expected: str) -> None:
        """Refuse `key` by name if it is present. It is not among the keys that are known."""
        if key in self._content:
            self._known.add(key)
            self.refuse(key, "not supported", expected, shown(self._content[key]))

    def override(self, key: str, value: object) -> None:
        """Set the value of `key`, replacing the one in the document."""
        self._content = {**self._content, key: value}

    def accept_unknown_keys(self) -> None:
        """Report no unknown keys, because the known keys of this table cannot be determined."""
        self._known |= self._content.keys()

    def refuse(self, key: str | None, message: str, expected: str, found: str) -> None:
        """Record that the value of `key` cannot be used; with `None`, the table itself."""
        path = self.path if key is None else at(self.path, key)
        self._document.refuse(path, message, expected, found)

    def refuse_value(self, key: str, expected: str) -> None:
        """Record that the value of `key` has an unusable type."""
        self.refuse(key, "cannot be used", expected, shown(self._content[key]))

    def refuse_choice(self, key: str, message: str, found: str, known: Iterable[str]) -> None:
        """Record that the value of `key` is none of `known`."""
        known = sorted(known)
        path, expected = at(self.path, key), f"one of {listed(known)}"
        self._document.add(Problem(path, message, expected, quoted(found), closest(found, known)))

    def is_a(self, kind: type, key: str) -> bool:
        """Return whether the value of `key` is of exactly this type."""
        return self.has(key) and type(self._content[key]) is kind

    def is_empty(self) -> bool:
        """Return whether the table is empty."""
        return not self._content

    def text(self, key: str) -> str:
        """Return a required string."""
        self.require(key, _EXPECTED[str])
        return self.optional_text(key) or ""

    def optional_text(self, key: str) -> str | None:
        text = self._value(key, str)
        if text == "":
            self.refuse(key, "empty", _EXPECTED[str], quoted(text))
        return text or None

    def any_text(self, key: str) -> str | None:
        """Return an optional string, which may be empty."""
        return self._value(key, str)

    def integer(self, key: str, default: int) -> int:
        value = self._value(key, int)
        return default if value is None else value

    def integer_from(self, key: str, default: int, *, at_least: int) -> int:
        """Return an integer that is not less than `at_least`; for one that is, `default` is the placeholder."""
        value = self.integer(key, default)
        if value < at_least:
            self.refuse(key, "out of range", f"at least {at_least}", str(value))
            return default
        return value

    def raw(self, key: str) -> object:
        """Return the value of `key` as it is in the document; `None` if absent."""
        return self._content[key] if self.has(key) else None

    def optional_integer(self, key: str) -> int | None:
        """Return an optional integer; the placeholder for an unusable one is 1."""
        return self.integer(key, 1) if self.has(key) else None

    def number(self, key: str, default: float) -> float:
        """Return a number; a TOML integer is accepted too."""
        is_integer = type(self._content.get(key)) is int
        value = self._value(key, int if is_integer else float)
        return default if value is None else float(value)

    def instant(self, key: str) -> datetime:
        """Return a required date and time with an offset, converted to UTC."""
        self.require(key, _EXPECTED[datetime])
        value = self._value(key, datetime)
        if value is not None and value.tzinfo is None:
            self.refuse(key, "without an offset", _EXPECTED[datetime], str(value))
        return datetime.max.replace(tzinfo=UTC) if value is None else value.astimezone(UTC)

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._value(key, bool)
        return default if value is None else value

    def choice(self, key: str, default: ChoiceT) -> ChoiceT:
        """Return one of the values of `default`'s enumeration."""
        text = self.optional_text(key)
        known = {choice.value: choice for choice in type(default)}
        if text is not None and text not in known:
            self.refuse_choice(key, "unknown value", text, known)
        return known.get(text or "", default)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings."""
        return tuple(text or "" for _, text in self._items(key, str))

    def some_texts(self, key: str) -> tuple[str, ...]:
        """Return an optional array of strings, which must not be empty if present."""
        texts = self.texts(key)
        if self._content.get(key) == []:
            self.refuse(key, "empty", "at least one entry", "none")
        return texts

    def section(self, key: str) -> "Table":
        """Return the table under `key`; empty if absent."""
        return self._document.table(self._value(key, dict) or {}, at(self.path, key))

    def sections(self, key: str) -> dict[str, "Table"]:
        """Return the tables in the table under `key`, by name."""
        outer = self.section(key)
        return {name: outer.section(name) for name in outer._content}

    def array(self, key: str) -> tuple["Table", ...]:
        """Return the tables of an array of tables."""
        items = self._items(key, dict)
        return tuple(self._document.table(item or {}, path) for path, item in items)

    def unknown_keys(self) -> Iterator[Problem]:
        """Yield a problem for each key of this table that was not read."""
        for key in self._content.keys() - self._known:
            expected = f"one of {listed(self._known)}" if self._known else "no keys"
            meant = closest(key, self._known)
            path = at(self.path, key)
            yield Problem(path, "unknown key", expected, quoted(key), meant, is_key=True)

    def misspelt(self) -> dict[str, str]:
        """Return the unknown keys that are probably misspelt, each with the known key to read it as."""
        meant = {
            key: closest(key, filter(self._could_be(key), self._known))
            for key in sorted(self._content.keys() - self._known)
        }
        return {key: right for key, right in meant.items() if right is not None}

    def _could_be(self, key: str) -> Callable[[str], bool]:
        both_tables = isinstance(self._content[key], dict)
        return lambda known: (
            known not in self._content or (both_tables and isinstance(self._content[known], dict))
        )

    def _value(self, key: str, kind: type[T]) -> T | None:
        if not self.has(key):
            return None
        return self._checked(at(self.path, key), self._content[key], kind)

    def _items(self, key: str, kind: type[T]) -> Iterator[tuple[str, T | None]]:
        array: list[object] = self._value(key, list) or []
        if type(self._content.get(key)) is kind:
            # Already refused as no array; used as its only item, so that further checks are meaningful.
            array = [self._content[key]]
        for index, item in enumerate(array):
            path = at(at(self.path, key), index)
            yield path, self._checked(path, item, kind)

    def _checked(self, path: str, value: object, kind: type[T]) -> T | None:
        if _fits(value, kind):
            return value
        self._document.refuse(path, "cannot be used", _EXPECTED[kind], shown(value))
        return None


def _corrected(content: Mapping[str, object], meant: Mapping[str, str]) -> Mapping[str, object]:
    corrected = {key: value for key, value in content.items() if key not in meant}
    for wrong, right in meant.items():
        misplaced, present = content[wrong], corrected.get(right, {})
        if isinstance(misplaced, dict) and isinstance(present, dict):
            misplaced = {**misplaced, **present}
        corrected[right] = misplaced
    return corrected


def _fits(value: object, kind: type[T]) -> TypeGuard[T]:
    # The exact type, not `isinstance`: in Python a bool is an int. TOML's nan fails the comparison.
    return type(value) is kind and (
        not isinstance(value, (int, float)) or abs(value) <= INTEGER_MAX
    )


def shown(value: object) -> str:
    """Return a value in the form of a problem's `found`."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            return str(value)
