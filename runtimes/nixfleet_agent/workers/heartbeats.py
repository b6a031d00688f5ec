"""Sends heartbeats, and hands the differences that the control plane found to the engine. Sans I/O."""

import logging

from nixfleet_agent.messages.inputs import (
    RecordBootstrapped,
    ReplayAsked,
    RequestRefused,
    RolloutsRest,
)
from nixfleet_agent.workers.answer_bounds import require_bounded_reply
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.freshness import FreshnessWatch
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import (
    Lock,
    ReadLastSeqs,
    ReadRunningClosure,
    SendHeartbeat,
    TellAnswered,
    Wait,
    Work,
)
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_agent.workers.warrants import WarrantIntake
from nixfleet_proto.signing import VerifyError
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply, TransportFailed


class HeartbeatWorker:
    """The heartbeat: at once after a start, then regularly."""

    def __init__(
        self,
        hostname: str,
        heartbeat_seconds: float,
        manifests: ManifestSource,
        post: RetryingPost,
        backoff: Backoff,
        log: logging.Logger,
        refusals: Refusals,
        freshness: FreshnessWatch,
        contact: Contact,
        at_rest: Lock,
        warrants: WarrantIntake,
    ) -> None:
        self._hostname = hostname
        self._heartbeat_seconds = heartbeat_seconds
        self._manifests = manifests
        self._post = post
        self._backoff = backoff
        self._log = log
        self._refusals = refusals
        self._freshness = freshness
        self._contact = contact
        self._at_rest = at_rest
        self._warrants = warrants
        self._trouble = Trouble(log, "the heartbeat")
        self._telling = Trouble(log, "telling the activator of an answer")
        # What the engine was told last: it begins with none, as this worker does.
        self._resting: frozenset[str] = frozenset()

    def run(self) -> Work:
        """Send heartbeats without end."""
        while True:
            running = yield from ReadRunningClosure()
            last_seqs = yield from ReadLastSeqs()
            try:
                heartbeat = Heartbeat(self._hostname, running, last_seqs, self._refusals.current())
                with self._contact.noted():
                    reply = yield from SendHeartbeat(heartbeat)
                require_bounded_reply(reply, heartbeat)
                yield from self._reconcile(reply)
                yield from self._warrants.take(reply.warrants)
                yield from self._freshness.look(reply.release)
            except TransportFailed as error:
                self._contact.failed(error, self._trouble)
                # Before the first exchange with the control plane, the agent does not know what it must continue.
                yield from self._backoff.pause(error.retry_after_seconds)
            else:
                self._trouble.succeeded()
                self._backoff.reset()
                yield from self._tell_activator()
                yield from Wait(self._heartbeat_seconds)

    def _tell_activator(self) -> Work:
        # An answer in the middle of a switch says nothing of what runs after it.
        if not self._at_rest.acquire_now():
            return
        try:
            yield from TellAnswered()
        except OSError as error:
            self._telling.failed(type(error).__name__, error)
        else:
            self._telling.succeeded()
        finally:
            self._at_rest.release()

    def _reconcile(self, reply: HeartbeatReply) -> Work:
        refused: dict[str, str] = {}
        for replay in reply.replay_from:
            yield from self._ask(ReplayAsked(replay), refused)
        for record in reply.bootstrap_rollouts:
            try:
                manifest = yield from self._manifests.verified(record.rollout_id)
            except VerifyError as error:
                self._log.error("not continuing %s after a start: %s", record.rollout_id, error)
                refused[record.rollout_id] = str(error)
            else:
                yield from self._ask(RecordBootstrapped(record, manifest), refused)
        self._refusals.requests_refused(refused)
        resting = frozenset(reply.resting)
        if resting != self._resting:
            yield from self._post.insist(RolloutsRest(resting))
            self._resting = resting

    def _ask(self, input: ReplayAsked | RecordBootstrapped, refused: dict[str, str]) -> Work:
        answer = yield from self._post.insist(input)
        if isinstance(answer, RequestRefused):
            refused[answer.rollout_id] = answer.reason
