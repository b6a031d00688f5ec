"""Exchanges two directories atomically, so that no reader or crash sees an intermediate state.

Linux supports it (`renameat2` with RENAME_EXCHANGE) on its common file systems; Python does not expose it, so this
calls
the C library. Rejected: replacing a symbolic link instead of the directory, because releases are committed to
repositories and read by path by other tools.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from errno import EINVAL, ENOSYS, ENOTSUP, EXDEV
from functools import cache
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT = frozenset({EINVAL, ENOSYS, ENOTSUP, EXDEV})


def exchange(one: Path, other: Path) -> bool:
    """Exchange two existing paths; return whether the system and the file system support it.

    Raises: OSError.
    """
    rename = _renameat2()
    if rename is None:
        return False
    sys.audit("os.rename", str(one), str(other), -1, -1)  # as Python's own renames do
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
