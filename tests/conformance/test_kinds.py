"""Any vector file is run as what its rows are; a line that is no vector costs that line alone."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nixfleet_proto.codec import DecodeError, decode_envelope, encode_envelope
from nixfleet_proto.json_value import JsonValue
from nixfleet_testing.conformance.kinds import (
    CheckedFile,
    VectorKind,
    check_file,
    kind_of,
)
from nixfleet_testing.conformance.reference_json import structured_at
from nixfleet_testing.conformance.wire import WireCodec
from tests.conformance.recorded import VECTORS

OURS = WireCodec(encode_envelope, decode_envelope, DecodeError)


def _first_line(name: str) -> bytes:
    with gzip.open(VECTORS / "nixfleet" / f"{name}.jsonl.gz") as lines:
        return next(iter(lines))


def _check(directory: Path, *lines: bytes) -> CheckedFile:
    path = directory / "vectors.jsonl"
    path.write_bytes(b"".join(line.rstrip() + b"\n" for line in lines))
    return check_file(path, OURS)


@pytest.mark.parametrize("recorder", [".", "nixfleet"])
@pytest.mark.parametrize("kind", VectorKind)
def test_a_row_of_either_recorder_is_recognised_by_its_keys(
    recorder: str, kind: VectorKind
) -> None:
    """Each kind is told from the row, not from the name of the file."""
    words = kind.value if kind.value.endswith("matrix") else f"{kind.value} vectors"
    name = words.replace(" ", "_")
    with gzip.open(VECTORS / recorder / f"{name}.jsonl.gz") as lines:
        assert kind_of(json.loads(next(iter(lines)))) is kind


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "found none"),
        ({"id": 1, "colour": "red"}, "found colour, id"),
        ({"steps": [], "initial": 7}, "initial: expected an object, found 7"),
    ],
)
def test_a_row_of_no_kind_is_refused_with_what_it_has(
    row: Mapping[str, JsonValue], reason: str
) -> None:
    """What is no vector is refused, and the reason says what was found."""
    with pytest.raises((ValueError, TypeError), match=reason):
        kind_of(row)


def test_a_plain_file_of_several_kinds_is_run_row_by_row(tmp_path: Path) -> None:
    """Rows of different kinds may share a file, and it need not be an archive."""
    found = _check(tmp_path, _first_line("wire_vectors"), _first_line("host_matrix"))

    assert found.counts == {VectorKind.WIRE: 1, VectorKind.HOST_MATRIX: 1}
    assert (found.broken, found.differences) == ((), ())


@pytest.mark.parametrize(
    ("name", "written", "instead", "reason"),
    [
        ("host_vectors", '"now"', '"then"', "steps.0.now: expected this key, found event, "),
        ("host_vectors", "LocalDispatchAck", "Dispatched", "steps.0.event: expected the name of a"),
        ("host_vectors", '"seq": 1', '"seq": "1"', "steps.0.event: invalid value for type, "),
        ("rollout_vectors", "HostJoined", "HostLeft", "steps.0.event: expected the name of a "),
        ("rollout_vectors", '"Opening"', '"Open"', "initial: invalid value for type, expected "),
        ("planner_vectors", '"quarantines"', '"quarantined"', "input.quarantines: expected this "),
        ("planner_vectors", '"edges"', '"wedges"', "input.fleet.edges: expected this key, "),
        ("wire_vectors", '"signature"', '"sign"', "value.signature: expected this"),
    ],
)
def test_a_row_with_something_wrong_in_it_is_told_with_the_place(
    tmp_path: Path, name: str, written: str, instead: str, reason: str
) -> None:
    """Which key of which step, and what is expected there; the next line still runs."""
    sound = _first_line(name)
    line = json.dumps(json.loads(sound))
    assert written in line
    found = _check(tmp_path, line.replace(written, instead, 1).encode(), sound)

    assert [broken.number for broken in found.broken] == [1]
    assert found.broken[0].reason.startswith(reason)
    assert (len(found.rows), found.differences) == (1, ())


@pytest.mark.parametrize("name", ["host_vectors", "rollout_vectors", "planner_vectors"])
def test_a_row_that_marks_no_difference_need_not_say_so(tmp_path: Path, name: str) -> None:
    """Who writes a vector by hand may leave out the marks, and call it by a word."""
    row = json.loads(_first_line(name))
    marks = {"diverges", "differs_by_design"}
    bare = {key: value for key, value in row.items() if key not in marks} | {"id": "by hand"}
    found = _check(tmp_path, json.dumps(bare).encode())

    assert (found.broken, found.differences) == ((), ())
    assert found.rows[0].run.vector_id == "by hand"


def test_a_text_is_not_taken_for_the_array_of_its_letters() -> None:
    """Where hosts are listed, one name is no list."""
    with pytest.raises(ValueError, match="hosts: expected an array, found 'web'"):
        structured_at({"hosts": "web"}, "hosts", tuple[str, ...])


def test_a_plan_of_a_situation_that_cannot_be_is_a_broken_line(tmp_path: Path) -> None:
    """A host of a rollout that is not there makes the planner stumble; the next line still runs."""
    impossible = json.loads(_first_line("planner_vectors"))
    impossible["input"]["fleet_state"]["rollouts"] = {}
    found = _check(tmp_path, json.dumps(impossible).encode(), _first_line("planner_vectors"))

    assert [line.number for line in found.broken] == [1]
    assert found.broken[0].reason.startswith("it cannot be run: UnknownRollout: ")
    assert found.counts == {VectorKind.PLANNER: 1}


@pytest.mark.parametrize(
    ("name", "written", "instead", "path"),
    [
        ("host_matrix", b'"declared_probes":null', b'"declared_probes":[]', "state"),
        ("rollout_matrix", b'"kind":"IllegalForState"', b'"kind":"WrongRollout"', "answer"),
        ("planner_vectors", b'"type":"QueueDispatch"', b'"type":"DeferDispatch"', "plan.1.type"),
        ("rehydration_vectors", b'"effects":[]', b'"effects":[{"type":"X"}]', "effects.X"),
        ("wire_vectors", b'"wire":"{', b'"wire":"{ ', "wire"),
    ],
)
def test_a_changed_answer_is_a_difference_at_its_field(
    tmp_path: Path, name: str, written: bytes, instead: bytes, path: str
) -> None:
    """A row that says something else than our code is told apart, where it says so."""
    before, mark, answer = _first_line(name).rpartition(written)
    assert mark
    found = _check(tmp_path, before + instead + answer)

    assert found.broken == ()
    assert [each.path.startswith(path) for each in found.differences] == [True]
