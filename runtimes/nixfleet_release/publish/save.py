"""Saves a release atomically, even if interrupted. `nixfleet_runtime.releases.directory` reads it.

    .releases.new is written and synced ─▶ exchanged with releases ─▶ .releases.new, the earlier release, is removed

Where directories cannot be exchanged atomically, the earlier release is first renamed to `.releases.before`; readers
look
there if `releases` does not exist. The next save removes the leftovers of a killed process.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nixfleet_release.publish.exchange import exchange
from nixfleet_runtime.releases.directory import Release, aside, files_of, names_in
from nixfleet_runtime.releases.layout import ROLLOUTS_DIRECTORY


def save_release(release: Release, directory: Path) -> None:
    """Write `release` to `directory`, replacing any earlier one.

    Raises: NotARelease, OSError; `directory` is unchanged then.
    """
    place = directory.resolve()  # so that a symbolic link is kept
    with _alone_in(place.parent):
        _tidy(place)
        if place.exists():
            names_in(place)
        new = aside(place, "new")
        try:
            _write_all(release, new)
            _put(new, place)
        finally:
            # Now the earlier release, or an incomplete new one.
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Lock `directory` against other saves while the context is open; the lock ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(place: Path) -> None:
    """Clean up after a process that was killed while saving."""
    before = aside(place, "before")
    if before.exists() and not place.exists():
        before.rename(place)
    for name in ("new", "before"):
        if aside(place, name).exists():
            shutil.rmtree(aside(place, name))


def _write_all(release: Release, new: Path) -> None:
    (new / ROLLOUTS_DIRECTORY).mkdir(parents=True)
    for name, content in files_of(release):
        with (new / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(new / ROLLOUTS_DIRECTORY)
    _sync(new)


def _put(new: Path, place: Path) -> None:
    if not place.exists():
        new.rename(place)
    elif not exchange(new, place):
        before = aside(place, "before")
        place.rename(before)
        try:
            new.rename(place)
        except BaseException:
            before.rename(place)
            raise
        before.rename(new)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
