"""Random: every draw in a simulation comes from one seed, through a stream of its own.

A stream belongs to its names. What is drawn from one leaves the others as they are, so a history that is made
smaller keeps the rest of its luck. `random.Random` hashes text with SHA-512, so no stream depends on
`PYTHONHASHSEED`.
"""

import random
from typing import TypeAlias

Random: TypeAlias = random.Random


def stream(seed: int, *names: str) -> Random:
    """Return the stream of `seed` that belongs to `names`."""
    return random.Random("/".join((str(seed), *names)))
