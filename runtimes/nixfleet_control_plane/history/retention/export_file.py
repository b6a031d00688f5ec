"""Files with a span of the log: compressed, chained by the hashes of their rows, verified before they are used.

A file is gzip of lines: a header in JSON, then each row as a JSON list of its columns and its hash, after the contents
that it refers to and no row before it, as a JSON object by their hashes. The hash of a row is that of the log, over the
row with its contents: so a file proves that it continues the file before it, and the database that it continues the
last. Files of before there were contents are read as well.
Source: docs/spec/runtimes.md, Retention.
"""

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH, LogRow, chain_hash
from nixfleet_control_plane.store.contents import ContentDamaged
from nixfleet_control_plane.store.stored_row import stored_payload, whole_payload
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.decompressed import TooLong, gunzipped
from nixfleet_runtime.storage.opening import is_full
from nixfleet_runtime.storage.regular_file import (
    LARGE_FILE_BYTES_MAX,
    open_regular_file,
    read_regular_file,
)
from nixfleet_runtime.storage.replaced_file import make_durable

FORMAT: Final = "nixfleet-log-2"
EARLIER_FORMAT: Final = "nixfleet-log-1"
ROWS_MAX: Final = 100_000
BYTES_MAX: Final = 64 * 1024 * 1024
"""How many bytes the payloads of one file may take, before they are compressed, unless it has one row."""
_READ_BYTES_MAX: Final = 4 * LARGE_FILE_BYTES_MAX
"""More than the largest row needs: an artefact of `LARGE_FILE_BYTES_MAX`, of which nothing can be compressed."""
_ASCII_BYTES_MAX: Final = 2
_OTHER_BYTES_MAX: Final = 12
"""How many bytes a character of a payload takes in a file: `\\"`, and two `\\uXXXX` for one beyond 16 bits."""
_TEXT_BYTES_MAX: Final = max(BYTES_MAX, _OTHER_BYTES_MAX * LARGE_FILE_BYTES_MAX) + 4096 * ROWS_MAX
"""More than a file has: the payloads, or those of its one row, and of each row the other columns."""
_MODE: Final = 0o600
_PATTERN: Final = "log-*.jsonl.gz"
_UNFINISHED: Final = ".log.partial"
"""The file that is being written, for all exports to a directory: its lock lets one of them write at a time."""
_MALFORMED: Final = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    ContentDamaged,
    TooLong,
)
"""What reading and hashing raise for a content that is no export. `ExportRefused` is none of them."""


