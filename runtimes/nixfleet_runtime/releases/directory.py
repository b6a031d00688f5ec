"""Reads a release from its directory, byte for byte as it was signed. Writes nothing.

`layout` defines the file names. A signature file has 64 bytes; an artefact without a signature, or a signature without
an artefact, is an error. Revocations and nonces are optional. `nixfleet_release.publish.save` writes releases; the
control plane, which must not be able to, reads them with this module.
Source: docs/spec/trust.md, Release directory.
"""

import os
import stat
from collections.abc import Iterator
from errno import ENOTDIR
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.documents.problems import listed
from nixfleet_runtime.releases.layout import (
    FLEET_FILE,
    HISTORY_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    SIGNATURE_SUFFIX,
    bytes_max_of,
    manifest_file,
    rollout_of,
)
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file

# A signature has 64 bytes; whoever verifies one of another length says so.
_SIGNATURE_BYTES_MAX: Final = 4096
HISTORY: Final = Coder[FrozenMap[str, tuple[str, ...]]](
    Spelling(camel_case, Absent.LEFT_OUT), FrozenMap[str, tuple[str, ...]], "history of refs"
)
_ALONE: Final = frozenset({FLEET_FILE, REVOCATIONS_FILE, NONCES_FILE})


@frozen
class Release:
    """The signed artefacts of one release, unverified. manifests: by rollout id.

    history: every channel's refs so far, oldest first, for the declaring side. Not signed.
    """

    fleet: SignedArtefact
    manifests: FrozenMap[RolloutId, SignedArtefact]
    revocations: SignedArtefact | None = None
    nonces: SignedArtefact | None = None
    history: FrozenMap[str, tuple[str, ...]] = FrozenMap()


class NotARelease(NixfleetError):
    """A directory holds files that are not part of a release. unexpected: their names, relative to it."""

    def __init__(self, directory: Path, unexpected: tuple[str, ...]) -> None:
        super().__init__(directory, unexpected)
        self.directory = directory
        self.unexpected = unexpected

    def __str__(self) -> str:
        return (
            f"{self.directory}: expected only the files of a release, found {listed(self.unexpected)}; "
            "use a separate directory for releases"
        )


class IncompleteRelease(NixfleetError):
    """A directory lacks files of a release. missing: their names, relative to it."""

    def __init__(self, directory: Path, missing: tuple[str, ...]) -> None:
        super().__init__(directory, missing)
        self.directory = directory
        self.missing = missing

    def __str__(self) -> str:
        return f"{self.directory}: expected a complete release, found no {listed(self.missing)}"


def load_release(directory: Path) -> Release:
    """Return the release in `directory`: one that was saved as a whole, even if another is being saved meanwhile.

    It is not verified. Raises: NotARelease, IncompleteRelease, OSError.
    """
    while True:
        current = _current_directory(directory)
        before = _identity(current)
        try:
            release = _read(current)
        except (IncompleteRelease, NotARelease, FileNotFoundError):
            if _identity(_current_directory(directory)) == before:
                raise
        else:
            if _identity(_current_directory(directory)) == before:
                return release


def aside(place: Path, name: str) -> Path:
    """Return the hidden directory beside `place` that saving uses under `name`."""
    return place.with_name(f".{place.name}.{name}")


def files_of(release: Release) -> Iterator[tuple[str, bytes]]:
    """Yield the name, relative to the release, and the content of each of its files."""
    for name, signed in artefacts_of(release).items():
        yield name, signed.body
        yield name + SIGNATURE_SUFFIX, signed.signature
    if release.history:
        yield HISTORY_FILE, HISTORY.encode_canonical(release.history)


def artefacts_of(release: Release) -> dict[str, SignedArtefact]:
    """Return the artefacts of a release by file name."""
    alone = {
        FLEET_FILE: release.fleet,
        REVOCATIONS_FILE: release.revocations,
        NONCES_FILE: release.nonces,
    }
    manifests = {manifest_file(id_): signed for id_, signed in release.manifests.items()}
    return {name: signed for name, signed in alone.items() if signed is not None} | manifests


def _current_directory(directory: Path) -> Path:
    """Return the directory that holds the current release.

    It is another one if saving could not exchange two directories atomically, and was interrupted between moving the
    earlier release away and moving the later one into place.
    """
    before = aside(directory.resolve(), "before")
    return before if not directory.exists() and before.exists() else directory


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return None
    # The time too, because an inode number is reused as soon as its directory is removed.
    return status.st_ino, status.st_ctime_ns


def _read(directory: Path) -> Release:
    names = names_in(directory) - {HISTORY_FILE}
    artefacts = {FLEET_FILE} | {name.removesuffix(SIGNATURE_SUFFIX) for name in names}
    expected = artefacts | {name + SIGNATURE_SUFFIX for name in artefacts}
    missing = tuple(sorted(expected - names))
    if missing:
        raise IncompleteRelease(directory, missing)
    # A link could lead out of the release, to a file that changes without it.
    signed = {
        name: load_artefact(
            directory / name,
            bytes_max=bytes_max_of(name),
            follow_links=False,
        )
        for name in sorted(artefacts)
    }
    rollouts = ((rollout_of(name), artefact) for name, artefact in signed.items())
    return Release(
        signed[FLEET_FILE],
        FrozenMap({id_: artefact for id_, artefact in rollouts if id_ is not None}),
        signed.get(REVOCATIONS_FILE),
        signed.get(NONCES_FILE),
        _history(directory / HISTORY_FILE),
    )


def _history(file: Path) -> FrozenMap[str, tuple[str, ...]]:
    """Return the refs in `file`; none if they cannot be read: they are a convenience, and nothing is decided by them
    that the control plane would not decide.
    """
    try:
        return HISTORY.decode(
            read_regular_file(file, bytes_max=LARGE_FILE_BYTES_MAX, follow_links=False)
        )
    except (FileNotFoundError, DecodeError):
        return FrozenMap()


def load_artefact(
    file: Path, *, bytes_max: int = LARGE_FILE_BYTES_MAX, follow_links: bool = True
) -> SignedArtefact:
    """Return the artefact in `file` and the signature beside it, unverified. Raises: UnfitFile, OSError."""
    signature = file.with_name(file.name + SIGNATURE_SUFFIX)
    return SignedArtefact(
        read_regular_file(file, bytes_max=bytes_max, follow_links=follow_links),
        read_regular_file(signature, bytes_max=_SIGNATURE_BYTES_MAX, follow_links=follow_links),
    )


def names_in(directory: Path) -> frozenset[str]:
    """Return the names of all files of a release, relative to it. Raises: NotARelease, OSError."""
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
    return name == HISTORY_FILE or artefact in _ALONE or rollout_of(artefact) is not None
