"""The heartbeat: what it says, and that nothing the control plane asks for is lost."""

import logging
from datetime import timedelta

import pytest

from nixfleet_agent.messages.inputs import (
    Done,
    RecordBootstrapped,
    ReplayAsked,
    RequestRefused,
    RolloutsRest,
)
from nixfleet_agent.workers.answer_bounds import RECORDS_MAX
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.freshness import FreshnessWatch
from nixfleet_agent.workers.heartbeats import HeartbeatWorker
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import (
    CacheManifest,
    FetchManifest,
    Lock,
    PostInput,
    ReadLastSeqs,
    ReadRunningClosure,
    SendHeartbeat,
)
from nixfleet_agent.workers.warrants import WarrantIntake
from nixfleet_proto.codec import encode_manifest
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey, sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.http.bodies import REFUSALS_MAX, decode_heartbeat, encode_heartbeat
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_runtime.transport import (
    ActingRefusal,
    Heartbeat,
    HeartbeatReply,
    ReleaseInForce,
    ReplayFrom,
    TransportFailed,
)
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
AT_REST = Lock()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals(lambda: T0)


@pytest.fixture
def worker(refusals: Refusals) -> HeartbeatWorker:
    trust = TrustRoot(KeySlot(KEY.public_key))
    manifests = ManifestSource("web-01", lambda: trust, lambda: T0, 60, LOG)
    post = RetryingPost(Backoff(lambda: 0.0), LOG)
    freshness = FreshnessWatch(manifests, lambda: T0, 60, LOG)
    intake = WarrantIntake(lambda: trust, lambda: T0, post, refusals, LOG)
    shared = refusals, freshness, Contact(lambda: T0), AT_REST, intake
    return HeartbeatWorker("web-01", 120.0, manifests, post, Backoff(lambda: 0.0), LOG, *shared)


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


def test_what_is_refused_is_in_the_next_heartbeat(
    worker: HeartbeatWorker, refusals: Refusals
) -> None:
    """A refused dispatch, and a record whose manifest does not verify."""
    forged = sign_artefact(encode_manifest(MANIFEST.value), SigningKey.generate())
    refusals.dispatch_refused("stable@r9", "too old")
    replies = [HeartbeatReply(T0, (RECORD,)), HeartbeatReply(T0)]
    script = Script({**ANSWERS, SendHeartbeat: replies, FetchManifest: [forged]})
    script.run(worker.run())

    first, second, *_ = (it.heartbeat for it in script.steps if isinstance(it, SendHeartbeat))
    assert first.refusals == (ActingRefusal("stable@r9", "too old", T0),)
    assert [it.rollout_id for it in second.refusals] == ["stable@r1", "stable@r9"]
    assert [it.rollout_id for it in refusals.current()] == ["stable@r9"]


def test_refusals_are_no_longer_than_a_control_plane_takes(refusals: Refusals) -> None:
    """Their texts are a control plane's: one that lied must not make later heartbeats too large for an honest one."""
    refusals.dispatch_refused("stable@" + "r" * 9_999, "expected this, found " + "x" * 9_999)
    refusals.requests_refused({f"stable@{number}": "no" for number in range(99)})
    beat = Heartbeat("web-01", "old", LAST_SEQS, refusals.current())
    assert decode_heartbeat(encode_heartbeat(beat)) == beat
    assert len(beat.refusals) == REFUSALS_MAX - 2


def test_an_answer_with_more_records_than_a_host_has_is_no_answer(worker: HeartbeatWorker) -> None:
    """Each would cost a fetch and a verification."""
    reply = HeartbeatReply(T0, (RECORD,) * (RECORDS_MAX + 1))
    script = Script({**ANSWERS, SendHeartbeat: [reply]})
    script.run(worker.run())

    assert script.posted == []
    assert script.waited == [0.5]


