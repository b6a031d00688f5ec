"""Saving a release: all of its files or none, whatever stops it half-way. `nixfleet_runtime.releases.directory` reads.

    .releases.new is written and synced ─▶ it and releases change places ─▶ .releases.new, the earlier one, is removed

Where two directories cannot change places in one step, the earlier one becomes `.releases.before` first; whoever
reads looks there if `releases` is gone. What was left by a process that was killed is removed by the next one.
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
    """Let `directory` hold `release`, in place of an earlier one if there is one.

    Raises: NotARelease, OSError; `directory` is then as it was.
    """
    place = directory.resolve()  # a link stays a link
    with _alone_in(place.parent):
        _tidy(place)
        if place.exists():
            names_in(place)
        new = aside(place, "new")
        try:
            _write_all(release, new)
            _put(new, place)
        finally:
            # The earlier release by now, or a part of the one that could not be written.
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until nobody else saves a release in `directory`; the lock ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(place: Path) -> None:
    """Undo what a process left that was killed while it saved."""
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
