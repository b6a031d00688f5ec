"""Randomness: each node draws from its own stream, seeded from one number.

A stream belongs to its names. Draws from one do not affect the others, so a scenario that is made smaller keeps the
draws of the rest. `random.Random` hashes text with SHA-512, so no stream depends on `PYTHONHASHSEED`.
"""

import random
from typing import TypeAlias

Random: TypeAlias = random.Random


def stream(seed: int, *names: str) -> Random:
    """Return the random stream of `seed` for `names`."""
    return random.Random("/".join((str(seed), *names)))
