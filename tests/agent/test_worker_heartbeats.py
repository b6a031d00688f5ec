"""The heartbeat: what it says, and that nothing the control plane asks for is lost."""

import logging

import pytest

from nixfleet_agent.messages.inputs import Done, RecordBootstrapped, ReplayAsked
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.heartbeats import HeartbeatWorker
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import (
    FetchManifest,
    PostInput,
    ReadLastSeqs,
    ReadRunningClosure,
    SendHeartbeat,
)
from nixfleet_proto.codec import encode_manifest
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey, sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply, ReplayFrom, TransportFailed
from tests.agent.lone_agent import KEY, T0, manifest_of, soaking_agent
from tests.agent.steps import Script

LOG = logging.getLogger("heartbeats")
LAST_SEQS = FrozenMap({"stable@r1": 3})
MANIFEST = manifest_of()
RECORD = soaking_agent().record()
REPLAY = ReplayFrom("stable@r1", 2)
ANSWERS = {
    ReadRunningClosure: "old",
    ReadLastSeqs: LAST_SEQS,
    FetchManifest: sign_artefact(encode_manifest(MANIFEST.value), KEY),
    PostInput: Done(),
}
NO_ANSWER = TransportFailed("no answer")


@pytest.fixture
def worker() -> HeartbeatWorker:
    trust = TrustRoot(KeySlot(KEY.public_key))
    manifests = ManifestSource(lambda: trust, lambda: T0, 60, LOG)
    post = RetryingPost(Backoff(lambda: 0.0), LOG)
    return HeartbeatWorker("web-01", 120.0, manifests, post, Backoff(lambda: 0.0), LOG)


def test_a_heartbeat_says_what_runs_and_how_far_the_journal_goes(worker: HeartbeatWorker) -> None:
    """The next one follows after the interval."""
    script = Script({**ANSWERS, SendHeartbeat: [HeartbeatReply(T0)]})
    script.run(worker.run())

    assert script.steps[2] == SendHeartbeat(Heartbeat("web-01", "old", LAST_SEQS))
    assert script.waited == [120.0]


def test_replays_and_records_are_posted_until_they_are_durable(worker: HeartbeatWorker) -> None:
    """In order; a record comes with its verified manifest."""
    reply = HeartbeatReply(T0, (RECORD,), (REPLAY,))
    posts = [WriteFailed(), Done(), WriteFailed(), Done()]
    script = Script({**ANSWERS, SendHeartbeat: [reply], PostInput: posts})
    script.run(worker.run())

    replay, record = ReplayAsked(REPLAY), RecordBootstrapped(RECORD, MANIFEST)
    assert script.posted == [replay, replay, record, record]


def test_a_record_whose_manifest_does_not_verify_does_not_hold_up_the_next(
    worker: HeartbeatWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and asked about again by the next heartbeat."""
    forged = sign_artefact(encode_manifest(MANIFEST.value), SigningKey.generate())
    manifests = [forged, ANSWERS[FetchManifest]]
    reply = HeartbeatReply(T0, (RECORD, RECORD))
    script = Script({**ANSWERS, SendHeartbeat: [reply], FetchManifest: manifests})
    script.run(worker.run())

    assert script.posted == [RecordBootstrapped(RECORD, MANIFEST)]
    assert "not continuing stable@r1" in caplog.text


@pytest.mark.parametrize("failing", [SendHeartbeat, FetchManifest])
def test_without_an_answer_the_heartbeat_is_repeated_soon(
    failing: type, worker: HeartbeatWorker
) -> None:
    """Not after a whole interval: until the two sides have met, the agent does not know what to continue."""
    reply = HeartbeatReply(T0, (RECORD,))
    answers = {**ANSWERS, SendHeartbeat: reply, failing: [NO_ANSWER, NO_ANSWER]}
    script = Script(answers)
    script.run(worker.run())

    assert script.waited == [0.5, 1.0]


def test_a_heartbeat_that_is_answered_makes_the_waits_short_again(worker: HeartbeatWorker) -> None:
    """What failed long ago does not count."""
    replies = [NO_ANSWER, NO_ANSWER, HeartbeatReply(T0), NO_ANSWER]
    script = Script({**ANSWERS, SendHeartbeat: replies})
    script.run(worker.run())

    assert script.waited == [0.5, 1.0, 120.0, 0.5]
