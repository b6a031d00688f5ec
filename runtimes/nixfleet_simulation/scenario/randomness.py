"""Randomness: each node draws from its own stream, seeded from one number.

A stream belongs to its names. Draws from one do not affect the others, so a scenario that is made smaller keeps the
draws of the rest. `random.Random` hashes text with SHA-512, so no stream depends on `PYTHONHASHSEED`.
"""

import random
from typing import TypeAlias

from typing_extensions import override

Random: TypeAlias = random.Random
Seed: TypeAlias = int | None
"""Where all draws come from. `None`: nothing is left to chance, every draw is the middle of its range."""


def stream(seed: Seed, *names: str) -> Random:
    """Return the random stream of `seed` for `names`."""
    name = "/".join((str(seed), *names))
    return MiddleOfRange(name) if seed is None else random.Random(name)


class MiddleOfRange(random.Random):
    """Draws the middle of every range. Only bytes, from which keys are made, differ from name to name."""

    @override
    def random(self) -> float:
        return 0.5

    @override
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2

    @override
    def randint(self, a: int, b: int) -> int:
        return (a + b) // 2

    @override
    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        first, end = (0, start) if stop is None else (start, stop)
        return first + (end - first) // 2
