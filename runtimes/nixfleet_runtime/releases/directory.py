"""Reading a release from its directory, exactly as it was signed. Writes nothing.

What stands where is in `release_layout`. A signature is its 64 bytes; an artefact without one, or one without an
artefact, is told. Revocations and nonces may be missing: other tools keep them elsewhere, or have none.
`nixfleet_release.publish.save` writes releases; the control plane, which must not be able to, reads them with this.
Source: docs/spec/trust.md, Release directory.
"""

import os
import stat
from collections.abc import Iterator
from errno import ENOTDIR
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.documents.problems import listed
from nixfleet_runtime.releases.layout import (
    FLEET_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    SIGNATURE_SUFFIX,
    manifest_file,
    rollout_of,
)

_ALONE: Final = frozenset({FLEET_FILE, REVOCATIONS_FILE, NONCES_FILE})


@frozen
class Release:
    """What was signed together. manifests: those projected from the fleet, by rollout id. Nothing is verified."""

    fleet: SignedArtefact
    manifests: FrozenMap[RolloutId, SignedArtefact]
    revocations: SignedArtefact | None = None
    nonces: SignedArtefact | None = None


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


def load_release(directory: Path) -> Release:
    """Return the release in `directory`, as one was saved even if another is being saved meanwhile.

    Nothing is verified. Raises: NotARelease, IncompleteRelease, OSError.
    """
    while True:
        standing = _standing_in(directory)
        before = _identity(standing)
        try:
            release = _read(standing)
        except (IncompleteRelease, NotARelease, FileNotFoundError):
            if _identity(_standing_in(directory)) == before:
                raise
        else:
            if _identity(_standing_in(directory)) == before:
                return release


def aside(place: Path, name: str) -> Path:
    """Return the directory beside `place` that saving uses for `name`."""
    return place.with_name(f".{place.name}.{name}")


def files_of(release: Release) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a release, by name relative to it, with what they hold."""
    for name, signed in artefacts_of(release).items():
        yield name, signed.body
        yield name + SIGNATURE_SUFFIX, signed.signature


def artefacts_of(release: Release) -> dict[str, SignedArtefact]:
    """Return the artefacts of a release by the names of their files."""
    alone = {
        FLEET_FILE: release.fleet,
        REVOCATIONS_FILE: release.revocations,
        NONCES_FILE: release.nonces,
    }
    manifests = {manifest_file(it): signed for it, signed in release.manifests.items()}
    return {name: it for name, it in alone.items() if it is not None} | manifests


def _standing_in(directory: Path) -> Path:
    """Return where the release of `directory` stands now.

    That is elsewhere if whoever saved had no way to exchange two directories, and was stopped between taking
    the earlier release away and putting the later one there.
    """
    before = aside(directory.resolve(), "before")
    return before if not directory.exists() and before.exists() else directory


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return None
    # The time too: a number is given again as soon as the directory that had it is removed.
    return status.st_ino, status.st_ctime_ns


def _read(directory: Path) -> Release:
    names = names_in(directory)
    artefacts = {FLEET_FILE} | {name.removesuffix(SIGNATURE_SUFFIX) for name in names}
    expected = artefacts | {name + SIGNATURE_SUFFIX for name in artefacts}
    missing = tuple(sorted(expected - names))
    if missing:
        raise IncompleteRelease(directory, missing)
    signed = {name: load_artefact(directory / name) for name in sorted(artefacts)}
    rollouts = ((rollout_of(name), it) for name, it in signed.items())
    return Release(
        signed[FLEET_FILE],
        FrozenMap({rollout_id: it for rollout_id, it in rollouts if rollout_id is not None}),
        signed.get(REVOCATIONS_FILE),
        signed.get(NONCES_FILE),
    )


def load_artefact(file: Path) -> SignedArtefact:
    """Return what `file` holds with the signature beside it; nothing is verified. Raises: OSError."""
    signature = file.with_name(file.name + SIGNATURE_SUFFIX)
    return SignedArtefact(file.read_bytes(), signature.read_bytes())


def names_in(directory: Path) -> frozenset[str]:
    """Return the names of the files in a release, relative to it. Raises: NotARelease, OSError."""
    if not stat.S_ISDIR(directory.stat().st_mode):
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(directory))
    files = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    names = frozenset(path.relative_to(directory).as_posix() for path in files)
    unexpected = tuple(sorted(name for name in names if not _is_of_a_release(name)))
    if unexpected:
        raise NotARelease(directory, unexpected)
    return names


def _is_of_a_release(name: str) -> bool:
    artefact = name.removesuffix(SIGNATURE_SUFFIX)
    return artefact in _ALONE or rollout_of(artefact) is not None
