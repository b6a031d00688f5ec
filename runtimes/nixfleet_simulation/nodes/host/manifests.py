"""Manifests, fetched or kept, and verified at every use: what `workers.manifests` does, in virtual time."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from nixfleet_control_plane.messages.inputs import ManifestAnswer
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError, verify_manifest
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.transport import TransportFailed
from nixfleet_simulation.nodes.host.shell import ANSWER_AFTER_MAX, WorkerShell
from nixfleet_simulation.nodes.network import Answer, FetchManifest
from nixfleet_simulation.scenario.scenario import FRESHNESS_WINDOW_MINUTES

Take: TypeAlias = Callable[[Verified[RolloutManifest]], None]
Refuse: TypeAlias = Callable[[VerifyError | InvalidRolloutId], None]
Fail: TypeAlias = Callable[[TransportFailed], None]


class ManifestSource:
    """Where the workers of one agent have their manifests from. kept: what is on the host's disk, by rollout id."""

    def __init__(self, shell: WorkerShell, kept: dict[str, SignedArtefact]) -> None:
        self._shell = shell
        self._kept = kept

    def keep_only(self, rollout_ids: Iterable[str]) -> None:
        """Forget every other rollout."""
        wanted = set(rollout_ids)
        for rollout_id in [known for known in self._kept if known not in wanted]:
            del self._kept[rollout_id]

    def verified(self, rollout_id: str, take: Take, refuse: Refuse, fail: Fail) -> None:
        """Call one of the three: with the verified manifest, with why it does not verify, or that there is none."""
        answered = partial(self._answered, rollout_id, take, refuse, fail)
        failed = partial(self._use_kept, rollout_id, take, fail)
        self._shell.call(FetchManifest(rollout_id), ANSWER_AFTER_MAX, answered, failed)

    def _answered(
        self, rollout_id: str, take: Take, refuse: Refuse, fail: Fail, answer: Answer
    ) -> None:
        assert isinstance(answer, ManifestAnswer), answer
        if answer.artefact is None:
            none = TransportFailed(f"the control plane has no manifest of {rollout_id}")
            self._use_kept(rollout_id, take, fail, none)
            return
        try:
            manifest = self._verified(rollout_id, answer.artefact)
        except (VerifyError, InvalidRolloutId) as error:
            refuse(error)
        else:
            self._kept[rollout_id] = answer.artefact
            take(manifest)

    def _use_kept(self, rollout_id: str, take: Take, fail: Fail, error: TransportFailed) -> None:
        kept = self._kept.get(rollout_id)
        if kept is None:
            fail(error)
            return
        try:
            manifest = self._verified(rollout_id, kept)
        except VerifyError:
            fail(error)
        else:
            take(manifest)

    def _verified(self, rollout_id: str, artefact: SignedArtefact) -> Verified[RolloutManifest]:
        return verify_manifest(
            artefact,
            self._shell.trust(),
            self._shell.clock.now(),
            freshness_window_minutes=FRESHNESS_WINDOW_MINUTES,
            expected_rollout_id=RolloutId(rollout_id),
        )
