"""Polls for dispatches, and offers each to the engine with its verified manifest and the running closure. Sans I/O."""

import logging
from collections.abc import Callable, Generator
from datetime import datetime
from typing import assert_never

from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    IntentWithdrawn,
    LockAnswered,
    LockDue,
    MayBegin,
    Reply,
    RequestRefused,
    WarrantObeyed,
    WarrantRefused,
)
from nixfleet_agent.workers.answer_bounds import require_bounded_dispatch
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import (
    AgentStep,
    AskLock,
    Lock,
    PollDispatch,
    ReadRunningClosure,
    Wait,
    Work,
)
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import TransportFailed

BETWEEN_POLLS_SECONDS = 1.0
"""The shortest time from one poll to the next: a dispatch is returned until its acknowledgement is durable, and a
proxy may answer every poll at once."""

AFTER_REFUSED_SECONDS = 30.0


class DispatchWorker:
    """The long-poll. at_rest: see `IntentWorker`."""

    def __init__(
        self,
        poll_wait_seconds: float,
        now: Callable[[], datetime],
        manifests: ManifestSource,
        at_rest: Lock,
        post: RetryingPost,
        backoff: Backoff,
        log: logging.Logger,
        refusals: Refusals,
        contact: Contact,
    ) -> None:
        self._poll_wait_seconds = poll_wait_seconds
        self._now = now
        self._manifests = manifests
        self._at_rest = at_rest
        self._post = post
        self._backoff = backoff
        self._log = log
        self._refusals = refusals
        self._contact = contact
        self._trouble = Trouble(log, "the poll for dispatches")

    def run(self) -> Work:
        """Poll without end."""
        while True:
            began_at = self._now()
            try:
                with self._contact.noted():
                    dispatch = yield from PollDispatch(self._poll_wait_seconds)
                if dispatch is not None:
                    require_bounded_dispatch(dispatch)
                self._trouble.succeeded()
                if dispatch is None:
                    self._refusals.no_dispatch_refused()
                else:
                    yield from self._offer(dispatch)
                self._backoff.reset()
            except TransportFailed as error:
                self._contact.failed(error, self._trouble)
                yield from self._backoff.pause(error.retry_after_seconds)
            else:
                took_seconds = (self._now() - began_at).total_seconds()
                if took_seconds < BETWEEN_POLLS_SECONDS:
                    yield from Wait(BETWEEN_POLLS_SECONDS)

    def _offer(self, dispatch: Dispatch) -> Work:
        try:
            reply = yield from self._answer(dispatch)
        except (VerifyError, InvalidRolloutId) as error:
            yield from self._refuse(dispatch, str(error))
            return
        match reply:
            case LockDue():
                raise AssertionError(reply)  # `_answer` has asked.
            case DispatchTaken() | DispatchPostponed():
                self._refusals.no_dispatch_refused()
                yield from Wait(BETWEEN_POLLS_SECONDS)
            case DispatchRefused():
                yield from self._refuse(dispatch, reply.reason)
            case Done():
                # The lock lets it begin, if it is still in the queue: the next poll brings it again.
                yield from Wait(BETWEEN_POLLS_SECONDS)
            case None:
                yield from self._backoff.pause()
            case MayBegin() | AttemptsUsedUp() | IntentWithdrawn() | RequestRefused():
                raise AssertionError(reply)
            case WarrantObeyed() | WarrantRefused():
                raise AssertionError(reply)
            case _:
                assert_never(reply)

    def _answer(self, dispatch: Dispatch) -> Generator[AgentStep, object, Reply | None]:
        manifest = yield from self._manifests.verified(RolloutId(dispatch.rollout_id))
        # The running closure becomes the rollback target. A rollback that ended between the reading and the engine's
        # answer would make that the closure which was just left.
        yield from self._at_rest.acquire()
        try:
            running = yield from ReadRunningClosure()
            offer = DispatchOffered(dispatch, manifest, running)
            reply = yield from self._post.try_once(offer)
        finally:
            self._at_rest.release()
        if not isinstance(reply, LockDue):
            return reply
        # Outside of the lock above: a user may take minutes to answer, and a rollback waits for nobody.
        outcome = yield from AskLock(reply.question)
        return (yield from self._post.try_once(LockAnswered(offer, outcome)))

    def _refuse(self, dispatch: Dispatch, reason: str) -> Work:
        """Leave the dispatch where it is: a new manifest, or an operator, may resolve the refusal.

        The next heartbeat tells the control plane.
        """
        self._refusals.dispatch_refused(dispatch.rollout_id, reason)
        self._log.error("not acting on the dispatch of %s: %s", dispatch.rollout_id, reason)
        yield from Wait(AFTER_REFUSED_SECONDS)
