"""Shortens a failing history further than Hypothesis does: to one from which no call or pair can be left out.

A history runs without Hypothesis, so calls can be left out and the rest be run again. The rest must fail in the same
way: with the same exception, raised on the same line. First chunks are left out, then single calls and pairs, until
neither helps; then every shorter part is tried, the shortest first. Single calls are not enough: of two calls that
cancel each other, each is needed as long as the other one is there. The cost is bounded by a number of calls and not
by time, so that equal histories give equal results on every machine.
"""

import traceback
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from typing import TypeAlias

CALLS_MAX = 100_000
"""How many calls may be made in all. Of a host machine that takes about two seconds."""

Call: TypeAlias = tuple[str, tuple[object, ...]]
"""A method of the machine, and its arguments."""

_Origin: TypeAlias = tuple[type[BaseException], str, int | None]


def shortest_part(
    machine: type[object],
    calls: Sequence[Call],
    failure: Exception,
    *,
    calls_max: int = CALLS_MAX,
) -> Sequence[Call]:
    """Return a part of `calls`, in their order, that fails on a new `machine` as `failure` did.

    No part of it that lacks one or two of its calls fails in the same way; and no shorter part of `calls` that was
    left then does at all, if trying them takes fewer than `calls_max` calls. When the limit is reached before, what
    was found until then is returned. All of `calls`, when a new machine does not fail as the first one did: then the
    failure depends on something else.
    """
    replays = _Replays(machine, _origin(failure), calls_max)
    if not replays.fails(calls):
        return calls
    left = _without_needless(calls, replays)
    return _shortest(left, replays)


class _Replays:
    """Runs histories on new machines, and counts their calls."""

    def __init__(self, machine: type[object], origin: _Origin, calls_max: int) -> None:
        self._machine = machine
        self._origin = origin
        self._calls_left = calls_max

    def can_afford(self, calls: int) -> bool:
        """Return whether so many calls may still be made."""
        return calls <= self._calls_left

    def fails(self, calls: Sequence[Call]) -> bool:
        """Return whether `calls` fail as the first failure did."""
        again = self._machine()
        try:
            for method, arguments in calls:
                self._calls_left -= 1
                getattr(again, method)(*arguments)
        except Exception as failure:
            return _origin(failure) == self._origin
        return False


def _without_needless(calls: Sequence[Call], replays: _Replays) -> Sequence[Call]:
    """Leave out chunks, then single calls and pairs, until none can go; from the end, where less depends on it."""
    size = 1 << (len(calls) // 2).bit_length()
    while size:
        calls = _without_chunks(calls, size, replays)
        size //= 2
    while (fewer := _one_or_two_fewer(calls, replays)) is not None:
        calls = fewer
    return calls


def _without_chunks(calls: Sequence[Call], size: int, replays: _Replays) -> Sequence[Call]:
    end = len(calls)
    while end >= size and replays.can_afford(len(calls)):
        fewer = (*calls[: end - size], *calls[end:])
        if replays.fails(fewer):
            calls = fewer
            end -= size
        else:
            end -= 1
    return calls


def _one_or_two_fewer(calls: Sequence[Call], replays: _Replays) -> Sequence[Call] | None:
    for fewer in _with_one_or_two_left_out(calls):
        if not replays.can_afford(len(fewer)):
            return None
        if replays.fails(fewer):
            return fewer
    return None


def _with_one_or_two_left_out(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    places = range(len(calls) - 1, -1, -1)
    for size in (1, 2):
        for left_out in combinations(places, size):
            yield [call for place, call in enumerate(calls) if place not in left_out]


def _shortest(calls: Sequence[Call], replays: _Replays) -> Sequence[Call]:
    """Return the first part that fails, the short ones first; a length that costs too much ends the search."""
    for size in range(len(calls) - 2):
        if not replays.can_afford(size * comb(len(calls), size)):
            break
        for part in combinations(calls, size):
            if replays.fails(part):
                return part
    return calls


def _origin(failure: Exception) -> _Origin:
    last = traceback.extract_tb(failure.__traceback__)[-1]
    return type(failure), last.filename, last.lineno
