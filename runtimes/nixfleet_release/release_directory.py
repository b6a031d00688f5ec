"""A release as files: all of them or none, and read back exactly as they were signed.

The layout is that of `nixfleet_runtime.release_layout`. A release is
written beside its place and moved there whole. The one before it is moved aside first, since no portable
call exchanges two directories: for a moment there is none, and never a mixture.
"""

import os
import tempfile
from collections.abc import Iterator
from errno import ENOTDIR
from pathlib import Path

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.signed import Release
from nixfleet_runtime.problems import listed
from nixfleet_runtime.release_layout import (
    FLEET_FILE,
    ROLLOUTS_DIRECTORY,
    SIGNATURE_SUFFIX,
    manifest_file,
    rollout_of,
)


class NotARelease(Exception):
    """A directory holds something else than a release: `unexpected`, relative to it."""

    def __init__(self, directory: Path, unexpected: tuple[str, ...]) -> None:
        super().__init__(directory, unexpected)
        self.directory = directory
        self.unexpected = unexpected

    def __str__(self) -> str:
        return (
            f"{self.directory}: expected nothing but a release, found {listed(self.unexpected)}; "
            "give releases a directory of their own"
        )


class IncompleteRelease(Exception):
    """A directory lacks files that make it a release: `missing`, relative to it."""

    def __init__(self, directory: Path, missing: tuple[str, ...]) -> None:
        super().__init__(directory, missing)
        self.directory = directory
        self.missing = missing

    def __str__(self) -> str:
        return f"{self.directory}: expected a whole release, found no {listed(self.missing)}"


def save_release(release: Release, directory: Path) -> None:
    """Let `directory` hold `release`, in place of an earlier one if there is one.

    Raises: NotARelease, OSError; `directory` is then as it was.
    """
    place = directory.resolve()  # a link stays a link
    if place.exists():
        _names_in(place)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as beside:
        new = Path(beside, "new")
        (new / ROLLOUTS_DIRECTORY).mkdir(parents=True)
        for name, content in _files(release):
            _write(new / name, content)
        _sync(new / ROLLOUTS_DIRECTORY)
        _sync(new)
        _exchange(place, new, Path(beside, "old"))
    _sync(place.parent)


def load_release(directory: Path) -> Release:
    """Return the release in `directory`, as one was saved even if another is being saved meanwhile.

    Nothing is verified. Raises: NotARelease, IncompleteRelease, OSError.
    """
    while True:
        before = _identity(directory)
        try:
            release = _read(directory)
        except (IncompleteRelease, NotARelease, FileNotFoundError):
            if _identity(directory) == before:
                raise
        else:
            if _identity(directory) == before:
                return release


def _files(release: Release) -> Iterator[tuple[str, bytes]]:
    artefacts = {manifest_file(it): signed for it, signed in release.manifests.items()}
    for name, signed in {FLEET_FILE: release.fleet, **artefacts}.items():
        yield name, signed.body
        yield name + SIGNATURE_SUFFIX, signed.signature


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(place: Path, new: Path, old: Path) -> None:
    if not place.exists():
        new.rename(place)
        return
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise


def _identity(directory: Path) -> tuple[int, int]:
    # The time too: a number is given again as soon as the directory that had it is removed.
    status = directory.stat()
    return status.st_ino, status.st_ctime_ns


def _read(directory: Path) -> Release:
    names = _names_in(directory)
    artefacts = {FLEET_FILE} | {name.removesuffix(SIGNATURE_SUFFIX) for name in names}
    expected = artefacts | {name + SIGNATURE_SUFFIX for name in artefacts}
    missing = tuple(sorted(expected - names))
    if missing:
        raise IncompleteRelease(directory, missing)
    return Release(
        _signed(directory, FLEET_FILE),
        FrozenMap(
            {
                _rollout_id(name): _signed(directory, name)
                for name in sorted(artefacts - {FLEET_FILE})
            }
        ),
    )


def _signed(directory: Path, name: str) -> SignedArtefact:
    return SignedArtefact(
        (directory / name).read_bytes(), (directory / (name + SIGNATURE_SUFFIX)).read_bytes()
    )


def _names_in(directory: Path) -> frozenset[str]:
    if not directory.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(directory))
    files = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    names = frozenset(path.relative_to(directory).as_posix() for path in files)
    unexpected = tuple(sorted(name for name in names if not _is_of_a_release(name)))
    if unexpected:
        raise NotARelease(directory, unexpected)
    return names


def _is_of_a_release(name: str) -> bool:
    artefact = name.removesuffix(SIGNATURE_SUFFIX)
    return artefact == FLEET_FILE or rollout_of(artefact) is not None


def _rollout_id(name: str) -> RolloutId:
    rollout_id = rollout_of(name)
    assert rollout_id is not None, name
    return rollout_id
