"""`nixfleet conformance`: what agrees, what differs and where, and what could not be read."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

OURS = Path(__file__).parents[1] / "vectors" / "nixfleet"


def _lines(name: str) -> list[str]:
    return gzip.decompress((OURS / name).read_bytes()).decode().splitlines()


def _file(directory: Path, *lines: str) -> Path:
    path = directory / "vectors.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _changed(line: str) -> str:
    """A row of the rollout's matrix that says the rollout is somewhere else afterwards."""
    row = json.loads(line)
    row["steps"][0]["result"]["ok"]["state"]["current_wave"] = 41
    return json.dumps(row)


WITHOUT_A_TEST_FRAMEWORK = """
import sys
sys.modules["hypothesis"] = sys.modules["pytest"] = None
import nixfleet_cli.commands.conformance
"""


@pytest.fixture
def accepted() -> str:
    """A row of the rollout's matrix in which the event applies."""
    return next(line for line in _lines("rollout_matrix.jsonl.gz") if '"ok"' in line)


def test_a_file_that_agrees_is_counted_by_kind_and_exits_zero(
    nixfleet: Invoke, accepted: str, tmp_path: Path
) -> None:
    """A plain file and an archive in one call: each kind is counted, and all is well."""
    plain, archive = _file(tmp_path, accepted), OURS / "rehydration_vectors.jsonl.gz"
    checked = nixfleet("conformance", plain, archive)

    assert checked.exit_code == 0, checked.output
    assert checked.stdout.splitlines() == [
        f"{plain}: rollout matrix: 1 of 1 row agrees",
        f"{archive}: rehydration: 17 of 17 rows agree",
    ]


def test_a_row_that_differs_is_told_field_by_field_and_exits_one(
    nixfleet: Invoke, accepted: str, tmp_path: Path
) -> None:
    """Which vector, which step, which field, what was recorded and what is answered here."""
    row = json.loads(accepted)
    wave = row["steps"][0]["result"]["ok"]["state"]["current_wave"]
    path = _file(tmp_path, _changed(accepted), accepted)
    checked = nixfleet("conformance", path)

    assert checked.exit_code == 1, checked.output
    assert checked.stdout.splitlines() == [
        f"{path}: vector {row['id']}, step 0, state.current_wave: expected 41, found {wave}",
        f"{path}: rollout matrix: 1 of 2 rows agree, 1 not",
    ]
    assert checked.stderr == "Error: 1 row differs from what was recorded\n"


def test_a_broken_line_is_told_by_its_number_and_the_rest_runs(
    nixfleet: Invoke, accepted: str, tmp_path: Path
) -> None:
    """A line that is no vector: its number and what is wrong; the others are run; exit code 2."""
    path = _file(tmp_path, accepted, "{", accepted)
    checked = nixfleet("conformance", path)

    assert checked.exit_code == 2, checked.output
    assert f"{path}: line 2: JSONDecodeError: " in checked.stdout
    assert f"{path}: rollout matrix: 2 of 2 rows agree" in checked.stdout


@pytest.mark.parametrize("line", ["[" * 100_000, '{"\\ud800": 1}', '{"wire": "", "value": 7}'])
def test_a_line_made_to_break_its_reader_is_told_like_any_other(
    nixfleet: Invoke, accepted: str, line: str, tmp_path: Path
) -> None:
    """Nesting without end, half a surrogate pair, a number for an object: line 1, and line 2 runs."""
    path = _file(tmp_path, line, accepted)
    checked = nixfleet("conformance", path)

    assert checked.exit_code == 2, checked.output
    assert checked.stdout.startswith(f"{path}: line 1: ")
    assert f"{path}: rollout matrix: 1 of 1 row agrees" in checked.stdout


def test_a_difference_beside_a_broken_line_exits_one(
    nixfleet: Invoke, accepted: str, tmp_path: Path
) -> None:
    """That something differs outranks that something could not be read."""
    checked = nixfleet("conformance", _file(tmp_path, "{", _changed(accepted)))

    assert checked.exit_code == 1, checked.output


@pytest.mark.parametrize("content", [b"", b"\n", b"\x1f\x8bnot an archive", b"\x00\xff"])
def test_a_file_without_any_vector_exits_two(
    nixfleet: Invoke, content: bytes, tmp_path: Path
) -> None:
    """A file in which nothing could be checked is never said to agree."""
    path = tmp_path / "vectors.jsonl"
    path.write_bytes(content)
    checked = nixfleet("conformance", path)

    assert checked.exit_code == 2, checked.output
    assert checked.stdout.startswith(f"{path}: ")


def test_a_file_that_is_not_there_exits_two(nixfleet: Invoke, tmp_path: Path) -> None:
    """Whoever mistypes a name is told so."""
    checked = nixfleet("conformance", tmp_path / "nowhere.jsonl")

    assert checked.exit_code == 2
    assert "does not exist" in checked.stderr


def test_recording_writes_files_that_the_check_takes(nixfleet: Invoke, tmp_path: Path) -> None:
    """What is recorded into a new directory agrees with what recorded it."""
    recorded = nixfleet("conformance", "--record", tmp_path / "new")
    files = sorted((tmp_path / "new").iterdir())

    assert recorded.exit_code == 0, recorded.output
    assert len(recorded.stdout.splitlines()) == len(files) == 8
    assert nixfleet("conformance", *files).exit_code == 0


@pytest.mark.parametrize("arguments", [[], ["--record", "somewhere", __file__]])
def test_neither_or_both_of_checking_and_recording_is_a_usage_error(
    nixfleet: Invoke, arguments: list[str]
) -> None:
    """One call does one of the two."""
    refused = nixfleet("conformance", *arguments)

    assert refused.exit_code == 2
    assert "expected either FILE… to check or --record DIR" in refused.stderr


def test_recording_where_nothing_can_be_written_exits_two(nixfleet: Invoke, tmp_path: Path) -> None:
    """A file that stands in the way of the directory is named."""
    (tmp_path / "file").touch()
    refused = nixfleet("conformance", "--record", tmp_path / "file" / "below")

    assert refused.exit_code == 2
    assert str(tmp_path / "file") in refused.stderr


def test_the_command_needs_no_test_framework() -> None:
    """Whoever installs the command alone can check and record vectors."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_TEST_FRAMEWORK],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
