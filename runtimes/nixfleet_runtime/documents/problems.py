"""What is wrong with a written document, said all at once: each problem with its place and what was expected.

Whoever finds problems collects them; whoever is asked for a result raises them together, as an error of
its own. Callers act on the attributes; the text is for people.
"""

import json
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches

from attrs import field, frozen

SAID_TWICE = "said twice"  # a problem's message: of both, the first counts

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STEP = re.compile(r'\.?(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*")|\[\d+\]')
_LISTED_MAX = 8
_SHOWN_LENGTH_MAX = 60


@frozen(order=True)
class Place:
    """Where in which file something stands; lines and columns from 1, 0 where there is none to tell."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        numbers = (self.line, self.column) if self.column else (self.line,)
        return ":".join([self.file, *map(str, numbers)]) if self.line else self.file


@frozen(order=True)
class Problem:
    """One mistake. `path` is where it stands, spelled as in TOML: `policies.canary.waves[1].selector`.

    message: what is wrong. expected: what would do. found: what stands there. suggestion: what was
    probably meant. place: where it is written, as far as that is known; problems that differ in
    nothing else are equal. is_key: it is the key itself that is wrong, not what stands under it.
    """

    path: str
    message: str
    expected: str
    found: str
    suggestion: str | None = field(default=None, order=False)
    place: Place | None = field(default=None, eq=False)
    is_key: bool = field(default=False, eq=False)

    def __str__(self) -> str:
        where = "".join(f"{it}: " for it in (self.place, self.path) if it)
        meant = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{where}{self.message}: expected {self.expected}, found {self.found}{meant}"


def told(subject: str, problems: Collection[Problem]) -> str:
    """Return the message that `subject` has these problems, each on a line of its own."""
    count = len(problems)
    lines = [f"{subject} has {count} problem{'' if count == 1 else 's'}:"]
    return "\n  ".join([*lines, *map(str, problems)])


def at(path: str, key: str | int) -> str:
    """Return the path of what `key` names inside `path`; the root is the empty path."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    name = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{name}" if path else name


def keys_of(path: str) -> tuple[str | int, ...]:
    """Return the keys and indices that `path` leads through."""
    return tuple(_key_of(step.group()) for step in _STEP.finditer(path))


def parent_of(path: str) -> str:
    """Return the path of what `path` leads into last; that of a key at the root is the root."""
    steps = list(_STEP.finditer(path))
    return path[: steps[-1].start()] if steps else ""


def _key_of(step: str) -> str | int:
    if step.startswith("["):
        return int(step[1:-1])
    key = step.removeprefix(".")
    return str(json.loads(key)) if key.startswith('"') else key


def is_below(path: str, ancestors: Collection[str]) -> bool:
    """Return whether `path` leads into what stands at one of `ancestors`."""
    return path.startswith(tuple(it + into for it in ancestors for into in (".", "[")))


def is_touched(path: str, broken: Collection[str]) -> bool:
    """Return whether what stands at `path`, or a part of it, is `broken`."""
    return path in broken or any(is_below(it, [path]) for it in broken)


def unknown(path: str, what: str, name: str, known: Iterable[str]) -> Problem:
    """Return the problem of a name that refers to nothing."""
    known = sorted(known)
    expected = f"one of {listed(known)}" if known else f"no {what}"
    return Problem(path, f"no such {what}", expected, quoted(name), closest(name, known))


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return which of the known names `name` is probably a misspelling of, if any."""
    return next(iter(get_close_matches(name, sorted(known), n=1)), None)


def quoted(text: str) -> str:
    """Return `text` in quotes, cut when it is long."""
    cut = text if len(text) <= _SHOWN_LENGTH_MAX else text[:_SHOWN_LENGTH_MAX] + "…"
    return json.dumps(cut, ensure_ascii=False)


def listed(names: Iterable[str]) -> str:
    """Return `names`, sorted, in a few words however many there are."""
    known = sorted(names)
    shown = ", ".join(known[:_LISTED_MAX])
    more = len(known) - _LISTED_MAX
    return f"{shown} and {more} more" if more > 0 else shown
