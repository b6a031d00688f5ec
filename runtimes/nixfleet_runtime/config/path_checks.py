"""Whether a path leads to what an option needs: looked at before anything starts, told instead of raised.

Each check returns `None` when the path will do. What it says holds for the user who asks: run as another one,
a service may be allowed less.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@frozen
class Unfit:
    """Why a path will not do: the parts of a `Problem` but for its place."""

    message: str
    expected: str
    found: str


PathCheck: TypeAlias = Callable[[Path], Unfit | None]


def readable_file(path: Path) -> Unfit | None:
    """Want a file that can be read."""
    return _leads_to(path, stat.S_ISREG, os.R_OK, "a readable file")


def private_file(path: Path) -> Unfit | None:
    """Want a file that can be read, and by its owner alone."""
    return readable_file(path) or _is_private(path)


def private_file_if_there(path: Path) -> Unfit | None:
    """Want a `private_file`, or nothing."""
    return None if _is_absent(path) else private_file(path)


def private_file_to_make(path: Path) -> Unfit | None:
    """Want a `private_file`, or nothing yet."""
    return _parent_to_fill(path) if _is_absent(path) else private_file(path)


def file_to_write(path: Path) -> Unfit | None:
    """Want a file that can be written, or nothing yet."""
    if _is_absent(path):
        return _parent_to_fill(path)
    return _leads_to(path, stat.S_ISREG, os.R_OK | os.W_OK, "a writable file")


def readable_directory(path: Path) -> Unfit | None:
    """Want a directory that can be read."""
    return _leads_to(path, stat.S_ISDIR, os.R_OK | os.X_OK, "a readable directory")


def directory_to_fill(path: Path) -> Unfit | None:
    """Want a directory that can be written to, or nothing yet."""
    if _is_absent(path):
        return _parent_to_fill(path)
    return _leads_to(path, stat.S_ISDIR, os.R_OK | os.W_OK | os.X_OK, "a writable directory")


def link_to_replace(path: Path) -> Unfit | None:
    """Want a symbolic link that can be replaced, or nothing yet."""
    if _is_absent(path) or path.is_symlink():
        return _parent_to_fill(path)
    return Unfit("cannot be used", "a symbolic link, or nothing yet", f"something else at {path}")


def _parent_to_fill(path: Path) -> Unfit | None:
    access = os.R_OK | os.W_OK | os.X_OK
    return _leads_to(path.parent, stat.S_ISDIR, access, "a writable directory to hold it")


def _leads_to(
    path: Path, is_kind: Callable[[int], bool], access: int, expected: str
) -> Unfit | None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Unfit("leads nowhere", expected, f"nothing at {path}")
    except OSError as error:
        return Unfit("cannot be looked at", expected, f"{error.strerror} at {path}")
    if not is_kind(mode):
        return Unfit("cannot be used", expected, f"something else at {path}")
    if not os.access(path, access):
        return Unfit("cannot be used", expected, f"no permission for {path}")
    return None


def _is_private(path: Path) -> Unfit | None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & _OTHERS:
        return None
    return Unfit("open to others", "mode 0600", f"mode {mode:04o} at {path}")


def _is_absent(path: Path) -> bool:
    """Return whether there is nothing at `path`, not even a link that leads nowhere."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
