"""Vector files: JSON lines, plain or gzipped. A broken line is reported with its number; the rest is read.

What is written here has the same bytes whenever and wherever it is written.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar, cast

from attrs import frozen

from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.unreadable import UNREADABLE, reason_of

T = TypeVar("T")

# By content, not by name: who writes vectors names the file.
_GZIP_MAGIC = b"\x1f\x8b"
LINE_BYTES_MAX = 64 * 1024 * 1024
"""Far more than a vector has: a few bytes of an archive can be a line of gigabytes."""


@frozen
class BrokenLine:
    """Line `number`, from 1, could not be read, and why."""

    number: int
    reason: str


@frozen
class VectorFile(Generic[T]):
    """What a file had: the vectors that could be read, and the lines that could not."""

    vectors: tuple[T, ...]
    broken: tuple[BrokenLine, ...]


def read_vectors(path: Path, read_row: Callable[[JsonObject], T]) -> VectorFile[T]:
    """Return what the file at `path` has, each row made into a vector by `read_row`.

    Raises: OSError when the file cannot be opened.
    """
    vectors: list[T] = []
    broken: list[BrokenLine] = []
    for number, line in enumerate(_lines(path), start=1):
        if isinstance(line, str):
            broken.append(BrokenLine(number, line))
        elif line.strip():
            try:
                vectors.append(read_row(_row(line)))
            except UNREADABLE as error:
                broken.append(BrokenLine(number, reason_of(error)))
    return VectorFile(tuple(vectors), tuple(broken))


def write_vectors(path: Path, rows: Iterable[JsonObject]) -> None:
    """Write `rows` to `path`, gzipped, keys in order, with no time and no name in the archive."""
    text = "".join(
        json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"
        for row in rows
    )
    # Not gzip.compress: what that puts into the header depends on the version of Python.
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as archive,
    ):
        archive.write(text.encode())


def _lines(path: Path) -> Iterator[bytes | str]:
    """Yield the lines; where the archive itself is damaged, why, and then no more."""
    with path.open("rb") as start:
        is_archive = start.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    with gzip.open(path) if is_archive else path.open("rb") as lines:
        try:
            while line := lines.readline(LINE_BYTES_MAX + 1):
                if len(line) > LINE_BYTES_MAX:
                    yield f"expected lines of at most {LINE_BYTES_MAX} bytes, found a longer one"
                    return
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield f"the archive is damaged: {error}"


def _row(line: bytes) -> JsonObject:
    row: object = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError(f"expected an object, found {type(row).__name__}")
    return cast(JsonObject, row)
