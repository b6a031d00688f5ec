"""Every way through a machine's states, so that a record in each state is drawn as often as in any other."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

S = TypeVar("S")


def walks_to_states(
    moves: Iterable[tuple[S, S]], start: S, length_max: int
) -> Mapping[S, tuple[tuple[tuple[S, S], ...], ...]]:
    """Return the walks from `start` to each state, the shortest first, of at most `length_max` moves."""
    known = tuple(moves)
    to: dict[S, list[tuple[tuple[S, S], ...]]] = {start: [()]}
    latest: list[tuple[tuple[S, S], ...]] = [()]
    for _ in range(length_max):
        latest = [
            (*walk, move)
            for walk in latest
            for move in known
            if move[0] == (walk[-1][1] if walk else start)
        ]
        for walk in latest:
            to.setdefault(walk[-1][1], []).append(walk)
    return {state: tuple(walks) for state, walks in to.items()}
