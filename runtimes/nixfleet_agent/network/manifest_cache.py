"""Manifests on disk, for use while the control plane is unreachable. Not trusted: every use verifies them again.

One file for each rollout, replaced as a whole: the 64 bytes of the signature, then the body exactly as it was
signed. A rollout id may contain anything, slashes too, so its SHA-256 is the file's name.
Source: docs/spec/trust.md, The agent trusts the manifest, not the dispatch.
"""

import hashlib
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.layout import MANIFEST_BYTES_MAX
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.storage.replaced_file import replace_file

SIGNATURE_LENGTH: Final = 64
_SUFFIX: Final = ".manifest"
# A manifest; with the dot and an ending, the incomplete file of one.
_OUR_NAME: Final = re.compile(
    rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}|\.[0-9a-f]{{64}}{re.escape(_SUFFIX)}\.[^.]+"
)

_log = logging.getLogger(__name__)


class ManifestCache(Protocol):
    """Stores manifests. No method raises: a failing cache only makes the agent depend on its control plane."""

    def get(self, rollout_id: str) -> SignedArtefact | None:
        """Return the stored manifest, `None` when there is none or it is damaged."""
        ...

    def put(self, rollout_id: str, artefact: SignedArtefact) -> None:
        """Store `artefact`, replacing any earlier one of this rollout."""
        ...

    def keep_only(self, rollout_ids: Iterable[str]) -> None:
        """Remove the manifests of every other rollout."""
        ...


@frozen
class NoManifestCache:
    """Stores nothing."""

    def get(self, rollout_id: str) -> SignedArtefact | None:
        return None

    def put(self, rollout_id: str, artefact: SignedArtefact) -> None:
        pass

    def keep_only(self, rollout_ids: Iterable[str]) -> None:
        pass


@frozen
class DirectoryManifestCache:
    """Stores manifests in `directory`, which is created with the first one."""

    directory: Path

    def path_of(self, rollout_id: str) -> Path:
        """Return the path for this rollout's manifest, whether it exists or not."""
        digest = hashlib.sha256(rollout_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self.directory / f"{digest}{_SUFFIX}"

    def get(self, rollout_id: str) -> SignedArtefact | None:
        """Return the stored manifest, `None` when there is none or it is damaged."""
        path = self.path_of(rollout_id)
        try:
            data = read_regular_file(
                path, bytes_max=SIGNATURE_LENGTH + MANIFEST_BYTES_MAX, follow_links=False
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("the cached manifest of %s cannot be read: %s", rollout_id, error)
            return None
        if len(data) <= SIGNATURE_LENGTH:
            _log.warning(
                "the cached manifest of %s is damaged: %s: expected a signature and a body, found %d bytes",
                rollout_id,
                path,
                len(data),
            )
            return None
        return SignedArtefact(data[SIGNATURE_LENGTH:], data[:SIGNATURE_LENGTH])

    def put(self, rollout_id: str, artefact: SignedArtefact) -> None:
        """Store `artefact` atomically; a failure is logged."""
        if len(artefact.signature) != SIGNATURE_LENGTH:
            return
        path = self.path_of(rollout_id)
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            replace_file(path, artefact.signature + artefact.body, mode=0o600)
        except OSError as error:
            _log.warning("the manifest of %s cannot be cached: %s: %s", rollout_id, path, error)

    def keep_only(self, rollout_ids: Iterable[str]) -> None:
        """Remove the manifests of every other rollout, and incomplete files that a crash left.

        Nothing is removed that has another name than this class gives, or that is not a regular file.
        """
        kept = {self.path_of(rollout_id).name for rollout_id in rollout_ids}
        try:
            found = [path for path in self.directory.iterdir() if _is_ours(path)]
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("the cached manifests cannot be listed: %s", error)
            return
        for path in found:
            if path.name not in kept:
                _remove(path)


def _is_ours(path: Path) -> bool:
    is_named_so = _OUR_NAME.fullmatch(path.name) is not None
    return is_named_so and path.is_file() and not path.is_symlink()


def _remove(path: Path) -> None:
    # A file that stays is tried again at the next start, and is never used without verification.
    with suppress(OSError):
        path.unlink()
