"""The poll for dispatches: what each answer leads to, and how long the worker waits before the next poll."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from nixfleet_agent.messages.inputs import (
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Reply,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.dispatches import (
    AFTER_REFUSED_SECONDS,
    BETWEEN_POLLS_SECONDS,
    DispatchWorker,
)
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import (
    AgentStep,
    FetchManifest,
    Lock,
    PollDispatch,
    PostInput,
    ReadRunningClosure,
    Wait,
)
from nixfleet_proto.codec import encode_manifest
from nixfleet_proto.signing import SigningKey, sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_runtime.transport import TransportFailed
from tests.agent.lone_agent import KEY, T0, manifest_of
from tests.agent.steps import Script

LOG = logging.getLogger("dispatches")
MANIFEST = manifest_of()
SIGNED = sign_artefact(encode_manifest(MANIFEST.value), KEY)
DISPATCH = Dispatch("web-01", MANIFEST.value.rollout_id, "new", T0 + timedelta(minutes=5), T0)
NO_ANSWER = TransportFailed("no answer")
ANSWERS = {FetchManifest: SIGNED, ReadRunningClosure: "old", PostInput: DispatchTaken()}


class Poll:
    """A worker, the lock it shares, and the time."""

    def __init__(self) -> None:
        self.at_rest = Lock()
        self.refusals = Refusals(lambda: T0)
        self.now: Callable[[], datetime] = lambda: T0
        trust = TrustRoot(KeySlot(KEY.public_key))
        self.worker = DispatchWorker(
            60.0,
            lambda: self.now(),
            ManifestSource("web-01", lambda: trust, lambda: T0, 60, LOG),
            self.at_rest,
            RetryingPost(Backoff(lambda: 0.0), LOG),
            Backoff(lambda: 0.0),
            LOG,
            self.refusals,
            Contact(lambda: T0),
        )

    def run(self, script: Script) -> Script:
        script.run(self.worker.run())
        return script


@pytest.fixture
def poll() -> Poll:
    return Poll()


def test_a_dispatch_is_offered_with_its_manifest_and_the_running_closure(poll: Poll) -> None:
    """Once for each time that it is returned."""
    script = poll.run(Script({**ANSWERS, PollDispatch: [DISPATCH]}))

    assert script.steps[:4] == [
        PollDispatch(60.0),
        FetchManifest(MANIFEST.value.rollout_id),
        script.steps[2],
        ReadRunningClosure(),
    ]
    assert script.posted == [DispatchOffered(DISPATCH, MANIFEST, "old")]


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (DispatchTaken(), BETWEEN_POLLS_SECONDS),
        (DispatchPostponed(), BETWEEN_POLLS_SECONDS),
        (DispatchRefused("another closure is signed"), AFTER_REFUSED_SECONDS),
        (WriteFailed(), 0.5),
    ],
    ids=["taken", "postponed", "refused", "not durable"],
)
def test_the_wait_before_the_next_poll_follows_from_the_reply(
    reply: Reply | Exception, seconds: float, poll: Poll
) -> None:
    """The dispatch comes again until it is acknowledged; a refused one is not asked for in a hurry."""
    answers = {**ANSWERS, PollDispatch: [DISPATCH], PostInput: reply, Wait: [None]}
    script = poll.run(Script(answers))

    assert script.waited[0] == seconds


def test_a_dispatch_whose_manifest_does_not_verify_is_not_offered(poll: Poll) -> None:
    """It is polled for again after a while, since a good manifest may come."""
    forged = sign_artefact(encode_manifest(MANIFEST.value), SigningKey.generate())
    answers = {**ANSWERS, PollDispatch: [DISPATCH, None], FetchManifest: forged}
    script = poll.run(Script(answers))

    assert script.posted == []
    assert script.waited[0] == AFTER_REFUSED_SECONDS
    assert script.steps.count(PollDispatch(60.0)) == 3


def test_polls_without_an_answer_are_repeated_with_longer_waits(poll: Poll) -> None:
    """Until one is answered: then the waits are short again."""
    answers = [NO_ANSWER, NO_ANSWER, NO_ANSWER, None, NO_ANSWER]
    script = poll.run(Script({PollDispatch: answers}))

    assert script.waited == [0.5, 1.0, 2.0, BETWEEN_POLLS_SECONDS, 0.5]


def test_a_retry_after_is_waited_for(poll: Poll) -> None:
    """Longer than the worker would wait by itself."""
    script = poll.run(Script({PollDispatch: [TransportFailed("full", 30.0)]}))

    assert script.waited == [30.0]


def test_a_poll_that_took_long_is_followed_by_the_next_at_once(poll: Poll) -> None:
    """Only one that was answered at once is held back."""
    times = iter([T0, T0 + timedelta(seconds=60)] * 9)
    poll.now = lambda: next(times)
    script = poll.run(Script({PollDispatch: [None, None]}))

    assert script.waited == []


def test_the_running_closure_is_read_only_while_the_machine_is_at_rest(poll: Poll) -> None:
    """During a switch the worker waits, and then holds the lock until the offer is answered."""
    assert poll.at_rest.acquire_now()
    script = poll.run(Script({**ANSWERS, PollDispatch: [DISPATCH], Wait: []}))
    assert ReadRunningClosure() not in script.steps
    assert script.waited == [None]

    poll.at_rest.release()
    held: list[bool] = []

    class Watching(Script):
        def answer(self, step: AgentStep) -> object:
            if isinstance(step, ReadRunningClosure | PostInput):
                held.append(poll.at_rest.acquire_now())
            return super().answer(step)

    poll.run(Watching({**ANSWERS, PollDispatch: [DISPATCH]}))
    assert held == [False, False]
    assert poll.at_rest.acquire_now()


def test_a_refusal_is_kept_for_the_heartbeat_until_no_such_dispatch_waits(poll: Poll) -> None:
    """With its rollout and reason, and since the first time; gone once there is nothing to refuse."""
    forged = sign_artefact(encode_manifest(MANIFEST.value), SigningKey.generate())
    poll.run(Script({**ANSWERS, FetchManifest: forged, PollDispatch: [DISPATCH]}))
    poll.now = lambda: T0 + timedelta(minutes=1)
    poll.run(Script({**ANSWERS, FetchManifest: forged, PollDispatch: [DISPATCH]}))

    (refusal,) = poll.refusals.current()
    assert (refusal.rollout_id, refusal.since) == (MANIFEST.value.rollout_id, T0)
    assert "signed by none of the trusted keys" in refusal.reason

    poll.run(Script({**ANSWERS, PollDispatch: [None]}))
    assert poll.refusals.current() == ()
