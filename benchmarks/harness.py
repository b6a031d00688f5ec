"""Measuring: rounds in which every contender runs once, so that what disturbs the machine disturbs them alike.

A figure keeps the value of every round; what is shown is the median and how far the rounds lie apart. A ratio is
taken within each round.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Final, TypeAlias

import attrs
from attrs import frozen

Timed: TypeAlias = Callable[[], int]
"""What is measured. Returns how many operations it carried out."""

Contender: TypeAlias = Callable[[], Timed]
"""Prepares, unmeasured, and returns what is measured."""


@frozen
class Scale:
    """How much is run: `full` for the record, `quick` to look, `tiny` to see that it works at all."""

    name: str
    rounds: int

    def pick(self, full: int, quick: int, tiny: int) -> int:
        """Return the size for this scale."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.name]


FULL = Scale("full", 5)
QUICK = Scale("quick", 3)
TINY = Scale("tiny", 1)


OF_THE_MACHINE: Final = frozenset({"events/s", "facts/s", "rows/s", "MB/s", "µs/event", "ms", "s"})
"""Units of figures that another machine has otherwise, and this one when it is busy."""


@frozen
class Figure:
    """One measured quantity. `values`: of each round. At most one of the bounds is the target.

    kind: `ours`, `peer`, `limit` (what the machine can do at best) or `ratio`. cpu: the same by the processor's
    time, where a single thread is measured; it does not see what else runs on the machine.
    """

    workload: str
    name: str
    unit: str
    values: tuple[float, ...]
    kind: str = "ours"
    at_least: float | None = None
    at_most: float | None = None
    cpu: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest round."""
        return min(self.values), max(self.values)

    @property
    def is_judged(self) -> bool:
        """Whether missing the target is a defect: a rate or a time is also one of the machine, a ratio is not."""
        return self.is_met is not None and self.unit not in OF_THE_MACHINE

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; `None`: there is none."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most


def race(scale: Scale, contenders: Mapping[str, Contender]) -> dict[str, Figure]:
    """Return the operations per second of each contender, by its name; workload and kind are left open."""
    walls: dict[str, list[float]] = {name: [] for name in contenders}
    cpus: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(scale.rounds):
        for name, prepare in contenders.items():
            wall, cpu = _rates(prepare())
            walls[name].append(wall)
            cpus[name].append(cpu)
    return {
        name: Figure("", name, "events/s", tuple(walls[name]), cpu=tuple(cpus[name]))
        for name in contenders
    }


def _rates(timed: Timed) -> tuple[float, float]:
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    count = timed()
    wall, cpu = perf_counter() - wall, process_time() - cpu
    return count / wall, count / max(cpu, 1e-9)


def ratio(
    name: str,
    of: Figure,
    to: Figure,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """Return how many times as much `of` is as `to`, round by round; by the processor's time if both have it."""
    pairs = zip(of.cpu or of.values, to.cpu or to.values, strict=True)
    return Figure(
        of.workload, name, "×", tuple(a / b for a, b in pairs), "ratio", at_least, at_most
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of `values` does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory on the disk that the working tree is on: a memory file system would not sync."""
    build = Path(__file__).parent.parent / "build"
    build.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=build, prefix="bench-") as directory:
        yield Path(directory)


def to_json(figures: Sequence[Figure]) -> str:
    """Return figures as JSON text."""
    return json.dumps([attrs.asdict(figure) for figure in figures], indent=1)


def from_json(text: str) -> list[Figure]:
    """Return the figures that `to_json` wrote."""
    return [
        Figure(**{**fields, "values": tuple(fields["values"]), "cpu": tuple(fields["cpu"])})
        for fields in json.loads(text)
    ]
