"""Checks that a path is usable for an option, before anything starts. Problems are returned, not raised.

Each check returns `None` if the path is usable by the current user. A service that runs as another user may have fewer
permissions.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@frozen
class PathProblem:
    """Why a path is not usable: a `Problem` without its path in the document."""

    message: str
    expected: str
    found: str


PathCheck: TypeAlias = Callable[[Path], PathProblem | None]


def readable_file(path: Path) -> PathProblem | None:
    """Require a readable file."""
    return _leads_to(path, stat.S_ISREG, os.R_OK, "a readable file")


def private_file(path: Path) -> PathProblem | None:
    """Require a readable file with permissions for its owner only, or a credential of the service manager."""
    return readable_file(path) or (None if _is_credential(path) else _is_private(path))


def private_file_if_there(path: Path) -> PathProblem | None:
    """Require a `private_file`, or that nothing exists."""
    return None if _is_absent(path) else private_file(path)


def private_file_to_make(path: Path) -> PathProblem | None:
    """Require a `private_file`, or that one can be created."""
    return _parent_to_fill(path) if _is_absent(path) else private_file(path)


def file_to_write(path: Path) -> PathProblem | None:
    """Require a writable file, or that one can be created."""
    if _is_absent(path):
        return _parent_to_fill(path)
    return _leads_to(path, stat.S_ISREG, os.R_OK | os.W_OK, "a writable file")


def readable_directory(path: Path) -> PathProblem | None:
    """Require a readable directory."""
    return _leads_to(path, stat.S_ISDIR, os.R_OK | os.X_OK, "a readable directory")


def directory_to_fill(path: Path) -> PathProblem | None:
    """Require a writable directory, or that one can be created."""
    if _is_absent(path):
        return _parent_to_fill(path)
    return _leads_to(path, stat.S_ISDIR, os.R_OK | os.W_OK | os.X_OK, "a writable directory")


def link_to_replace(path: Path) -> PathProblem | None:
    """Require a symbolic link that can be replaced, or that one can be created."""
    if _is_absent(path) or path.is_symlink():
        return _parent_to_fill(path)
    return PathProblem(
        "is not a symbolic link", f"a symbolic link, or nothing, at {path}", "something else"
    )


def _parent_to_fill(path: Path) -> PathProblem | None:
    access = os.R_OK | os.W_OK | os.X_OK
    return _leads_to(path.parent, stat.S_ISDIR, access, "a writable directory")


def _leads_to(
    path: Path, is_kind: Callable[[int], bool], access: int, expected: str
) -> PathProblem | None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return PathProblem("does not exist", f"{expected} at {path}", "nothing")
    except OSError as error:
        return PathProblem(
            "cannot be accessed", f"{expected} at {path}", error.strerror or str(error)
        )
    if not is_kind(mode):
        return PathProblem("is of another kind", f"{expected} at {path}", "something else")
    if not os.access(path, access):
        return PathProblem("permission denied", f"{expected} at {path}", "no permission")
    return None


def _is_private(path: Path) -> PathProblem | None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & _OTHERS:
        return None
    return PathProblem("is accessible to other users", f"mode 0600 at {path}", f"mode {mode:04o}")


def _is_credential(path: Path) -> bool:
    """Return whether systemd put the file there, with mode 0440, in a directory that is closed to all other users.

    Source: systemd.exec(5), LoadCredential=.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return directory is not None and path.absolute().parent == Path(directory)


def _is_absent(path: Path) -> bool:
    """Return whether nothing exists at `path`, not even a dangling link."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
