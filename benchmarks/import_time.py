"""import_time: what `import nixfleet_state_machine` costs in a fresh interpreter. attrs is half of it.

With the byte code in place, as an installer leaves it: the first import writes it, and is not counted.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from attrs import evolve

from benchmarks.harness import Figure, Scale, ratio

AT_MOST_MS = 60.0
CORE = "nixfleet_state_machine"
SOURCE = """
from time import perf_counter, process_time
wall, cpu = perf_counter(), process_time()
import {module}
print((perf_counter() - wall) * 1e3, (process_time() - cpu) * 1e3)
"""
Milliseconds: TypeAlias = tuple[float, float]
"""By the wall's clock, and of the processor."""


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the time of the core, of attrs alone, and how many times as much the core takes."""
    _import(CORE)
    rounds = [(_import(CORE), _import("attrs")) for _ in range(3 * scale.rounds)]
    core = _figure("the core", [times for times, _ in rounds])
    attrs = _figure("attrs alone", [times for _, times in rounds])
    yield evolve(core, at_most=AT_MOST_MS)
    yield evolve(attrs, kind="limit")
    yield ratio("the core / attrs alone", core, attrs)


def _import(module: str) -> Milliseconds:
    command = [sys.executable, "-c", SOURCE.format(module=module)]
    writes_byte_code = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=writes_byte_code)
    wall, cpu = done.stdout.split()
    return float(wall), float(cpu)


def _figure(name: str, times: Sequence[Milliseconds]) -> Figure:
    walls, cpus = zip(*times, strict=True)
    return Figure("import_time", name, "ms", walls, cpu=cpus)
