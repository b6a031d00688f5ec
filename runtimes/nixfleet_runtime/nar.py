"""Nix archives, and the closure names made from their hash. Reads trees; writes nothing.

The NAR serialisation of a tree depends on names, contents, executable bits and link targets alone:
no times, no owners, no order of creation. So its hash names a tree on every machine. What is not a
file, a link or a directory has no place in it and is refused. A file is read in pieces, never as a
whole, so the size of a closure does not matter.
Source: design 4, What signs what; the format is the one of the Nix manual.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

BASE32_ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"
_READ_SIZE: Final = 256 * 1024

# A store path's hash has 32 characters, a whole SHA-256 has 52.
_HASH: Final = f"[{BASE32_ALPHABET}]{{52}}|[{BASE32_ALPHABET}]{{32}}"
# With the longest hash and the dash, a closure name is as long as a file name may be: 255.
_NAME: Final = re.compile(r"[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,201}")
_CLOSURE_NAME: Final = re.compile(rf"({_HASH})-({_NAME.pattern})")


class InvalidClosureName(ValueError):
    """The text is not `{hash}-{name}`; `text` and `problem` say what was wrong."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(text, problem)
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.text!r} is not a closure name: {self.problem}"


class NotArchivable(Exception):
    """`path` is `found`, which an archive cannot hold."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(path, found)
        self.path = path
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.path}: expected a regular file, a symbolic link or a directory, "
            f"found {self.found}; leave it out of the closure"
        )


class FileChangedWhileRead(Exception):
    """The file had `expected` bytes when it was opened and gave `found`."""

    def __init__(self, path: Path, expected: int, found: int) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.path}: expected {self.expected} bytes, found {self.found}; "
            "a closure must not be written to while it is hashed"
        )


def closure_name_of(path: Path, name: str) -> str:
    """Return the name that the tree at `path` has as a closure called `name`: `{hash}-{name}`.

    Raises: InvalidClosureName, NotArchivable, FileChangedWhileRead, OSError.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidClosureName(name, f"expected a name that matches {_NAME.pattern}")
    return f"{nar_hash(path)}-{name}"


def split_closure_name(closure: str) -> tuple[str, str]:
    """Return hash and name of `closure`. What has both is safe to use as a file name.

    Raises: InvalidClosureName.
    """
    parts = _CLOSURE_NAME.fullmatch(closure)
    if parts is None:
        raise InvalidClosureName(closure, "expected '{hash}-{name}', 52 or 32 base-32 characters")
    return parts[1], parts[2]


def nar_hash(path: Path) -> str:
    """Return what `nix-hash --type sha256 --base32 PATH` prints: 52 characters.

    Raises: NotArchivable, FileChangedWhileRead, OSError.
    """
    digest = hashlib.sha256()
    for chunk in nar_chunks(path):
        digest.update(chunk)
    return nix_base32(digest.digest())


def nar_chunks(path: Path) -> Iterator[bytes]:
    """Yield the archive of the tree at `path`, piece by piece.

    Raises: NotArchivable, FileChangedWhileRead, OSError.
    """
    yield _tokens(b"nix-archive-1")
    # A stack instead of recursion: a tree may be deeper than Python recurses.
    todo: list[bytes | Path] = [path]
    while todo:
        item = todo.pop()
        if isinstance(item, bytes):
            yield item
            continue
        mode = item.lstat().st_mode
        if stat.S_ISREG(mode):
            yield from _regular(item, executable=bool(mode & stat.S_IXUSR))
        elif stat.S_ISLNK(mode):
            target = os.fsencode(item.readlink())
            yield _tokens(b"(", b"type", b"symlink", b"target", target, b")")
        elif stat.S_ISDIR(mode):
            yield _tokens(b"(", b"type", b"directory")
            todo.extend(_directory_in_reverse(item))
        else:
            raise NotArchivable(item, _KINDS.get(stat.S_IFMT(mode), "something unknown"))


def nix_base32(data: bytes) -> str:
    """Return `data` in Nix's base 32: read as a little-endian number, five bits a digit."""
    number = int.from_bytes(data, "little")
    digits = (len(data) * 8 + 4) // 5
    return "".join(BASE32_ALPHABET[number >> 5 * n & 31] for n in reversed(range(digits)))


def _regular(path: Path, *, executable: bool) -> Iterator[bytes]:
    mark = (b"executable", b"") if executable else ()
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        yield _tokens(b"(", b"type", b"regular", *mark, b"contents") + _length(size)
        found = 0
        while chunk := file.read(_READ_SIZE):
            found += len(chunk)
            yield chunk
    if found != size:
        raise FileChangedWhileRead(path, size, found)
    yield _padding(size) + _tokens(b")")


def _directory_in_reverse(path: Path) -> Iterator[bytes | Path]:
    yield _tokens(b")")
    for entry in sorted(path.iterdir(), key=_encoded_name, reverse=True):
        yield _tokens(b")")
        yield entry
        yield _tokens(b"entry", b"(", b"name", _encoded_name(entry), b"node")


def _encoded_name(path: Path) -> bytes:
    return os.fsencode(path.name)


def _tokens(*tokens: bytes) -> bytes:
    return b"".join(_length(len(token)) + token + _padding(len(token)) for token in tokens)


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
