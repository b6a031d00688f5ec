"""Requires that a closure that is a plain directory is complete in itself and safe from other users. Reads only.

The hash of a closure covers names, contents and link targets. It says nothing of what a link outside the tree leads to,
and nothing of modes beyond the executable bit: both could change what runs, or who may change it, under an unchanged
hash. Checked when a release is made and before a closure is activated.
Source: docs/spec/runtimes.md, Activators.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.documents.problems import listed
from nixfleet_runtime.releases.nar import closure_name_of

_LINKS_MAX: Final = 40
"""How many links are followed for one, as Linux does."""


class UnfitClosure(NixfleetError):
    """A tree has entries that a closure must not have. problems: all of them, each with its path in the tree."""

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return f"{self.path}: unfit as a closure: {listed(self.problems)}"


def checked_closure_name(path: Path, name: str) -> str:
    """Return the closure name of the tree at `path`, which is fit to be a closure.

    Raises: UnfitClosure, and the errors of `closure_name_of`.
    """
    require_fit_closure(path)
    return closure_name_of(path, name)


def require_fit_closure(root: Path) -> None:
    """Return if no link in the tree leads out of it, and no file in it is setuid, setgid or writable for everybody.

    Raises: UnfitClosure, OSError.
    """
    problems = tuple(_problems(os.fsencode(root)))
    if problems:
        raise UnfitClosure(root, problems)


def require_safe_store(store: Path) -> None:
    """Return if not everybody can put closures into `store`. Raises: UnfitClosure, OSError."""
    mode = stat.S_IMODE(store.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise UnfitClosure(
            store, (f"expected a store that not everybody can write, found mode {mode:04o}",)
        )


def _problems(root: bytes) -> Iterator[str]:
    mode = os.lstat(root).st_mode
    yield from _mode_problems(b".", mode)
    # A stack instead of recursion, and bytes instead of `Path`: as in `nar`.
    directories: list[tuple[bytes, ...]] = [()] if stat.S_ISDIR(mode) else []
    while directories:
        parts = directories.pop()
        with os.scandir(os.path.join(root, *parts)) as entries:  # noqa: PTH118
            for entry in entries:
                place = (*parts, entry.name)
                if entry.is_symlink():
                    target = os.readlink(entry.path)  # noqa: PTH115
                    if _leads_out(root, parts, target):
                        found = os.fsdecode(target)
                        yield f"{_shown(place)}: expected a link inside the closure, found one to {found!r}"
                    continue
                yield from _mode_problems(
                    b"/".join(place), entry.stat(follow_symlinks=False).st_mode
                )
                if entry.is_dir(follow_symlinks=False):
                    directories.append(place)


def _mode_problems(place: bytes, mode: int) -> Iterator[str]:
    # A directory that is setgid only hands its group on.
    special = 0 if stat.S_ISDIR(mode) else mode & (stat.S_ISUID | stat.S_ISGID)
    if special or mode & stat.S_IWOTH:
        expected = "a mode without setuid, setgid and writing for everybody"
        yield f"{os.fsdecode(place)}: expected {expected}, found {stat.S_IMODE(mode):04o}"


def _leads_out(root: bytes, directory: tuple[bytes, ...], target: bytes) -> bool:
    """Return whether a link in `directory` to `target` leaves `root` on its way, wherever `root` lies."""
    at = list(directory)
    todo = _reversed_parts(target)
    if target.startswith(b"/"):
        return True
    followed = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            if not at:
                return True
            at.pop()
            continue
        at.append(part)
        path = os.path.join(root, *at)  # noqa: PTH118
        if os.path.islink(path):  # noqa: PTH114
            followed += 1
            further = os.readlink(path)  # noqa: PTH115
            if further.startswith(b"/"):
                return True
            if followed > _LINKS_MAX:
                return False  # leads nowhere
            at.pop()
            todo += _reversed_parts(further)
    return False


def _reversed_parts(path: bytes) -> list[bytes]:
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def _shown(place: tuple[bytes, ...]) -> str:
    return os.fsdecode(b"/".join(place))
