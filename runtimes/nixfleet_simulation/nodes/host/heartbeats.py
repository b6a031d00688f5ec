"""The heartbeat: what `workers.heartbeats` does, in virtual time."""

from collections import deque
from functools import partial

from nixfleet_agent.messages.inputs import RecordBootstrapped, ReplayAsked
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.trust import Verified
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply, ReplayFrom, TransportFailed
from nixfleet_simulation.nodes.host.manifests import ManifestSource
from nixfleet_simulation.nodes.host.shell import ANSWER_AFTER_MAX, WorkerShell
from nixfleet_simulation.nodes.network import Answer
from nixfleet_state_machine.host.state import HostRolloutState


class HeartbeatWorker:
    """Says how far the journal goes, and takes home what is answered, one thing after the other."""

    def __init__(self, shell: WorkerShell, manifests: ManifestSource) -> None:
        self._shell = shell
        self._manifests = manifests
        self._backoff = Backoff(shell.clock, shell.chance.random)
        self._replays: deque[ReplayFrom] = deque()
        self._records: deque[HostRolloutState] = deque()

    def start(self) -> None:
        """Begin, at once."""
        self._beat()

    def _beat(self) -> None:
        shell = self._shell
        beat = Heartbeat(shell.hostname, shell.machine.running, shell.journal.last_seqs())
        shell.call(beat, ANSWER_AFTER_MAX, self._answered, self._failed)

    def _failed(self, error: TransportFailed) -> None:
        self._shell.after(self._backoff.next_seconds(error.retry_after_seconds), self._beat)

    def _answered(self, answer: Answer) -> None:
        assert isinstance(answer, HeartbeatReply), answer
        self._replays = deque(answer.replay_from)
        self._records = deque(answer.bootstrap_rollouts)
        self._take_home()

    def _take_home(self) -> None:
        if self._replays:
            replay = ReplayAsked(self._replays.popleft())
            self._shell.insist(replay, lambda _: self._take_home())
        elif self._records:
            record = self._records.popleft()
            take = partial(self._bootstrap, record)
            self._manifests.verified(record.rollout_id, take, self._refused, self._failed)
        else:
            self._backoff.reset()
            self._shell.after(self._shell.cadence.heartbeat, self._beat)

    def _bootstrap(self, record: HostRolloutState, manifest: Verified[RolloutManifest]) -> None:
        self._shell.insist(RecordBootstrapped(record, manifest), lambda _: self._take_home())

    def _refused(self, _: VerifyError | InvalidRolloutId) -> None:
        self._take_home()
