"""import_time: what `import nixfleet_state_machine` costs in a fresh interpreter. attrs is most of it."""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness import Figure, Scale

AT_MOST_MS = 60.0
SOURCE = (
    "from time import perf_counter; begun = perf_counter(); import {module}; "
    "print((perf_counter() - begun) * 1e3)"
)


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the time of the core, and of attrs alone."""
    rounds = 3 * scale.rounds
    core = tuple(_milliseconds("nixfleet_state_machine") for _ in range(rounds))
    yield Figure("import_time", "the core", "ms", core, at_most=AT_MOST_MS)
    attrs = tuple(_milliseconds("attrs") for _ in range(rounds))
    yield Figure("import_time", "attrs alone", "ms", attrs, "limit")


def _milliseconds(module: str) -> float:
    command = [sys.executable, "-c", SOURCE.format(module=module)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