class ExportRefused(NixfleetError):
    """The exported files do not lead to the log. Attributes: `path`, the file or directory; `problem`."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class ExportAltered(ExportRefused):
    """A file does not have what was exported."""


class ExportMissing(ExportRefused):
    """A file between two others, or before the log, is not there."""


class NotWritten(NixfleetError, OSError):
    """A file could not be written, and is not there. Attributes: `path`, `bytes_needed`, `problem`.

    An OSError with the number of the one that it is about.
    """

    def __init__(self, path: Path, bytes_needed: int, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))
        self.path = path
        self.bytes_needed = bytes_needed
        self.problem = error.strerror or str(error)

    def __str__(self) -> str:
        advice = "make room" if is_full(self) else "this user must be able to write there"
        return f"{self.path}: expected to write {self.bytes_needed} bytes, found: {self.problem}; {advice}"


@frozen
class Span:
    """Rows of the log, from one to another. prev_hash: of the row before the first; head_hash: of the last."""

    first_seq: int
    last_seq: int
    prev_hash: bytes
    head_hash: bytes

    @property
    def file_name(self) -> str:
        return f"log-{self.first_seq:012}-{self.last_seq:012}.jsonl.gz"


def parts(rows: Iterable[LogRow]) -> Iterator[tuple[LogRow, ...]]:
    """Yield the rows of each file. A file has rows of one month, at most `ROWS_MAX`, and `BYTES_MAX` or one row."""
    for _, month in groupby(rows, lambda row: row.ts[: len("2026-05")]):
        part, size = list[LogRow](), 0
        for row in month:
            row_size = _bytes_max_of(row.payload)
            if len(part) == ROWS_MAX or (part and size + row_size > BYTES_MAX):
                yield tuple(part)
                part, size = [], 0
            part.append(row)
            size += row_size
        yield tuple(part)


def _bytes_max_of(payload: str) -> int:
    return len(payload) * (_ASCII_BYTES_MAX if payload.isascii() else _OTHER_BYTES_MAX)


def write_export(directory: Path, prev_hash: bytes, rows: Sequence[LogRow]) -> Path:
    """Write the file of `rows`, which follow the row with `prev_hash`; return its path once it is durable and verified.

    A file of the same rows that is there already is left. Only its owner may read a new one: the log has what hosts
    and operators said. Several processes may export to `directory` at the same time.
    Raises: NotWritten; ExportAltered, if another file has the name; OSError.
    """
    span, lines = _spelt(prev_hash, rows)
    path = directory / span.file_name
    if not path.exists():
        content = gzip.compress("".join(lines).encode(), mtime=0)
        try:
            _write(path, content, prev_hash, rows)
        except OSError as error:
            raise NotWritten(path, len(content), error) from error
    # Also of a file that was there: the process that wrote it may have been killed before its name was durable.
    make_durable(directory)
    _require_same(path, prev_hash, rows)
    return path


def _write(path: Path, content: bytes, prev_hash: bytes, rows: Sequence[LogRow]) -> None:
    with _only_writer(path.with_name(_UNFINISHED)) as (unfinished, descriptor):
        if path.exists():
            return  # Another process exported the same rows meanwhile.
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        _require_same(unfinished, prev_hash, rows)
        unfinished.rename(path)


@contextmanager
def _only_writer(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield `path` and a descriptor of the file there, which is empty and locked; remove it, unless it was renamed.

    What a process left there that was killed is used again.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT
        descriptor = open_regular_file(path, flags, follow_links=False, mode=_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_at(path, descriptor):
                continue  # The process that had the lock gave the file its name, or removed it.
            os.fchmod(descriptor, _MODE)
            os.ftruncate(descriptor, 0)
            try:
                yield path, descriptor
            finally:
                if _is_at(path, descriptor):
                    path.unlink()
            return
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False


def exported_rows(directory: Path, first_left_seq: int, prev_hash: bytes) -> Iterator[LogRow]:
    """Yield the rows of the files in `directory`, from the first row of the log to the one before `first_left_seq`.

    prev_hash: of the last one of them, as the database has it. Each row is verified before it is yielded; of files that
    reach further, the rows after those are left out.
    Raises: ExportAltered, ExportMissing, OSError.
    """
    expected, head = 1, FIRST_PREV_HASH
    for path in sorted(directory.glob(_PATTERN)):
        if expected >= first_left_seq:
            break
        span, rows = _read(path)
        if span.last_seq < expected:
            continue  # Its rows are in a file before it: an export that was repeated with other bounds.
        if span.first_seq > expected:
            raise _missing(directory, expected, span.first_seq)
        if span.first_seq == expected and span.prev_hash != head:
            problem = f"expected it to follow {head.hex()}, found {span.prev_hash.hex()}"
            raise ExportAltered(path, problem)
        for row in rows[expected - span.first_seq : first_left_seq - span.first_seq]:
            head = chain_hash(head, row)
            yield row
            expected += 1
    if expected < first_left_seq:
        raise _missing(directory, expected, first_left_seq)
    if head != prev_hash:
        problem = f"expected rows that end with {prev_hash.hex()}, which the log continues, found {head.hex()}"
        raise ExportAltered(directory, problem)


def exported_at(directory: Path, last_seq: int) -> datetime | None:
    """Return when the file was written that ends with row `last_seq`; `None`: there is none. Raises: OSError."""
    times = [path.stat().st_mtime for path in directory.glob(f"log-*-{last_seq:012}.jsonl.gz")]
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _missing(directory: Path, expected: int, found: int) -> ExportMissing:
    return ExportMissing(
        directory,
        f"expected a file with the rows {expected} to {found - 1}, found none: put it back, from where it was archived",
    )


def _spelt(prev_hash: bytes, rows: Sequence[LogRow]) -> tuple[Span, list[str]]:
    head, lines, written = prev_hash, list[str](), set[str]()
    for row in rows:
        head = chain_hash(head, row)
        payload, contents = stored_payload(row)
        if fresh := {name: contents[name] for name in contents if name not in written}:
            lines.append(_line(fresh))
            written |= fresh.keys()
        lines.append(_line([*row._replace(payload=payload), head.hex()]))
    span = Span(rows[0].seq, rows[-1].seq, prev_hash, head)
    header = {
        "format": FORMAT,
        "firstSeq": span.first_seq,
        "lastSeq": span.last_seq,
        "prevHash": prev_hash.hex(),
        "headHash": head.hex(),
        "columns": [*LogRow._fields, "hash"],
    }
    return span, [_line(header), *lines]


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n"


def _require_same(path: Path, prev_hash: bytes, rows: Sequence[LogRow]) -> None:
    span, found = _read(path)
    if span.prev_hash != prev_hash or found != list(rows):
        raise ExportAltered(
            path, "expected the rows that are exported, found others: use another directory"
        )


def _read(path: Path) -> tuple[Span, list[LogRow]]:
    """Return the span of a file and its rows. Raises: ExportAltered, OSError."""
    content = read_regular_file(path, bytes_max=_READ_BYTES_MAX)
    try:
        header, *lines = gunzipped(content, _TEXT_BYTES_MAX).decode().splitlines()
        span, columns = _header(path, json.loads(header))
        return span, _verified(path, span, _rows(path, columns, map(json.loads, lines)))
    except _MALFORMED as error:
        raise ExportAltered(
            path, f"expected an exported span of a log, found: {error!r}"
        ) from error


def _verified(path: Path, span: Span, found: Iterator[tuple[LogRow, bytes]]) -> list[LogRow]:
    head, rows = span.prev_hash, list(found)
    for expected, (row, row_hash) in enumerate(rows, start=span.first_seq):
        head = chain_hash(head, row)
        if row.seq != expected or head != row_hash:
            raise ExportAltered(path, f"row {expected} was altered, or another one is in its place")
    if head != span.head_hash or not rows or rows[-1][0].seq != span.last_seq:
        raise ExportAltered(path, f"expected rows up to {span.last_seq}, found another end")
    return [row for row, _ in rows]


def _header(path: Path, header: dict[str, object]) -> tuple[Span, list[str]]:
    if header["format"] not in (FORMAT, EARLIER_FORMAT):
        raise ExportAltered(path, f"expected the format {FORMAT}, found {header['format']!r}")
    first, last, columns = header["firstSeq"], header["lastSeq"], header["columns"]
    if not isinstance(first, int) or not isinstance(last, int) or not isinstance(columns, list):
        raise TypeError("numbers and a list were expected in the header")
    hashes = bytes.fromhex(str(header["prevHash"])), bytes.fromhex(str(header["headHash"]))
    return Span(first, last, *hashes), list(map(str, columns))


def _rows(
    path: Path, columns: Sequence[str], lines: Iterable[Any]
) -> Iterator[tuple[LogRow, bytes]]:
    contents = dict[str, str]()
    for line in lines:
        if isinstance(line, dict):
            contents |= line
        else:
            row, row_hash = _row(path, columns, line)
            yield row._replace(payload=whole_payload(row, contents)), row_hash


def _row(path: Path, columns: Iterable[str], values: Sequence[Any]) -> tuple[LogRow, bytes]:
    named: dict[str, Any] = dict(zip(columns, values, strict=True))
    row_hash = bytes.fromhex(str(named.pop("hash")))
    unknown = named.keys() - set(LogRow._fields)
    if unknown:
        raise ExportAltered(
            path, f"expected columns that this program knows, found {sorted(unknown)}"
        )
    return LogRow(**named), row_hash
