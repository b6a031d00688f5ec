"""Breadth-first search of all worlds within given bounds. Checks every law in each; finds a shortest path to a breach.

Every move of a host, a machine or the network adds a fact to a journal or to a mirror, and a host has finitely many
facts. So every run of such moves ends, and the law about worlds at rest is checked where it ends: if it holds there,
no world is stuck. (Searching backwards from the ends would show less: that some run ends.)
"""

from attrs import frozen

from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.laws import Law
from nixfleet_testing.explore.space import Broken, Move, Space, World


@frozen
class Step:
    """One move of a path. did: what the control plane did in response."""

    what: str
    did: tuple[str, ...] = ()


@frozen
class Finding:
    """A law that does not hold, what was found instead, and a shortest path to it from the empty world."""

    law: Law
    found: str
    path: tuple[Step, ...]


@frozen
class Report:
    """The result of an exploration. depth: moves to the farthest world. finding: `None` if every law holds.

    failed_most: how many hosts of one rollout counted as failed, at most.
    is_complete: every world was seen; not so after a finding, or when `states_max` was reached.
    """

    bounds: Bounds
    states: int
    transitions: int
    depth: int
    is_complete: bool
    failed_most: int
    finding: Finding | None = None


def explore(
    bounds: Bounds,
    machine: ReducerSet | None = None,
    *,
    symmetric: bool = True,
    states_max: int | None = None,
) -> Report:
    """Walk every interleaving within `bounds`, and stop at the first breach of a law.

    symmetric: let one of the worlds that differ only in which twin is which stand for all. states_max: give up
    after the level in which so many worlds were seen.
    """
    space = Space(bounds, machine or ReducerSet(), symmetric=symmetric)
    search = _Search(space)
    while search.level and search.finding is None:
        if states_max is not None and len(search.parents) >= states_max:
            break
        search.advance()
    if not search.level and search.finding is None:
        search.judge_worst()
    return Report(
        bounds=bounds,
        states=len(search.parents),
        transitions=search.transitions,
        depth=search.depth,
        is_complete=not search.level and search.finding is None,
        failed_most=space.failed_most,
        finding=search.finding,
    )


class _Search:
    """A search under way. level: the worlds to go on from, all as far from the start."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.parents: dict[World, World] = {space.start: space.start}
        self.level = [space.start]
        self.transitions = 0
        self.depth = 0
        self.finding: Finding | None = None

    def advance(self) -> None:
        """Go one move further from every world of the level."""
        space, parents = self._space, self.parents
        following: list[World] = []
        for world in self.level:
            try:
                moves = _all_moves(space, world)
            except Broken:
                self.finding = self._finding(world)
                return
            self.transitions += len(moves)
            for after, _, _ in moves:
                next_world = space.representative(after)
                if next_world not in parents:
                    parents[next_world] = world
                    following.append(next_world)
                    try:
                        space.judge(next_world)
                    except Broken:
                        self.finding = self._finding(next_world)
                        return
        self.level = following
        self.depth += bool(following)

    def judge_worst(self) -> None:
        """Judge what was reached in all worlds together; there is no path to what did not happen."""
        worst, reached = self._space.worst, self._space.failed_most
        # A small world may end before its ramp has grown to the limit, which is what the worst case is computed by.
        is_bound = worst is not None and self._space.bounds.ramp is not None and reached < worst
        if worst is not None and reached != worst and not is_bound:
            self.finding = Finding(
                Law.WORST, f"{reached} hosts failed at most, expected {worst}", ()
            )

    def _finding(self, broken: World) -> Finding:
        """Walk to `broken` again, each host under one name all along, and say what is wrong there."""
        space = self._space
        chain = [broken]
        while chain[-1] != space.start:
            chain.append(self.parents[chain[-1]])
        steps: list[Step] = []
        here = chain.pop()
        while chain:
            before, (here, host, what) = here, self._move_towards(here, chain.pop())
            steps.append(Step(self._words(host, what), space.did(before, here)))
        try:
            space.judge(here)
            _all_moves(space, here)
        except Broken as breach:
            if breach.what is not None:
                steps.append(Step(self._words(breach.host, breach.what), breach.did))
            return Finding(breach.law, breach.found, tuple(steps))
        raise AssertionError(f"no law is broken after {steps}")

    def _move_towards(self, here: World, representative: World) -> Move:
        moves = _all_moves(self._space, here)
        return next(m for m in moves if self._space.representative(m[0]) == representative)

    def _words(self, host: int | None, what: str) -> str:
        return what if host is None else f"{self._space.bounds.hostnames[host]} {what}"


def _all_moves(space: Space, world: World) -> list[Move]:
    moves = space.moves(world)
    if not moves:
        space.judge_rest(world)
    return moves + space.commands(world)
