"""A plain walk through a space, for tests that look at the worlds themselves."""

from collections.abc import Iterator

from nixfleet_testing.explore.space import Space, World


def moves_reached(space: Space, *, symmetric: bool) -> Iterator[tuple[World, World]]:
    """Yield every move from a world that is reached. symmetric: go on from representatives alone."""
    reached = {space.start}
    level = [space.start]
    while level:
        world = level.pop()
        for after, _, _ in (*space.moves(world), *space.commands(world)):
            yield world, after
            found = space.representative(after) if symmetric else after
            if found not in reached:
                reached.add(found)
                level.append(found)


def worlds_reached(space: Space, *, symmetric: bool) -> set[World]:
    """Return every world that is reached, or the representatives that are."""
    found = {after for _, after in moves_reached(space, symmetric=symmetric)}
    return {space.start} | ({space.representative(w) for w in found} if symmetric else found)
