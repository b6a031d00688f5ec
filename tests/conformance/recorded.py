"""Where the recorded vectors are, and how tests read them: all of a file, or not at all."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from nixfleet_testing.conformance.answer import Difference, JsonObject, Run
from nixfleet_testing.conformance.vector_file import read_vectors

VECTORS = Path(__file__).parents[1] / "vectors"

T = TypeVar("T")


def recorded(name: str, read_row: Callable[[JsonObject], T]) -> tuple[T, ...]:
    """Return every vector of the file `name`; a line that cannot be read fails the test."""
    read = read_vectors(VECTORS / f"{name}.jsonl.gz", read_row)
    assert read.broken == ()
    return read.vectors


def differences(runs: Iterable[Run]) -> list[Difference]:
    """Return what all of `runs` found."""
    return [difference for run in runs for difference in run.differences]
