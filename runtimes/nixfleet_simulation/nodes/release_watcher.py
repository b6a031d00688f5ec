"""The release watcher: verifies the contents of the release directory and posts them to the control plane.

It verifies with the production code, and reports what did not verify.
"""

from datetime import datetime
from functools import partial

import orjson

from nixfleet_control_plane.messages.inputs import (
    ArtefactRejected,
    ListsUpdated,
    ManifestsUpdated,
    Reply,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import VerifyError, verify_fleet, verify_manifest, verify_revocations
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.ci import Published, ReleaseDirectory
from nixfleet_simulation.nodes.control_plane import ControlPlane
from nixfleet_simulation.scenario.scenario import FRESHNESS_WINDOW_MINUTES


class ReleaseWatcher:
    """Reads the directory regularly. It starts and ends with the control plane: a start reads everything again."""

    def __init__(
        self,
        agenda: Agenda,
        directory: ReleaseDirectory,
        control_plane: ControlPlane,
        every_seconds: float,
    ) -> None:
        self._agenda = agenda
        self._directory = directory
        self._control_plane = control_plane
        self._every = int(every_seconds * SECOND)
        self._taken: Published | None = None
        self._taken_by = 0

    def look(self) -> None:
        """Post what is new, and read again later."""
        control_plane, published = self._control_plane, self._directory.published
        is_new = (self._taken, self._taken_by) != (published, control_plane.starts)
        if control_plane.is_up and published is not None and is_new:
            self._take(published, control_plane.clock.now())
        self._agenda.after(self._every, None, self.look)

    def _take(self, published: Published, now: datetime) -> None:
        took = partial(self._took, published, self._control_plane.starts)
        self._control_plane.post(self._verified_lists(published, now))
        self._control_plane.post(self._verified(published, now), took)

    def _took(self, published: Published, starts: int, _: Reply) -> None:
        self._taken, self._taken_by = published, starts

    def _verified_lists(
        self, published: Published, now: datetime
    ) -> ListsUpdated | ArtefactRejected:
        trust, window = self._directory.trust, FRESHNESS_WINDOW_MINUTES
        try:
            revocations = verify_revocations(
                published.revocations, trust, now, freshness_window_minutes=window
            )
        except VerifyError as error:
            return ArtefactRejected("revocations.json", str(error))
        return ListsUpdated(revocations=revocations)

    def _verified(self, published: Published, now: datetime) -> ManifestsUpdated | ArtefactRejected:
        trust, window = self._directory.trust, FRESHNESS_WINDOW_MINUTES
        name = "fleet.resolved.json"
        try:
            fleet = verify_fleet(published.fleet, trust, now, freshness_window_minutes=window)
            manifests = []
            for name, artefact in published.manifests:
                manifest = verify_manifest(
                    artefact,
                    trust,
                    now,
                    freshness_window_minutes=window,
                    expected_rollout_id=RolloutId.of(name, _ref_of(artefact.body)),
                )
                manifests.append(manifest)
        except VerifyError as error:
            return ArtefactRejected(name, str(error))
        return ManifestsUpdated(fleet, tuple(manifests))


def _ref_of(manifest: bytes) -> str:
    """Return the id that the file's name would contain: a manifest's file is named after its rollout."""
    return str(orjson.loads(manifest)["channelRef"])
