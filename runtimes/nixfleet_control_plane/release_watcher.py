"""Looks at the directory of releases, again and again, and tells the control plane what is new. Only reads.

What to make of the files is in `releases`. A file that cannot be read, or has no signature yet, is looked at again
the next time, and named in the process's log once.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

import anyio.to_thread
from attrs import frozen

from nixfleet_control_plane.inputs import ArtefactRejected, ListsUpdated, ManifestsUpdated
from nixfleet_control_plane.releases import ReleaseInput, ReleaseWatch
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.clock import Clock
from nixfleet_runtime.mutator import EngineFault, WriteFailed
from nixfleet_runtime.release_layout import (
    FLEET_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    ROLLOUTS_DIRECTORY,
    SIGNATURE_SUFFIX,
    rollout_of,
)

_log = logging.getLogger(__name__)


@frozen
class Reading:
    """What is in a directory of releases. unreadable: by name, why it is not in `files`."""

    files: FrozenMap[str, SignedArtefact]
    unreadable: FrozenMap[str, str] = FrozenMap()


def read_releases(directory: Path) -> Reading:
    """Return what `directory` holds of a release; files that are no part of one are left alone."""
    files: dict[str, SignedArtefact] = {}
    unreadable: dict[str, str] = {}
    for name in _names_in(directory):
        path = directory / name
        try:
            signature = path.with_name(path.name + SIGNATURE_SUFFIX).read_bytes()
            files[name] = SignedArtefact(path.read_bytes(), signature)
        except FileNotFoundError as error:
            if error.filename != str(path) or name == FLEET_FILE:
                unreadable[name] = f"there is no {error.filename}"
        except OSError as error:
            unreadable[name] = str(error)
    return Reading(FrozenMap(files), FrozenMap(unreadable))


def _names_in(directory: Path) -> Iterator[str]:
    yield FLEET_FILE
    for name in (REVOCATIONS_FILE, NONCES_FILE):
        if (directory / name).exists():
            yield name
    for path in sorted((directory / ROLLOUTS_DIRECTORY).glob("*.json")):
        name = f"{ROLLOUTS_DIRECTORY}/{path.name}"
        if rollout_of(name) is not None:
            yield name


class ReleaseWatcher:
    """The task that looks."""

    def __init__(
        self, service: ControlPlaneService, directory: Path, watch: ReleaseWatch, clock: Clock
    ) -> None:
        self._service = service
        self._directory = directory
        self._watch = watch
        self._clock = clock
        self._unreadable: FrozenMap[str, str] = FrozenMap()

    async def run(self, poll_seconds: float) -> None:
        """Look every `poll_seconds`, until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(poll_seconds)

    async def look(self) -> None:
        """Look once. What cannot be made durable now is tried again at the next look."""
        reading = await anyio.to_thread.run_sync(read_releases, self._directory)
        self._complain(reading.unreadable)
        now = self._clock.now()
        # The watch is this task's alone, so a thread may have it for a while.
        found = await anyio.to_thread.run_sync(self._watch.look, reading.files, now)
        for input in found:
            try:
                await self._tell(input)
            except (WriteFailed, EngineFault) as error:
                _log.error("a release could not be taken: %s", error)
                return
            self._watch.done(input)

    async def _tell(self, input: ReleaseInput) -> None:
        match input:
            case ListsUpdated():
                lists = await self._service.publish_lists(input)
                _report(lists.taken, lists.refused)
            case ManifestsUpdated():
                manifests = await self._service.publish(input)
                _report(manifests.taken, manifests.refused)
            case ArtefactRejected():
                await self._service.note_rejected(input.name, input.reason)
                _report((), ((input.name, input.reason),))
            case _:
                assert_never(input)

    def _complain(self, unreadable: FrozenMap[str, str]) -> None:
        for name, reason in unreadable.items():
            if self._unreadable.get(name) != reason:
                _log.warning("%s cannot be read: %s", name, reason)
        self._unreadable = unreadable


def _report(taken: tuple[str, ...], refused: tuple[tuple[str, str], ...]) -> None:
    for name in taken:
        _log.info("in force: %s", name)
    for name, reason in refused:
        _log.warning("refused: %s: %s", name, reason)
