"""A vector file with damage is read as far as it is sound, and the damage is named."""

import gzip
from pathlib import Path

import pytest

from nixfleet_testing.conformance.host import read_host_vector
from nixfleet_testing.conformance.reference_json import number_at
from nixfleet_testing.conformance.vector_file import VectorFile, read_vectors
from tests.conformance.recorded import VECTORS


def _file(directory: Path, content: bytes) -> Path:
    path = directory / "vectors.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    return path


def _ids(path: Path) -> VectorFile[int]:
    return read_vectors(path, lambda row: number_at(row, "id"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 2', "JSONDecodeError: Expecting ',' delimiter: line 2 column 1 (char 9)"),
        (b"\xff", "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0"),
        (b"[2]", "expected an object, found list"),
        (b'{"name": 2}', "id: expected this key, found name"),
        (b'{"id": "2"}', "id: expected int, found '2'"),
        (b'{"id": true}', "id: expected int, found True"),
    ],
)
def test_a_broken_line_is_reported_with_its_number_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    """A line that is no vector costs that line alone; its number and the reason are kept."""
    read = _ids(_file(tmp_path, b'{"id": 1}\n' + line + b'\n{"id": 3}\n'))

    assert read.vectors == (1, 3)
    assert [broken.number for broken in read.broken] == [2]
    assert read.broken[0].reason.startswith(reason)


def test_a_blank_line_is_passed_over(tmp_path: Path) -> None:
    """A blank line is neither a vector nor broken."""
    assert _ids(_file(tmp_path, b'{"id": 1}\n\n{"id": 3}\n')) == VectorFile((1, 3), ())


def test_an_archive_that_was_cut_off_is_reported_after_its_last_line(tmp_path: Path) -> None:
    """What can still be unpacked is read, and the damage counts as the line after it."""
    whole = gzip.compress(b"".join(b'{"id": %d}\n' % number for number in range(10)))
    path = tmp_path / "vectors.jsonl.gz"
    path.write_bytes(whole[:-8])
    read = _ids(path)

    assert read.vectors == tuple(range(len(read.vectors)))
    assert [broken.number for broken in read.broken] == [len(read.vectors) + 1]
    assert read.broken[0].reason.startswith("the archive is damaged: ")


def test_a_record_with_an_unknown_field_is_reported_by_its_path(tmp_path: Path) -> None:
    """A field that no record has breaks the row, and the reason says where it stands."""
    with gzip.open(VECTORS / "host_matrix.jsonl.gz") as rows:
        row = next(rows).replace(b'"activation_completed_at":', b'"colour": 1, "x":', 1)
    read = read_vectors(_file(tmp_path, row), read_host_vector)

    assert read.vectors == ()
    assert "extra fields found (colour, x)" in read.broken[0].reason
