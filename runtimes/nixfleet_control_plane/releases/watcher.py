"""Looks at the directory of releases, again and again, and tells the control plane what is new. Only reads.

What to make of the files is in `releases`. A release that is not whole is looked at again the next time, and named in
the process's log once.
"""

import logging
from pathlib import Path
from typing import assert_never

import anyio.to_thread

from nixfleet_control_plane.messages.inputs import ArtefactRejected, ListsUpdated, ManifestsUpdated
from nixfleet_control_plane.releases.scan import ReleaseInput, ReleaseWatch
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, WriteFailed
from nixfleet_runtime.releases.directory import (
    IncompleteRelease,
    NotARelease,
    artefacts_of,
    load_release,
)

_log = logging.getLogger(__name__)


class ReleaseWatcher:
    """The task that looks."""

    def __init__(
        self, service: ControlPlaneService, directory: Path, watch: ReleaseWatch, clock: Clock
    ) -> None:
        self._service = service
        self._directory = directory
        self._watch = watch
        self._clock = clock
        self._problem: str | None = None

    async def run(self, poll_seconds: float) -> None:
        """Look every `poll_seconds`, until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(poll_seconds)

    async def look(self) -> None:
        """Look once. What cannot be made durable now is tried again at the next look."""
        try:
            release = await anyio.to_thread.run_sync(load_release, self._directory)
        except (NotARelease, IncompleteRelease, OSError) as error:
            self._complain(str(error))
            return
        self._complain(None)
        # The watch is this task's alone, so a thread may have it for a while.
        found = await anyio.to_thread.run_sync(
            self._watch.look, artefacts_of(release), self._clock.now()
        )
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

    def _complain(self, problem: str | None) -> None:
        """Say once what is wrong with the directory; it may be right at the next look."""
        if problem is not None and problem != self._problem:
            _log.warning("no release can be read: %s", problem)
        self._problem = problem


def _report(taken: tuple[str, ...], refused: tuple[tuple[str, str], ...]) -> None:
    for name in taken:
        _log.info("in force: %s", name)
    for name, reason in refused:
        _log.warning("refused: %s: %s", name, reason)
