"""Any vector file: each row's kind is recognised from the row, and the row run by the checker of that kind.

A row that cannot be read or run costs that row alone. Nothing is compared here.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, assert_never

from attrs import frozen

from nixfleet_testing.conformance.answer import Difference, JsonObject, Run
from nixfleet_testing.conformance.host import (
    check_host,
    check_rehydration,
    read_host_vector,
    read_rehydration_vector,
)
from nixfleet_testing.conformance.planner import check_plan, read_planner_vector
from nixfleet_testing.conformance.reference_json import object_at
from nixfleet_testing.conformance.rollout import check_rollout, read_rollout_vector
from nixfleet_testing.conformance.vector_file import BrokenLine, read_vectors
from nixfleet_testing.conformance.wire import (
    WireCodec,
    check_wire,
    check_wire_parse,
    read_wire_parse_vector,
    read_wire_vector,
)

T = TypeVar("T")


class VectorKind(StrEnum):
    """What a row is a vector of, in the words a person reads."""

    HOST = "host"
    HOST_MATRIX = "host matrix"
    ROLLOUT = "rollout"
    ROLLOUT_MATRIX = "rollout matrix"
    PLANNER = "planner"
    WIRE = "wire"
    WIRE_PARSE = "wire parse"
    REHYDRATION = "rehydration"


@frozen
class CheckedRow:
    """A row that was run, and how that went."""

    kind: VectorKind
    run: Run


@frozen
class CheckedFile:
    """The result of a file. broken: the lines that could not be read or run."""

    rows: tuple[CheckedRow, ...]
    broken: tuple[BrokenLine, ...]

    @property
    def counts(self) -> Mapping[VectorKind, int]:
        """How many rows of each kind were run."""
        return Counter(row.kind for row in self.rows)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Where our answers are not the recorded ones, in the order of the file."""
        return tuple(found for row in self.rows for found in row.run.differences)


def check_file(path: Path, codec: WireCodec) -> CheckedFile:
    """Run every row of the file at `path`, plain or gzipped. Raises: OSError when it cannot be opened."""
    read = read_vectors(path, lambda row: check_row(row, codec))
    return CheckedFile(read.vectors, read.broken)


def check_row(row: JsonObject, codec: WireCodec) -> CheckedRow:
    """Run one row of any kind. Raises: ValueError."""
    kind = kind_of(row)
    return CheckedRow(kind, _checked(kind, row, codec))


def kind_of(row: JsonObject) -> VectorKind:
    """Return what `row` is a vector of, by the keys it has. Raises: ValueError."""
    if "steps" in row:
        return _kind_of_history(row)
    if {"input", "actions"} <= row.keys():
        return VectorKind.PLANNER
    if {"wire", "value"} <= row.keys():
        return VectorKind.WIRE
    if {"wire", "result"} <= row.keys():
        return VectorKind.WIRE_PARSE
    if {"initial", "effects"} <= row.keys():
        return VectorKind.REHYDRATION
    found = ", ".join(sorted(row)) or "none"
    raise ValueError(f"expected the keys of a vector of any kind, found {found}")


def _kind_of_history(row: JsonObject) -> VectorKind:
    is_matrix = "event_type" in row
    if "hostname" in object_at(row, "initial"):
        return VectorKind.HOST_MATRIX if is_matrix else VectorKind.HOST
    return VectorKind.ROLLOUT_MATRIX if is_matrix else VectorKind.ROLLOUT


def _checked(kind: VectorKind, row: JsonObject, codec: WireCodec) -> Run:
    match kind:
        case VectorKind.HOST | VectorKind.HOST_MATRIX:
            return _run(row, read_host_vector, check_host)
        case VectorKind.ROLLOUT | VectorKind.ROLLOUT_MATRIX:
            return _run(row, read_rollout_vector, check_rollout)
        case VectorKind.PLANNER:
            return _run(row, read_planner_vector, check_plan)
        case VectorKind.WIRE:
            return _run(row, read_wire_vector, lambda vector: check_wire(vector, codec))
        case VectorKind.WIRE_PARSE:
            return _run(row, read_wire_parse_vector, lambda vector: check_wire_parse(vector, codec))
        case VectorKind.REHYDRATION:
            return _run(row, read_rehydration_vector, check_rehydration)
        case _:
            assert_never(kind)


def _run(row: JsonObject, read_row: Callable[[JsonObject], T], check: Callable[[T], Run]) -> Run:
    try:
        vector = read_row(row)
    except AssertionError as error:
        raise ValueError(f"it does not have the shape of its kind: {error}") from error
    try:
        return check(vector)
    except Exception as error:
        # An impossible situation may make the code under test raise any error.
        raise ValueError(f"it cannot be run: {type(error).__name__}: {error}") from error
