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
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH, LogRow, chain_hash
from nixfleet_control_plane.store.contents import ContentDamaged
from nixfleet_control_plane.store.stored_row import stored_payload, whole_payload
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file

FORMAT: Final = "nixfleet-log-2"
EARLIER_FORMAT: Final = "nixfleet-log-1"
ROWS_MAX: Final = 100_000
PAYLOAD_CHARACTERS_MAX: Final = 32 * 1024 * 1024
_PATTERN: Final = "log-*.jsonl.gz"
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
    """Yield the rows of each file. A file has rows of one month, and so many that it fits into memory several times."""
    for _, month in groupby(rows, lambda row: row.ts[: len("2026-05")]):
        part, size = list[LogRow](), 0
        for row in month:
            if len(part) == ROWS_MAX or (part and size + len(row.payload) > PAYLOAD_CHARACTERS_MAX):
                yield tuple(part)
                part, size = [], 0
            part.append(row)
            size += len(row.payload)
        yield tuple(part)


def write_export(directory: Path, prev_hash: bytes, rows: Sequence[LogRow]) -> Path:
    """Write the file of `rows`, which follow the row with `prev_hash`; return its path once it is durable and verified.

    A file of the same rows that is there already is left.
    Raises: ExportAltered, if another file has the name; OSError.
    """
    span, lines = _spelt(prev_hash, rows)
    path = directory / span.file_name
    if not path.exists():
        _write(path, gzip.compress("".join(lines).encode(), mtime=0), prev_hash, rows)
    # Also of a file that was there: who wrote it may have been killed before its name was durable.
    _flush_directory(directory)
    _require_same(path, prev_hash, rows)
    return path


def _write(path: Path, content: bytes, prev_hash: bytes, rows: Sequence[LogRow]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("ab") as file:
        # Another process may export the same rows. Once it has, `partial` may be another file than this one.
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return
        try:
            file.truncate(0)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            _require_same(partial, prev_hash, rows)
        except BaseException:
            # A full disk gets its room back.
            with suppress(OSError):
                os.truncate(partial, 0)
            raise
        partial.rename(path)


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
    content = read_regular_file(path, bytes_max=LARGE_FILE_BYTES_MAX)
    try:
        header, *lines = gzip.decompress(content).decode().splitlines()
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


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
