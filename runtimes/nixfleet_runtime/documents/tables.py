"""Reading tables of unknown content: every value comes out with its type, or leaves a problem behind.

In place of a value that is missing or cannot be used stands a placeholder, so that reading goes on and
finds the rest; whoever reads a document asks it for `problems` and uses nothing if there are any. Keys
that nobody asked for are problems too: a misspelt key must not pass for an absent one.

Both the declarations of fleets and the configurations of both sides are read with this.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard, TypeVar

from nixfleet_runtime.documents.problems import Problem, at, closest, is_below, listed, quoted

T = TypeVar("T")
ChoiceT = TypeVar("ChoiceT", bound=StrEnum)

INTEGER_MAX = 2**31 - 1  # in minutes some 4,000 years; with more, times cannot be computed

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
    """Return what `file` says, or why it cannot be read as TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
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
        """misspelt: by path of a table, what to read some of its keys as."""
        self._problems: list[Problem] = []
        self._tables: dict[str, Table] = {}
        self._misspelt = misspelt or {}
        self.root = self.table(content, "")

    def table(self, content: Mapping[str, object], path: str) -> "Table":
        """Return the reader for a table of this document: one, however often it is asked for."""
        if path not in self._tables:
            respelt = _respelt(content, self._misspelt.get(path, {}))
            self._tables[path] = Table(self, respelt, path)
        return self._tables[path]

    def refuse(self, path: str, message: str, expected: str, found: str) -> None:
        """Note that what stands at `path` cannot be used."""
        self.add(Problem(path, message, expected, found))

    def add(self, problem: Problem) -> None:
        """Note that what stands at the problem's path cannot be used."""
        self._problems.append(problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be used so far, each place once; in its place stands a placeholder."""
        refused: dict[str, Problem] = {}
        for problem in self._problems:
            refused.setdefault(problem.path, problem)
        return tuple(it for it in refused.values() if not is_below(it.path, refused))

    def unknown_keys(self) -> tuple[Problem, ...]:
        """Return the keys that nobody asked for. Asked once everything has been read."""
        return tuple(it for table in self._tables.values() for it in table.unknown_keys())

    def misspelt(self) -> dict[str, dict[str, str]]:
        """Return, by path of a table, which of its unknown keys are probably which known one."""
        by_table = {path: table.misspelt() for path, table in self._tables.items()}
        return {path: keys for path, keys in by_table.items() if keys}


class Table:
    """One table of a document, at `path`. A key that is asked for is known, whether it is there or not."""

    def __init__(self, document: Document, content: Mapping[str, object], path: str) -> None:
        self._document = document
        self._content = content
        self._known: set[str] = set()
        self.path = path

    def has(self, key: str) -> bool:
        """Return whether the table says anything under `key`."""
        self._known.add(key)
        return key in self._content

    def require(self, key: str, expected: str) -> None:
        """Refuse the table if it says nothing under `key`."""
        if not self.has(key):
            self.refuse(key, "missing", expected, "nothing")

    def override(self, key: str, value: object) -> None:
        """Let `value` stand under `key`, whatever stands there."""
        self._content = {**self._content, key: value}

    def overlook_rest(self) -> None:
        """Know every key: what belongs into this table cannot be told."""
        self._known |= self._content.keys()

    def refuse(self, key: str | None, message: str, expected: str, found: str) -> None:
        """Note that what stands under `key`, or with `None` the table itself, cannot be used."""
        path = self.path if key is None else at(self.path, key)
        self._document.refuse(path, message, expected, found)

    def refuse_value(self, key: str, expected: str) -> None:
        """Note that what stands under `key` is of no type that could be used."""
        self.refuse(key, "cannot be used", expected, shown(self._content[key]))

    def refuse_choice(self, key: str, message: str, found: str, known: Iterable[str]) -> None:
        """Note that what stands under `key` is none of the `known`."""
        known = sorted(known)
        path, expected = at(self.path, key), f"one of {listed(known)}"
        self._document.add(Problem(path, message, expected, quoted(found), closest(found, known)))

    def is_a(self, kind: type, key: str) -> bool:
        """Return whether a value of this type stands under `key`."""
        return self.has(key) and type(self._content[key]) is kind

    def says_nothing(self) -> bool:
        """Return whether the table is empty."""
        return not self._content

    def text(self, key: str) -> str:
        """Return a string that must be there."""
        self.require(key, _EXPECTED[str])
        return self.optional_text(key) or ""

    def optional_text(self, key: str) -> str | None:
        text = self._value(key, str)
        if text == "":
            self.refuse(key, "empty", _EXPECTED[str], quoted(text))
        return text or None

    def any_text(self, key: str) -> str | None:
        """Return a string if there is one, be it empty."""
        return self._value(key, str)

    def integer(self, key: str, default: int) -> int:
        value = self._value(key, int)
        return default if value is None else value

    def optional_integer(self, key: str) -> int | None:
        """Return an integer if there is one; 1 stands in for one that cannot be used."""
        return self.integer(key, 1) if self.has(key) else None

    def number(self, key: str, default: float) -> float:
        """Return a number; in TOML one without a point is one too."""
        is_integer = type(self._content.get(key)) is int
        value = self._value(key, int if is_integer else float)
        return default if value is None else float(value)

    def instant(self, key: str) -> datetime:
        """Return a date and time, with an offset, that must be there, in UTC."""
        self.require(key, _EXPECTED[datetime])
        value = self._value(key, datetime)
        if value is not None and value.tzinfo is None:
            self.refuse(key, "without an offset", _EXPECTED[datetime], str(value))
        return datetime.max.replace(tzinfo=UTC) if value is None else value.astimezone(UTC)

    def flag(self, key: str) -> bool:
        return self._value(key, bool) or False

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
        """Return an array of strings which is not empty if it is there."""
        texts = self.texts(key)
        if self._content.get(key) == []:
            self.refuse(key, "empty", "at least one entry", "none")
        return texts

    def section(self, key: str) -> "Table":
        """Return the table under `key`, an empty one if there is none."""
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
        """Yield the keys of this table that nobody asked for."""
        for key in self._content.keys() - self._known:
            expected = f"one of {listed(self._known)}" if self._known else "no keys"
            meant = closest(key, self._known)
            path = at(self.path, key)
            yield Problem(path, "unknown key", expected, quoted(key), meant, is_key=True)

    def misspelt(self) -> dict[str, str]:
        """Return which unknown keys are probably which known one that could be read in their place."""
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
            # It is refused; but what it says is what was meant, and what follows is judged by that.
            array = [self._content[key]]
        for index, item in enumerate(array):
            path = at(at(self.path, key), index)
            yield path, self._checked(path, item, kind)

    def _checked(self, path: str, value: object, kind: type[T]) -> T | None:
        if _fits(value, kind):
            return value
        self._document.refuse(path, "cannot be used", _EXPECTED[kind], shown(value))
        return None


def _respelt(content: Mapping[str, object], meant: Mapping[str, str]) -> Mapping[str, object]:
    respelt = {key: value for key, value in content.items() if key not in meant}
    for wrong, right in meant.items():
        misplaced, known = content[wrong], respelt.get(right, {})
        if isinstance(misplaced, dict) and isinstance(known, dict):
            misplaced = {**misplaced, **known}
        respelt[right] = misplaced
    return respelt


def _fits(value: object, kind: type[T]) -> TypeGuard[T]:
    # The type itself, not `isinstance`: to Python, true is an integer. TOML's nan fails any comparison.
    return type(value) is kind and (
        not isinstance(value, (int, float)) or abs(value) <= INTEGER_MAX
    )


def shown(value: object) -> str:
    """Return a value as a problem's `found` shows it."""
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
