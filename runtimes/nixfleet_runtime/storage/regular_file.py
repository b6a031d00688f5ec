"""Reads whole files: regular ones, up to a size, without waiting for anybody.

Every file that a process reads at a path it was given goes through here. A named pipe waits for a writer, a device may
never end, and a file may be larger than memory: each would stop the process that reads it.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from nixfleet_proto.errors import NixfleetError

SMALL_FILE_BYTES_MAX: Final = 1024 * 1024
"""The limit for files that people write: configurations, trust files, tokens, declarations of health checks."""
LARGE_FILE_BYTES_MAX: Final = 256 * 1024 * 1024
"""The limit for files that grow with a fleet: declarations, resolved fleets, releases. 100,000 hosts take a third."""

_KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
}


class UnfitFile(NixfleetError, OSError):
    """A file exists and must not be used. Attributes: `path`, `expected`, `found`.

    An OSError, so that whatever handles a file that cannot be read handles this too.
    """

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(errno.EINVAL, f"{found} instead of {expected}", str(path))
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


def read_regular_file(
    path: Path, *, bytes_max: int = SMALL_FILE_BYTES_MAX, follow_links: bool = True
) -> bytes:
    """Return the content of the regular file at `path`.

    follow_links: whether `path` itself may be a symbolic link; directories on the way always may.
    Raises: UnfitFile for anything else and for more than `bytes_max`, and other OSErrors.
    """
    descriptor = open_regular_file(path, os.O_RDONLY, follow_links=follow_links)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise UnfitFile(path, f"at most {bytes_max} bytes", "a larger file")
    return content


def open_regular_file(path: Path, flags: int, *, follow_links: bool, mode: int = 0o600) -> int:
    """Return a descriptor of the regular file at `path`. mode: of a file that `flags` create.

    Raises: UnfitFile, and other OSErrors.
    """
    # Asked before it is opened, because opening a device may do something; and again afterwards, of what was opened.
    try:
        _require_regular(path, path.stat() if follow_links else path.lstat())
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    # Without O_NONBLOCK, opening a named pipe waits for the other end.
    flags |= os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, mode)
    try:
        _require_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UnfitFile(path, "a regular file", found)
