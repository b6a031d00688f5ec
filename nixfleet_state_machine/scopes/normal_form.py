"""The normal form of a selector expression: equivalent expressions have equal forms. Pure.

The form is the set of all prime clauses: each holds for every selected host, and would not with any part left out.
Two expressions select the same hosts in every fleet if and only if these sets are equal.

They are computed from the complement, as cubes (name in a set, channel in a set, tags present, tags absent).
The consensus of each pair of cubes is added and cubes covered by another one are removed, until neither changes
anything. The result is the set of prime cubes, which is unique; the negation of each is a clause. The method is Quine's
iterated consensus, for variables of many values.
Source: docs/spec/declarations.md, Selectors.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import assert_never

from attrs import frozen

from nixfleet_proto.fleet import Selector
from nixfleet_state_machine.scopes.expression import (
    AllOf,
    AnyOf,
    ChannelIs,
    Expression,
    HasTag,
    HostIs,
    Not,
)

CLAUSES_MAX = 64
_CUBES_MAX = 2 * CLAUSES_MAX  # of intermediate results


class TooManyClauses(ValueError):
    """The normal form of a selector is too large. `limit` is `CLAUSES_MAX`."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the normal form of a selector has more than {self.limit} clauses"


@frozen
class Names:
    """A set of names: these, or with `others` all except these. The set of all possible names is infinite."""

    names: frozenset[str] = frozenset()
    others: bool = False

    def __invert__(self) -> "Names":
        return Names(self.names, not self.others)

    def __and__(self, other: "Names") -> "Names":
        if self.others and other.others:
            return Names(self.names | other.names, others=True)
        if self.others:
            return Names(other.names - self.names)
        return Names(self.names - other.names if other.others else self.names & other.names)

    def __or__(self, other: "Names") -> "Names":
        return ~(~self & ~other)

    def __le__(self, other: "Names") -> bool:
        return (self & other) == self

    @property
    def is_empty(self) -> bool:
        return not self.others and not self.names


ANY = Names(others=True)
NONE = Names()


@frozen
class Clause:
    """A disjunction: the name or channel is in a set, or the host has or lacks at least one of some tags."""

    hosts: Names = NONE
    channels: Names = NONE
    has_any: frozenset[str] = frozenset()
    lacks_any: frozenset[str] = frozenset()


@frozen
class NormalForm:
    """The conjunction of all prime clauses. No clause: every host; the empty clause alone: no host."""

    clauses: frozenset[Clause]

    @property
    def is_nobody(self) -> bool:
        return Clause() in self.clauses


@frozen
class _Cube:
    """The hosts for which every part holds."""

    hosts: Names = ANY
    channels: Names = ANY
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        return self.hosts.is_empty or self.channels.is_empty or bool(self.has & self.lacks)

    def covers(self, other: "_Cube") -> bool:
        return (
            self.has <= other.has
            and self.lacks <= other.lacks
            and other.hosts <= self.hosts
            and other.channels <= self.channels
        )

    def without_tag(self, tag: str) -> "_Cube":
        return _Cube(self.hosts, self.channels, self.has - {tag}, self.lacks - {tag})


def normal_form(expression: Expression) -> NormalForm:
    """Return the form that `expression` shares with all expressions equivalent to it. Raises: TooManyClauses."""
    primes = _primes(_cubes(expression, is_meant=False))
    return NormalForm(
        frozenset(Clause(~each.hosts, ~each.channels, each.lacks, each.has) for each in primes)
    )


def is_same(one: Expression, other: Expression) -> bool:
    """Return whether two expressions select the same hosts in every fleet. Raises: TooManyClauses."""
    return normal_form(one) == normal_form(other)


