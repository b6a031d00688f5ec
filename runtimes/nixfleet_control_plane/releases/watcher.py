"""Polls the release directory and passes new artefacts to the control plane. Read-only.

`scan` decides what to pass on. A release that cannot be read is logged once and tried again at the next poll.
"""

import logging
from functools import partial
from pathlib import Path
from typing import assert_never

import anyio.to_thread
from attrs import evolve

from nixfleet_control_plane.messages.inputs import ArtefactRejected, ListsUpdated, ManifestsUpdated
from nixfleet_control_plane.releases.scan import ReleaseInput, ReleaseScanner
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.trust import TrustRoot
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, WriteFailed
from nixfleet_runtime.process.threads import in_abandonable_thread
from nixfleet_runtime.releases.directory import (
    IncompleteRelease,
    NotARelease,
    artefacts_of,
    load_release,
)
from nixfleet_runtime.releases.layout import manifest_file

_log = logging.getLogger(__name__)


class ReleaseWatcher:
    """The task that polls the release directory."""

    def __init__(
        self, service: ControlPlaneService, directory: Path, scanner: ReleaseScanner, clock: Clock
    ) -> None:
        self._service = service
        self._directory = directory
        self._scanner = scanner
        self._clock = clock
        self._problem: str | None = None
        self._failure: str | None = None
        self._new_trust: TrustRoot | None = None
        self._artefacts: dict[str, SignedArtefact] = {}

    async def run(self, poll_seconds: float) -> None:
        """Poll every `poll_seconds`, until cancelled."""
        while True:
            await self.poll()
            await self._clock.sleep(poll_seconds)

    def use_trust(self, trust: TrustRoot) -> None:
        """Verify by another trust root from the next poll on."""
        self._new_trust = trust

    async def poll(self) -> None:
        """Poll once. Inputs that cannot be made durable now are tried again at the next poll."""
        # Here, because a scan may be running in its thread when the trust changes.
        if self._new_trust is not None:
            self._scanner.use_trust(self._new_trust)
            self._new_trust = None
        try:
            release = await in_abandonable_thread(partial(load_release, self._directory))
        except (NotARelease, IncompleteRelease, OSError) as error:
            self._log_problem(str(error))
            return
        self._log_problem(None)
        self._artefacts = artefacts_of(release)
        self._service.notices.directory_has(self._artefacts)
        # Only this task uses the scanner, so it may run in a thread.
        inputs = await anyio.to_thread.run_sync(
            self._scanner.scan, self._artefacts, self._clock.now()
        )
        for input in inputs:
            try:
                handled = await self._pass_on(input)
            except (WriteFailed, EngineFault) as error:
                self._log_failure(str(error))
                return
            self._scanner.done(handled)
        self._failure = None

    async def _pass_on(self, input: ReleaseInput) -> ReleaseInput:
        """Pass `input` on, and return what of it was handled: what waits for another shard is offered again."""
        match input:
            case ListsUpdated():
                lists = await self._service.publish_lists(input)
                self._report(lists.taken, lists.refused)
            case ManifestsUpdated():
                manifests = await self._service.publish(input)
                # What waits is offered at every poll, and said once.
                known = self._service.notices.is_refused
                waits = [it for it in manifests.waiting if not known(manifest_file(it[0]), it[1])]
                not_taken = (*manifests.refused, *waits)
                refused = ((manifest_file(RolloutId(id_)), why) for id_, why in not_taken)
                self._report(tuple(map(manifest_file, manifests.taken)), tuple(refused))
                waiting = dict(manifests.waiting)
                done = (it for it in input.manifests if it.value.rollout_id not in waiting)
                return evolve(input, manifests=tuple(done)) if waiting else input
            case ArtefactRejected():
                await self._service.note_rejected(input.name, input.reason)
                self._report((), ((input.name, input.reason),))
            case _:
                assert_never(input)
        return input

    def _log_problem(self, problem: str | None) -> None:
        """Log a problem of the directory once, when it starts or changes."""
        if problem is not None and problem != self._problem:
            _log.warning("the release cannot be read: %s", problem)
        self._problem = self._service.notices.release_problem = problem

    def _log_failure(self, failure: str) -> None:
        """Log once what keeps a release from being put in force, when it starts or changes: a full disk, for hours."""
        if failure != self._failure:
            _log.error("a release could not be put in force: %s", failure)
        self._failure = failure

    def _report(self, taken: tuple[str, ...], refused: tuple[tuple[str, str], ...]) -> None:
        """Log what was accepted and refused. Refusals stay in the notices while the directory has the artefact."""
        for name in taken:
            _log.info("in force: %s", name)
            self._service.notices.artefact_taken(name)
        for name, reason in refused:
            _log.warning("refused: %s: %s", name, reason)
            artefact = self._artefacts.get(name)
            self._service.notices.artefact_refused(name, artefact, reason, self._clock.now())
