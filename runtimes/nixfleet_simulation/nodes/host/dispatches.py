"""The long-poll: what `workers.dispatches` does, in virtual time. The verifier is the production one."""

from functools import partial

from nixfleet_agent.messages.inputs import (
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Reply,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.dispatches import AFTER_REFUSED_SECONDS, BETWEEN_POLLS_SECONDS
from nixfleet_control_plane.messages.inputs import DispatchAnswer
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import TransportFailed
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.host.manifests import ManifestSource
from nixfleet_simulation.nodes.host.posting import Lock
from nixfleet_simulation.nodes.host.shell import ANSWER_AFTER_MAX, WorkerShell
from nixfleet_simulation.nodes.network import Answer, AskDispatch


class DispatchWorker:
    """Asks for a dispatch, again and again, and offers what comes to the engine."""

    def __init__(self, shell: WorkerShell, manifests: ManifestSource, at_rest: Lock) -> None:
        self._shell = shell
        self._manifests = manifests
        self._at_rest = at_rest
        self._began_at = 0
        self._backoff = Backoff(shell.clock, shell.chance.random)

    def start(self) -> None:
        """Begin."""
        self._poll()

    def _poll(self) -> None:
        self._began_at = self._shell.agenda.now
        wait = int(self._shell.cadence.poll_wait * SECOND)
        self._shell.call(AskDispatch(wait), wait + ANSWER_AFTER_MAX, self._answered, self._failed)

    def _answered(self, answer: Answer) -> None:
        assert isinstance(answer, DispatchAnswer), answer
        if answer.dispatch is None:
            self._go_on()
        else:
            take = partial(self._wait_for_rest, answer.dispatch)
            rollout_id = answer.dispatch.rollout_id
            self._manifests.verified(rollout_id, take, self._refused, self._failed)

    def _wait_for_rest(self, dispatch: Dispatch, manifest: Verified[RolloutManifest]) -> None:
        self._at_rest.acquire(partial(self._offer, dispatch, manifest))

    def _offer(self, dispatch: Dispatch, manifest: Verified[RolloutManifest]) -> None:
        offered = DispatchOffered(dispatch, manifest, self._shell.machine.running)
        self._shell.try_once(offered, self._replied)

    def _replied(self, reply: Reply | None) -> None:
        self._at_rest.release()
        if reply is None:
            self._shell.after(self._backoff.next_seconds(), self._go_on)
        elif isinstance(reply, DispatchTaken | DispatchPostponed):
            self._shell.after(BETWEEN_POLLS_SECONDS, self._go_on)
        else:
            assert isinstance(reply, DispatchRefused), reply
            self._shell.after(AFTER_REFUSED_SECONDS, self._go_on)

    def _refused(self, _: VerifyError | InvalidRolloutId) -> None:
        self._shell.after(AFTER_REFUSED_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._backoff.reset()
        if self._shell.agenda.now - self._began_at < BETWEEN_POLLS_SECONDS * SECOND:
            self._shell.after(BETWEEN_POLLS_SECONDS, self._poll)
        else:
            self._poll()

    def _failed(self, error: TransportFailed) -> None:
        self._shell.after(self._backoff.next_seconds(error.retry_after_seconds), self._poll)
