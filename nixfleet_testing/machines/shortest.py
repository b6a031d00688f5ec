"""The shortest part of a history that still fails in the same way. Hypothesis shrinks well, but not to the end.

A history runs without Hypothesis, so calls can be left out and the rest be run again: first one after the other,
then, when few are left, every combination of them. In the same way: the same exception, raised on the same line.
"""

import traceback
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

COMBINED_MAX = 12
"""With so many calls there are 4,096 parts, which take a second or two."""

Call: TypeAlias = tuple[str, tuple[object, ...]]
"""A method of the machine, and its arguments."""

_Origin: TypeAlias = tuple[type[BaseException], str, int | None]


def shortest_part(
    machine: type[object], calls: Sequence[Call], failure: Exception
) -> Sequence[Call]:
    """Return the shortest part of `calls` that fails on a new `machine` as `failure` did.

    All of them, when a new machine does not fail as the first one did: then something else has a hand in it.
    """
    origin = _origin(failure)
    if not _fails(machine, calls, origin):
        return calls
    left = _without_needless(machine, calls, origin)
    if len(left) > COMBINED_MAX:
        return left
    return next(part for part in _parts(left) if _fails(machine, part, origin))


def _without_needless(
    machine: type[object], calls: Sequence[Call], origin: _Origin
) -> Sequence[Call]:
    """Leave out what can go, until nothing can: from the end, where less depends on it."""
    place = len(calls)
    while place:
        place -= 1
        fewer = (*calls[:place], *calls[place + 1 :])
        if _fails(machine, fewer, origin):
            calls, place = fewer, len(fewer)
    return calls


def _parts(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    """Yield the parts of `calls` in their order, the short ones first, and all of them last."""
    for size in range(len(calls) + 1):
        yield from combinations(calls, size)


def _fails(machine: type[object], calls: Sequence[Call], origin: _Origin) -> bool:
    again = machine()
    try:
        for method, arguments in calls:
            getattr(again, method)(*arguments)
    except Exception as failure:
        return _origin(failure) == origin
    return False


def _origin(failure: Exception) -> _Origin:
    last = traceback.extract_tb(failure.__traceback__)[-1]
    return type(failure), last.filename, last.lineno