class Watch:
    """A watch over the freshness of manifests, and the time."""

    def __init__(self) -> None:
        self.now = T0
        trust = TrustRoot(KeySlot(KEY.public_key))
        manifests = ManifestSource("web-01", lambda: trust, lambda: self.now, None, LOG)
        self.watch = FreshnessWatch(manifests, lambda: self.now, None, LOG)

    def look(self, minutes: int, release: ReleaseInForce | None) -> int:
        """Look after so many minutes; return how often a manifest was fetched."""
        self.now = T0 + timedelta(minutes=minutes)
        script = Script({**ANSWERS, CacheManifest: None})
        script.run(self.watch.look(release))
        return sum(isinstance(it, FetchManifest) for it in script.steps)


def test_a_host_warns_once_when_no_fresh_manifest_comes(caplog: pytest.LogCaptureFixture) -> None:
    """It verifies what is said to be newest, and warns once the window of that is over without a newer one."""
    caplog.set_level("INFO")
    watch = Watch()
    release = ReleaseInForce("stable@r1", MANIFEST.signed_at)

    assert watch.look(1, release) == 1
    assert "a fresh manifest: stable@r1, signed" in caplog.text
    assert watch.look(100, release) == 0
    assert "no fresh manifest" not in caplog.text
    watch.look(181, release)
    watch.look(182, release)

    assert caplog.text.count("releases have stopped or are withheld") == 1
    assert "no fresh manifest for 181 minutes (the newest was signed" in caplog.text


def test_a_control_plane_that_only_says_that_there_is_a_newer_release_is_not_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The claim is verified, at most once in half an hour; the warning comes all the same."""
    watch = Watch()
    newer = ReleaseInForce("stable@r1", MANIFEST.signed_at + timedelta(hours=9))

    fetched = [watch.look(minutes, newer) for minutes in (1, 2, 32, 181)]

    assert fetched == [1, 0, 1, 1]
    assert "releases have stopped or are withheld" in caplog.text


def test_a_request_that_the_engine_refuses_is_in_the_next_heartbeat(
    worker: HeartbeatWorker, refusals: Refusals
) -> None:
    """The reason goes back to the control plane, as long as the request comes."""
    refused = RequestRefused("stable@r1", "the journal has more")
    replies = [HeartbeatReply(T0, (), (REPLAY,)), HeartbeatReply(T0)]
    script = Script({**ANSWERS, SendHeartbeat: replies, PostInput: refused})
    script.run(worker.run())

    first, second, *_ = (it.heartbeat for it in script.steps if isinstance(it, SendHeartbeat))
    assert first.refusals == ()
    assert second.refusals == (ActingRefusal("stable@r1", "the journal has more", T0),)
    assert refusals.current() == ()


def test_a_refused_rollback_is_reported_until_it_is_withdrawn(refusals: Refusals) -> None:
    """Beside the other refusals, each with the time since when it is refused."""
    refusals.rollback_refused("stable@r1", "the journal was lost")
    assert refusals.current() == (ActingRefusal("stable@r1", "the journal was lost", T0),)
    refusals.rollback_refused("stable@r1", None)
    assert refusals.current() == ()


def test_which_rollouts_rest_is_posted_when_it_changes(worker: HeartbeatWorker) -> None:
    """Until it is durable there is no word to the engine that was lost; the same answer again is no news."""
    rests, none = HeartbeatReply(T0, resting=("stable@r1",)), HeartbeatReply(T0)
    posts = [WriteFailed(), Done(), Done()]
    replies = [none, rests, rests, none]
    script = Script({**ANSWERS, SendHeartbeat: replies, PostInput: posts})
    script.run(worker.run())

    at_rest, going_on = RolloutsRest(frozenset({"stable@r1"})), RolloutsRest(frozenset())
    assert script.posted == [at_rest, at_rest, going_on]


def test_rollouts_at_rest_that_the_host_did_not_name_are_no_answer(worker: HeartbeatWorker) -> None:
    """No control plane gives one, and none of it is used."""
    reply = HeartbeatReply(T0, resting=("stable@r1", "stable@r9"))
    script = Script({**ANSWERS, SendHeartbeat: [reply]})
    script.run(worker.run())

    assert script.posted == []
