"""Problems of a written document, each with its path, its place, and what was expected and found.

Functions that find problems collect them; functions that return a result raise them together, in their own error.
Callers act on the attributes; the text is for people.
"""

import json
import re
from collections.abc import Collection, Iterable

from attrs import field, frozen

DUPLICATE = "duplicate"  # a problem's message: the first one counts

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STEP = re.compile(r'\.?(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*")|\[\d+\]')
_DIGIT = re.compile(r"[0-9]")
_LETTERS_PER_EDIT = 3
_LISTED_MAX = 8
_SHOWN_LENGTH_MAX = 60


@frozen(order=True)
class Place:
    """A position in a file. Lines and columns count from 1; 0 if unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        numbers = (self.line, self.column) if self.column else (self.line,)
        return ":".join([self.file, *map(str, numbers)]) if self.line else self.file


@frozen(order=True)
class Problem:
    """One mistake. path: its location in the document, in TOML syntax: `policies.canary.waves[1].selector`.

    message: what is wrong. expected: what is valid. found: the value there. suggestion: what was probably meant. place:
    its position in a file, if known; ignored in comparisons. is_key: the key itself is wrong, not its value.
    """

    path: str
    message: str
    expected: str
    found: str
    suggestion: str | None = field(default=None, order=False)
    place: Place | None = field(default=None, eq=False)
    is_key: bool = field(default=False, eq=False)

    def __str__(self) -> str:
        where = "".join(f"{part}: " for part in (self.place, self.path) if part)
        meant = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{where}{self.message}: expected {self.expected}, found {self.found}{meant}"


def problem_report(subject: str, problems: Collection[Problem]) -> str:
    """Return the message that `subject` has these problems, one per line."""
    count = len(problems)
    lines = [f"{subject} has {count} problem{'' if count == 1 else 's'}:"]
    return "\n  ".join([*lines, *map(str, problems)])


def at(path: str, key: str | int) -> str:
    """Return the path of `key` inside `path`; the root is the empty path."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    name = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{name}" if path else name


def keys_of(path: str) -> tuple[str | int, ...]:
    """Return the keys and indices of `path`."""
    return tuple(_key_of(step.group()) for step in _STEP.finditer(path))


def parent_of(path: str) -> str:
    """Return `path` without its last key or index."""
    steps = list(_STEP.finditer(path))
    return path[: steps[-1].start()] if steps else ""


def _key_of(step: str) -> str | int:
    if step.startswith("["):
        return int(step[1:-1])
    key = step.removeprefix(".")
    return str(json.loads(key)) if key.startswith('"') else key


def is_below(path: str, ancestors: Collection[str]) -> bool:
    """Return whether `path` is inside one of `ancestors`."""
    return path.startswith(
        tuple(ancestor + next_ for ancestor in ancestors for next_ in (".", "["))
    )


def is_touched(path: str, broken: Collection[str]) -> bool:
    """Return whether `path`, or something inside it, is `broken`."""
    return path in broken or any(is_below(each, [path]) for each in broken)


def unknown(path: str, kind: str, name: str, known: Iterable[str]) -> Problem:
    """Return the problem of a name that does not exist. kind: kind it should name."""
    known = sorted(known)
    expected = f"one of {listed(known)}" if known else f"no {kind}"
    return Problem(path, f"no such {kind}", expected, quoted(name), closest(name, known))


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is probably a misspelling of, `None` where a guess would be a wild one.

    That is the nearest name within one edit (a letter added, dropped, replaced, or swapped with its neighbour) for
    every three letters; otherwise the only one that extends or abbreviates `name`, as rollback-and-halt does rollback.
    Names with other numbers, as web-01 and web-07, are different names.
    """
    others = sorted(each for each in known if each != name and not _is_another_number(name, each))
    reach = len(name) // _LETTERS_PER_EDIT
    near = [(_edits(name.casefold(), each.casefold(), reach), each) for each in others]
    nearest = min(near, default=(reach + 1, ""))
    if nearest[0] <= reach:
        return nearest[1]
    longer = [each for each in others if _is_part(name, each) or _is_part(each, name)]
    return longer[0] if len(longer) == 1 else None


def _is_another_number(name: str, other: str) -> bool:
    """Return whether the two differ in digits alone, and by more than their order."""
    is_same_shape = _DIGIT.sub("0", name) == _DIGIT.sub("0", other)
    return is_same_shape and sorted(name) != sorted(other)


def _is_part(short: str, long: str) -> bool:
    """Return whether `long` has the letters of `short` in their order, and is not more than three times as long."""
    letters = iter(long)
    is_inside = all(letter in letters for letter in short)
    return is_inside and len(long) <= 3 * len(short) and len(short) >= _LETTERS_PER_EDIT


def _edits(name: str, other: str, limit: int) -> int:
    """Return the optimal string alignment distance, or some number above `limit` if it is above that."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(name, 1):
        earlier, before, row = before, row, [i]
        for j, across in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != across))
            if i > 1 and j > 1 and letter == other[j - 2] and name[i - 2] == across:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return row[-1]


def quoted(text: str) -> str:
    """Return `text` in quotes, truncated if it is long."""
    cut = text if len(text) <= _SHOWN_LENGTH_MAX else text[:_SHOWN_LENGTH_MAX] + "…"
    return json.dumps(cut, ensure_ascii=False)


def listed(names: Iterable[str]) -> str:
    """Return `names`, sorted and comma-separated; all after the first few are counted."""
    known = sorted(names)
    shown = ", ".join(known[:_LISTED_MAX])
    more = len(known) - _LISTED_MAX
    return f"{shown} and {more} more" if more > 0 else shown
