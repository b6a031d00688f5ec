"""Nix archives (NAR), and closure names made from their hash. Reads trees; writes nothing.

The NAR of a tree depends only on names, contents, executable bits and link targets, not on times, owners or order of
creation. So its hash identifies the tree on every machine. Anything except files, links and directories is refused.
Files are read in chunks, so memory use does not depend on the size of a closure. Internally, paths are bytes and calls
go to `os` directly: with small files, a `Path` for each takes twice as long as the hashing (`benchmarks/nar.py`).
Source: docs/spec/declarations.md, What signs what; the format is that of the Nix manual.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from nixfleet_proto.errors import NixfleetError

_Node: TypeAlias = tuple[bytes, int]
"""A path, and a mode of which only the file type is used."""

BASE32_ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"
_READ_SIZE: Final = 256 * 1024

# A store path's hash has 32 characters, a whole SHA-256 has 52.
_HASH: Final = f"[{BASE32_ALPHABET}]{{52}}|[{BASE32_ALPHABET}]{{32}}"
# Bounded so that with the longest hash and the dash a closure name has at most 255 characters, the file name limit.
_NAME: Final = re.compile(r"[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,201}")
_CLOSURE_NAME: Final = re.compile(rf"({_HASH})-({_NAME.pattern})")


class InvalidClosureName(NixfleetError, ValueError):
    """The text is not `{hash}-{name}`; `text` and `problem` say what was wrong."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(text, problem)
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.text!r} is not a closure name: {self.problem}"


class NotArchivable(NixfleetError):
    """`path` is of the kind `found`, which an archive cannot hold."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(path, found)
        self.path = path
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.path}: expected a regular file, a symbolic link or a directory, "
            f"found {self.found}; remove it from the closure"
        )


class FileChangedWhileRead(NixfleetError):
    """The file had `expected` bytes when it was opened, and `found` were read."""

    def __init__(self, path: Path, expected: int, found: int) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.path}: expected {self.expected} bytes, found {self.found}; "
            "do not write to a closure while it is hashed"
        )


def closure_name_of(path: Path, name: str) -> str:
    """Return the closure name of the tree at `path`: `{hash}-{name}`.

    Raises: InvalidClosureName, NotArchivable, FileChangedWhileRead, OSError.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidClosureName(name, f"expected a name that matches {_NAME.pattern}")
    return f"{nar_hash(path)}-{name}"


def split_closure_name(closure: str) -> tuple[str, str]:
    """Return hash and name of `closure`. A text that has both is safe as a file name.

    Raises: InvalidClosureName.
    """
    parts = _CLOSURE_NAME.fullmatch(closure)
    if parts is None:
        raise InvalidClosureName(closure, "expected '{hash}-{name}', 52 or 32 base-32 characters")
    return parts[1], parts[2]


def nar_hash(path: Path) -> str:
    """Return the hash of the tree at `path`, 52 characters, as printed by `nix-hash --type sha256 --base32 PATH`.

    Raises: NotArchivable, FileChangedWhileRead, OSError.
    """
    digest = hashlib.sha256()
    for chunk in nar_chunks(path):
        digest.update(chunk)
    return nix_base32(digest.digest())


def nar_chunks(path: Path) -> Iterator[bytes]:
    """Yield the archive of the tree at `path` in chunks.

    Raises: NotArchivable, FileChangedWhileRead, OSError.
    """
    yield _tokens(b"nix-archive-1")
    # A stack instead of recursion: a tree may be deeper than Python recurses.
    root = os.fsencode(path)
    todo: list[bytes | _Node] = [(root, os.lstat(root).st_mode)]
    while todo:
        item = todo.pop()
        if isinstance(item, bytes):
            yield item
            continue
        place, mode = item
        if stat.S_ISREG(mode):
            yield from _regular(place)
        elif stat.S_ISLNK(mode):
            yield _LINK + _token(os.readlink(place)) + _CLOSE  # noqa: PTH115
        elif stat.S_ISDIR(mode):
            yield _DIRECTORY
            todo.extend(_directory_in_reverse(place))
        else:
            raise _not_archivable(place, mode)


def nix_base32(data: bytes) -> str:
    """Return `data` in Nix's base 32: as a little-endian number, five bits per digit."""
    number = int.from_bytes(data, "little")
    digits = (len(data) * 8 + 4) // 5
    return "".join(BASE32_ALPHABET[number >> 5 * n & 31] for n in reversed(range(digits)))


def _regular(path: bytes) -> Iterator[bytes]:
    # The opened file is examined, because the path may have been replaced since the directory was read.
    # Without O_NONBLOCK, a named pipe in its place would be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _not_archivable(path, status.st_mode)
        size = status.st_size
        head = _EXECUTABLE if status.st_mode & stat.S_IXUSR else _REGULAR
        yield head + _length(size)
        found = 0
        while chunk := os.read(descriptor, _READ_SIZE):
            found += len(chunk)
            if found > size:
                break  # it may grow for ever
            yield chunk
    finally:
        os.close(descriptor)
    if found != size:
        raise FileChangedWhileRead(Path(os.fsdecode(path)), size, found)
    yield _padding(size) + _CLOSE


def _directory_in_reverse(path: bytes) -> Iterator[bytes | _Node]:
    yield _CLOSE
    with os.scandir(path) as entries:
        nodes = [(entry.name, entry.path, _mode_of(entry)) for entry in entries]
    for name, place, mode in sorted(nodes, reverse=True):
        yield _CLOSE
        yield place, mode
        yield _ENTRY + _token(name) + _NODE


def _mode_of(entry: os.DirEntry[bytes]) -> int:
    """Return the file type of an entry as a mode, without another system call in the usual cases."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFLNK if entry.is_symlink() else entry.stat(follow_symlinks=False).st_mode


def _not_archivable(path: bytes, mode: int) -> NotArchivable:
    return NotArchivable(
        Path(os.fsdecode(path)), _KINDS.get(stat.S_IFMT(mode), "something unknown")
    )


def _tokens(*tokens: bytes) -> bytes:
    return b"".join(map(_token, tokens))


def _token(token: bytes) -> bytes:
    return _length(len(token)) + token + _padding(len(token))


def _length(size: int) -> bytes:
    return size.to_bytes(8, "little")


def _padding(size: int) -> bytes:
    return bytes(-size % 8)


_KINDS: Final = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}
_CLOSE: Final = _tokens(b")")
_DIRECTORY: Final = _tokens(b"(", b"type", b"directory")
_LINK: Final = _tokens(b"(", b"type", b"symlink", b"target")
_REGULAR: Final = _tokens(b"(", b"type", b"regular", b"contents")
_EXECUTABLE: Final = _tokens(b"(", b"type", b"regular", b"executable", b"", b"contents")
_ENTRY: Final = _tokens(b"entry", b"(", b"name")
_NODE: Final = _tokens(b"node")