def plain_selector(form: NormalForm) -> Selector | None:
    """Return the plain selector with that form; `None` if there is none, or it selects no host."""
    clauses = () if form.is_nobody else form.clauses
    named = [each.hosts.names for each in clauses if each == Clause(hosts=Names(each.hosts.names))]
    followed = [
        each.channels.names for each in clauses if each == _follows_one(each.channels.names)
    ]
    tagged = [each.has_any for each in clauses if each == Clause(has_any=each.has_any)]
    choices = [names for names in tagged if len(names) > 1]
    if form.is_nobody or len(choices) > 1 or len(named + followed + tagged) < len(clauses):
        return None
    return Selector(
        all=not clauses,
        hosts=_sorted(named),
        channel=next(iter(_sorted(followed)), None),
        tags=_sorted(names for names in tagged if len(names) == 1),
        tags_any=_sorted(choices),
    )


def _follows_one(names: frozenset[str]) -> Clause | None:
    return Clause(channels=Names(names)) if len(names) == 1 else None


def _sorted(sets: Iterable[frozenset[str]]) -> tuple[str, ...]:
    return tuple(sorted(name for names in sets for name in names))


def _cubes(expression: Expression, *, is_meant: bool) -> list[_Cube]:
    """Cubes that together are the hosts that are meant, or those that are not."""
    match expression:
        case HasTag():
            tag = frozenset((expression.name,))
            return [_Cube(has=tag) if is_meant else _Cube(lacks=tag)]
        case HostIs():
            names = Names(expression.names, others=not is_meant)
            return [] if names.is_empty else [_Cube(hosts=names)]
        case ChannelIs():
            names = Names(expression.names, others=not is_meant)
            return [] if names.is_empty else [_Cube(channels=names)]
        case AllOf() | AnyOf():
            inner = (_cubes(part, is_meant=is_meant) for part in expression.parts)
            return _in_all(inner) if isinstance(expression, AllOf) == is_meant else _in_any(inner)
        case Not():
            return _cubes(expression.part, is_meant=not is_meant)
        case _:
            assert_never(expression)


def _in_any(covers: Iterable[list[_Cube]]) -> list[_Cube]:
    return _absorbed(cube for cover in covers for cube in cover)


def _in_all(covers: Iterable[list[_Cube]]) -> list[_Cube]:
    together = [_Cube()]
    for cover in covers:
        together = _absorbed(_meet(a, b) for a, b in product(together, cover))
    return together


def _meet(a: _Cube, b: _Cube) -> _Cube:
    return _Cube(a.hosts & b.hosts, a.channels & b.channels, a.has | b.has, a.lacks | b.lacks)


def _absorbed(cubes: Iterable[_Cube]) -> list[_Cube]:
    """Return the cubes that no other cube covers."""
    kept = list[_Cube]()
    for cube in cubes:
        _add(kept, cube)
    return kept


def _add(kept: list[_Cube], cube: _Cube) -> bool:
    """Add `cube` unless another covers it, and remove those it covers. Return whether it was added."""
    if cube.is_empty or any(other.covers(cube) for other in kept):
        return False
    kept[:] = [other for other in kept if not cube.covers(other)]
    kept.append(cube)
    if len(kept) > _CUBES_MAX:
        raise TooManyClauses(CLAUSES_MAX)
    return True


def _primes(cover: list[_Cube]) -> list[_Cube]:
    primes, waiting = list[_Cube](), list(cover)
    while waiting:
        cube = waiting.pop()
        others = tuple(primes)
        if _add(primes, cube):
            waiting.extend(found for other in others for found in _consensus(cube, other))
    if len(primes) > CLAUSES_MAX:
        raise TooManyClauses(CLAUSES_MAX)
    return primes


def _consensus(a: _Cube, b: _Cube) -> Iterator[_Cube]:
    """Yield the consensus of two cubes: the union in one variable, the intersection in all others."""
    met = _meet(a, b)
    contrary = (a.has & b.lacks) | (a.lacks & b.has)
    if not contrary:
        yield _Cube(a.hosts | b.hosts, met.channels, met.has, met.lacks)
        yield _Cube(met.hosts, a.channels | b.channels, met.has, met.lacks)
    elif len(contrary) == 1:
        yield met.without_tag(*contrary)
