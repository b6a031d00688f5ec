"""Selectors on one line: `tags:web & !hosts:web-03`. Parses any selector; writes its normal form.

    all, nobody               every host, no host
    hosts:a,b   channel:a,b   the name, the channel is one of these
    tags:a,b   tags_any:a,b   has all of these, at least one of these
    !x   x & y   x | y   (x)  not, and, or; `!` binds tightest, `|` least

Blanks are ignored. Equivalent selectors are written as the same line, and parsing that line gives an equivalent one.
Source: docs/spec/declarations.md, Selectors.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import frozen

from nixfleet_state_machine.scopes.expression import (
    EVERYBODY,
    NOBODY,
    AllOf,
    AnyOf,
    Expression,
    Not,
    channels,
    hosts,
    tags,
    tags_any,
)
from nixfleet_state_machine.scopes.normal_form import Clause, Names, NormalForm, normal_form

PARTS: Mapping[str, Callable[..., Expression]] = {
    "hosts": hosts,
    "channel": channels,
    "tags": tags,
    "tags_any": tags_any,
}
_WORDS: Mapping[str, Expression] = {"all": EVERYBODY, "nobody": NOBODY}
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+|[:,&|!()]|\S")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_DEPTH_MAX = 32
_EXPECTED = f"all, nobody, a part such as tags:web (of {', '.join(PARTS)}), '!' or '('"


class NotASelector(ValueError):
    """A line is not a selector. `at`: the index of the character, from 0; `expected` and `found`: there."""

    def __init__(self, line: str, at: int, expected: str, found: str) -> None:
        super().__init__(line, at, expected, found)
        self.line = line
        self.at = at
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"character {self.at + 1}: expected {self.expected}, found {self.found}"


def parse_line(line: str) -> Expression:
    """Return the expression that a line stands for. Raises: NotASelector."""
    reader = _Reader(line)
    expression = reader.any_of(0)
    reader.require_end()
    return expression


def one_line(expression: Expression) -> str:
    """Return `expression` on one line, in normal form. Raises: TooManyClauses."""
    return line_of(normal_form(expression))


def line_of(form: NormalForm) -> str:
    """Return the line of a normal form, such as `channel:stable & tags:eu,web & !hosts:web-03`."""
    if form.is_nobody:
        return "nobody"
    simple = sorted(part for part in map(_simple, form.clauses) if part is not None)
    mixed = sorted(_mixed(clause) for clause in form.clauses if _simple(clause) is None)
    if len(mixed) == len(form.clauses) == 1:
        return mixed[0]
    written = [*_merged(simple), *(f"({text})" for text in mixed)]
    return " & ".join(written) or "all"


@frozen(order=True)
class _Simple:
    """A clause with one part, in the order in which parts are written."""

    is_not: bool
    part: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'!' if self.is_not else ''}{self.part}:{','.join(self.names)}"


def _simple(clause: Clause) -> _Simple | None:
    parts = list(_parts(clause))
    return parts[0] if len(parts) == 1 else None


def _parts(clause: Clause) -> Iterator[_Simple]:
    for part, of in (("channel", clause.channels), ("hosts", clause.hosts)):
        if of != Names():
            yield _Simple(of.others, part, tuple(sorted(of.names)))
    for is_not, tagged in ((False, clause.has_any), (True, clause.lacks_any)):
        if tagged:
            # With one tag, `tags` and `tags_any` are equivalent; the shorter is written.
            several = "tags" if is_not or len(tagged) == 1 else "tags_any"
            yield _Simple(is_not, several, tuple(sorted(tagged)))


def _mixed(clause: Clause) -> str:
    return " | ".join(map(str, sorted(_parts(clause))))


def _merged(simple: Iterable[_Simple]) -> Iterator[str]:
    """Yield the parts, with the required single tags as one part and the excluded ones as another."""
    single = {False: list[str](), True: list[str]()}
    others = list[_Simple]()
    for part in simple:
        if part.part == "tags" and len(part.names) == 1:
            single[part.is_not].extend(part.names)
        else:
            others.append(part)
    has, lacks = single[False], single[True]
    if has:
        others.append(_Simple(False, "tags", tuple(has)))
    if lacks:
        others.append(_Simple(True, "tags" if len(lacks) == 1 else "tags_any", tuple(lacks)))
    yield from map(str, sorted(others))


class _Reader:
    """A recursive-descent parser of one line."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._tokens = [(token.group(), token.start()) for token in _TOKEN.finditer(line)]
        self._next = 0

    def any_of(self, depth: int) -> Expression:
        parts = [self._all_of(depth)]
        while self._takes("|"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def require_end(self) -> None:
        if self._peek():
            raise self._refused("'&', '|' or the end")

    def _all_of(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self._takes("&"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _one(self, depth: int) -> Expression:
        if depth > _DEPTH_MAX:
            raise self._refused(f"at most {_DEPTH_MAX} '!' and '(' in one another")
        if self._takes("!"):
            return Not(self._one(depth + 1))
        if self._takes("("):
            inner = self.any_of(depth + 1)
            if not self._takes(")"):
                raise self._refused("')'")
            return inner
        return self._part()

    def _part(self) -> Expression:
        word = self._peek()
        if word in _WORDS:
            self._next += 1
            return _WORDS[word]
        if word not in PARTS:
            raise self._refused(_EXPECTED)
        self._next += 1
        if not self._takes(":"):
            raise self._refused(f"':' and the {word}")
        return PARTS[word](*self._names())

    def _names(self) -> Iterator[str]:
        yield self._name()
        while self._takes(","):
            yield self._name()

    def _name(self) -> str:
        name = self._peek()
        if not _NAME.fullmatch(name):
            raise self._refused("a name")
        self._next += 1
        return name

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _takes(self, token: str) -> bool:
        is_next = self._peek() == token
        self._next += is_next
        return is_next

    def _refused(self, expected: str) -> NotASelector:
        if not self._peek():
            return NotASelector(self._line, len(self._line), expected, "the end")
        token, at = self._tokens[self._next]
        return NotASelector(self._line, at, expected, f"'{token}'")
