"""A file with a span of the log: how it is written, who may read it, and what happens where it cannot be written."""

import errno
import gzip
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest

from nixfleet_control_plane.history.retention import export_file
from nixfleet_control_plane.history.retention.export_file import (
    NotWritten,
    exported_rows,
    parts,
    write_export,
)
from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH, LogRow, chain_hash
from nixfleet_testing.contracts.full_disk import full_disk

ROWS = 30
NUMBERS = range(1, ROWS + 1)


def _row(seq: int, text: str) -> LogRow:
    payload = json.dumps({"text": text}, ensure_ascii=False)
    return LogRow(seq, "2026-05-16T00:00:00.000000Z", "command", None, None, payload, None)


def _log(text: str = "why", rows: int = ROWS) -> tuple[list[LogRow], list[bytes]]:
    """Return rows, and the hash that each of them follows, with that of the last at the end."""
    found = [_row(seq, text) for seq in range(1, rows + 1)]
    return found, list(accumulate(found, chain_hash, initial=FIRST_PREV_HASH))


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    directory = tmp_path / "exports"
    directory.mkdir()
    return directory


def test_only_its_owner_may_read_an_exported_file(exports: Path) -> None:
    """As the database: the log has what hosts and operators said. The mask of the process does not matter."""
    rows, _ = _log()
    before = os.umask(0)
    try:
        path = write_export(exports, FIRST_PREV_HASH, rows)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_exports_at_the_same_time_do_not_touch_each_others_files(exports: Path) -> None:
    """Of the same rows and of others: each file is whole, and nothing else is left in the directory."""
    rows, hashes = _log("why" * 1000)

    def write(last: int) -> Path:
        return write_export(exports, FIRST_PREV_HASH, rows[:last])

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(write, [*NUMBERS] * 8))
    assert set(exports.iterdir()) == paths
    assert len(paths) == ROWS
    for last in NUMBERS:
        assert list(exported_rows(exports, last + 1, hashes[last])) == rows[:last]


def test_what_a_killed_export_left_is_used_again_and_is_for_its_owner_alone(exports: Path) -> None:
    """It has no name that is read, so it does no harm, and there is one of them at most."""
    rows, hashes = _log()
    left = exports / ".log.partial"
    left.write_bytes(b"half of a longer file" * 1000)
    left.chmod(0o644)
    path = write_export(exports, FIRST_PREV_HASH, rows)
    assert list(exports.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(exported_rows(exports, ROWS + 1, hashes[-1])) == rows


def test_a_link_in_place_of_the_file_that_is_written_is_not_followed(
    exports: Path, tmp_path: Path
) -> None:
    """What it leads to stays as it is."""
    other = tmp_path / "other"
    other.write_text("of somebody else")
    (exports / ".log.partial").symlink_to(other)
    with pytest.raises(NotWritten, match="a symbolic link"):
        write_export(exports, FIRST_PREV_HASH, _log()[0])
    assert other.read_text() == "of somebody else"


def test_the_name_of_a_file_that_was_there_is_made_durable_before_its_rows_may_go(
    exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that wrote it may have been killed before it did that."""
    rows, _ = _log()
    write_export(exports, FIRST_PREV_HASH, rows)
    durable = list[Path]()
    monkeypatch.setattr(export_file, "make_durable", durable.append)
    write_export(exports, FIRST_PREV_HASH, rows)
    assert durable == [exports]


@pytest.mark.parametrize(
    "text", ["why " * 50, '"' * 200, "é" * 200, "\U0001f600" * 200, "\\" * 200]
)
def test_a_file_is_bounded_in_bytes_whatever_its_rows_say(
    text: str, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the bytes that the payloads take in it, and not by their characters, which take up to twelve each."""
    bound = 8_000
    monkeypatch.setattr(export_file, "BYTES_MAX", bound)
    rows, hashes = _log(text)
    files = _written(exports, rows, hashes)
    assert 1 < len(files) <= ROWS
    for file in files:
        _, *lines = gzip.decompress(file.read_bytes()).splitlines()
        assert sum(len(json.dumps(json.loads(line)[5])) for line in lines) <= bound
    assert list(exported_rows(exports, ROWS + 1, hashes[-1])) == rows


def test_a_row_that_is_larger_than_a_file_may_be_has_a_file_of_its_own(
    exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it could never be exported."""
    monkeypatch.setattr(export_file, "BYTES_MAX", 100)
    rows, hashes = _log("x" * 1000, rows=3)
    assert len(_written(exports, rows, hashes)) == 3
    assert list(exported_rows(exports, 4, hashes[-1])) == rows


def _written(exports: Path, rows: Sequence[LogRow], hashes: Sequence[bytes]) -> list[Path]:
    return [write_export(exports, hashes[part[0].seq - 1], part) for part in parts(rows)]


def _incompressible(rows: int) -> list[LogRow]:
    return [_row(seq, Random(seq).randbytes(4096).hex()) for seq in range(1, rows + 1)]


def test_a_file_that_may_not_be_long_enough_is_refused_by_name_and_leaves_nothing(
    exports: Path,
) -> None:
    """The error says which file, how many bytes, and why; with room again the same call works."""
    rows = _incompressible(20)
    with full_disk(), pytest.raises(NotWritten) as refused:
        write_export(exports, FIRST_PREV_HASH, rows)
    assert refused.value.errno == errno.EFBIG
    assert str(exports / "log-000000000001-000000000020.jsonl.gz") in str(refused.value)
    assert refused.value.bytes_needed > 4096
    assert list(exports.iterdir()) == []
    assert write_export(exports, FIRST_PREV_HASH, rows).exists()


def test_a_disk_that_is_full_is_named_with_what_to_do_and_gets_its_room_back(
    small_disk: Path,
) -> None:
    """Nothing of the file is left; a smaller one still fits."""
    with pytest.raises(NotWritten, match="No space left on device; make room") as refused:
        write_export(small_disk, FIRST_PREV_HASH, _incompressible(600))
    assert refused.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []
    assert write_export(small_disk, FIRST_PREV_HASH, _incompressible(20)).exists()
