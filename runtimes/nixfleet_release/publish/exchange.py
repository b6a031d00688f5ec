"""Two directories change places in one step, so that no reader and no crash finds anything between.

Linux can (`renameat2` with RENAME_EXCHANGE), on all of its common file systems; Python has no name for it, so
this asks the C library. A link to be replaced instead of the directory was rejected: releases are committed to
repositories, and read by path by other tools.
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
    """Let both paths, which exist, change places; return whether this system and file system can.

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
