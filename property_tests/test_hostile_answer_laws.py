"""Laws of answers: whatever a control plane answers, a call returns what was asked for, or raises TransportFailed.

Bodies are drawn near what is right, so that they decode: the names are those of the wire, the values are anything.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx2
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.messages.inputs import Done, EventRejected, EventsAcknowledged, ReplayAsked
from nixfleet_agent.network.http_transport import HttpTransport
from nixfleet_agent.workers.answer_bounds import (
    RECORDS_MAX,
    require_bounded_dispatch,
    require_bounded_outcome,
    require_bounded_reply,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.sender import Sender
from nixfleet_agent.workers.steps import AgentStep, PostEvents, PostInput, ReadUnsent, Wait
from nixfleet_proto.agent_event import ActivationStarted
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http import outcomes
from nixfleet_runtime.http.client import SignedClient
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.storage.record_codec import encode_host_record
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
    TransportFailed,
)
from nixfleet_state_machine.host.state import HostRolloutState
from tests.agent.steps import Stopped, carried_out

T0 = datetime(2026, 5, 16, 1, tzinfo=UTC)
R1 = RolloutId("stable@r1")
KEY = SigningKey.generate()
ENVELOPES = tuple(
    AgentEventEnvelope("web-01", R1, ActivationStarted(T0, "directory", seq)) for seq in (3, 4, 5)
)
ROWS = tuple(
    JournalRow(row_id, R1, envelope.event) for row_id, envelope in enumerate(ENVELOPES, start=1)
)
SEQS = tuple(row.fact.seq for row in ROWS)
TEXT_SHOWN_MAX = 16_384
"""Of a text that is kept or logged: title, type and detail, each with a limit of its own."""
WAITS_MAX = 16
WAITED_SECONDS_MIN = 30
"""Waits of 0.5, 1, 2 … 30 s: three facts can make them short again three times, at worst after every fourth wait."""
POSTS_MAX = 150
HEARTBEAT = Heartbeat("web-01", "old", FrozenMap({"stable@r1": 5}))
RECORD = json.loads(
    encode_host_record(HostRolloutState.pending(R1, "web-01", "stable", "new", T0, T0))
)

NUMBERS = st.one_of(
    st.integers(-2, 8), st.integers(), st.floats(), st.booleans(), st.none(), st.just(10**400)
)
TEXTS = st.one_of(st.sampled_from([R1, "stable@r2", "", "x" * 50_000]), st.text(max_size=20))
TIMES = st.one_of(
    st.sampled_from(["2026-05-16T01:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"]),
    TEXTS,
)
VALUES = st.one_of(NUMBERS, TEXTS, TIMES, st.lists(TEXTS, max_size=3))


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with some of `members`."""
    return st.fixed_dictionaries({}, optional=members)


PROBLEMS = objects(
    type=st.sampled_from(
        [
            *(outcomes.GAP, outcomes.EVENT_REFUSED, outcomes.SEQ_FORKED),
            *(outcomes.EVENT_EARLY, outcomes.HOST_HELD, outcomes.ROLLOUT_UNKNOWN),
        ]
    ),
    title=TEXTS,
    detail=TEXTS,
    accepted=NUMBERS,
    rolloutId=TEXTS,
    firstMissingSeq=NUMBERS,
    seq=NUMBERS,
    retryAfterSeconds=NUMBERS,
)
RECORDS = objects(**dict.fromkeys(RECORD, VALUES)).map(lambda changed: RECORD | changed)
REPLIES = objects(
    bootstrap_rollouts=st.lists(RECORDS, max_size=3) | st.just([RECORD] * (RECORDS_MAX + 1)),
    replay_from=st.lists(objects(rollout_id=TEXTS, first_missing_seq=NUMBERS), max_size=3),
    release=objects(rollout_id=TEXTS, signed_at=TIMES) | st.none(),
).map(lambda reply: {"received_at": "2026-05-16T01:00:00Z"} | reply)
DISPATCHES = objects(
    hostname=TEXTS, rolloutId=TEXTS, targetClosure=TEXTS, soakDueAt=TIMES, enqueuedAt=TIMES
)
BODIES = st.one_of(PROBLEMS, REPLIES, DISPATCHES).map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 204, 400, 401, 404, 409, 413, 422, 429, 500, 503])
RETRY_AFTERS = st.sampled_from(["", "0", "9" * 400, "-1", "Sat, 16 May 2026 01:00:30 GMT", "NaN"])


@given(BODIES, STATUSES, RETRY_AFTERS, st.sampled_from(["post", "poll", "heartbeat", "manifest"]))
def test_any_answer_is_what_was_asked_for_or_no_answer(
    body: bytes, status: int, retry_after: str, call: str
) -> None:
    """No other error, and nothing beyond the bounds: neither texts nor numbers."""

    def answered(_: httpx2.Request) -> httpx2.Response:
        headers = {"Retry-After": retry_after}
        return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(body))

    async def asked() -> None:
        fake = httpx2.MockTransport(answered)
        async with httpx2.AsyncClient(base_url="http://fleet", transport=fake) as client:
            transport = HttpTransport(SignedClient(client, "host:web-01", KEY, SystemClock()), KEY)
            await CALLS[call](transport)

    failed: TransportFailed | None = None
    try:
        anyio.run(asked)
    except TransportFailed as error:
        failed = error
    if failed is not None:
        assert len(str(failed)) <= TEXT_SHOWN_MAX
        assert len(failed.kind) <= TEXT_SHOWN_MAX
        assert 0.5 <= Backoff(lambda: 0.0).next_seconds(failed.retry_after_seconds) <= 60


async def _post(transport: HttpTransport) -> None:
    outcome = await transport.post_events(ENVELOPES)
    require_bounded_outcome(outcome, R1, SEQS)
    stopped = outcome.stopped_by
    if stopped is None:
        assert outcome.accepted == len(ENVELOPES)
        return
    assert 0 <= outcome.accepted < len(ENVELOPES)
    if isinstance(stopped, EventRefused | EventEarly | HostHeld):
        assert len(stopped.reason) <= TEXT_SHOWN_MAX


async def _poll(transport: HttpTransport) -> None:
    dispatch = await transport.next_dispatch(0)
    if dispatch is not None:
        require_bounded_dispatch(dispatch)


async def _heartbeat(transport: HttpTransport) -> None:
    reply = await transport.heartbeat(HEARTBEAT)
    require_bounded_reply(reply, HEARTBEAT)
    assert len(reply.bootstrap_rollouts) <= RECORDS_MAX


async def _manifest(transport: HttpTransport) -> None:
    await transport.fetch_manifest(R1)


CALLS: dict[str, Callable[[HttpTransport], Awaitable[None]]] = {
    "post": _post,
    "poll": _poll,
    "heartbeat": _heartbeat,
    "manifest": _manifest,
}

SMALL = st.integers(-1, 7)
ROLLOUTS = st.sampled_from([R1, RolloutId("stable@r2")])
REFUSALS = st.one_of(
    st.none(),
    st.builds(ReplayFrom, ROLLOUTS, SMALL),
    st.builds(EventRefused, ROLLOUTS, SMALL, st.just("no")),
    st.builds(SeqForked, ROLLOUTS, SMALL),
    st.builds(EventEarly, ROLLOUTS, SMALL, st.just("early"), SMALL),
    st.builds(RolloutUnknown, ROLLOUTS),
    st.builds(HostHeld, ROLLOUTS, st.just("held")),
)


@given(st.lists(st.builds(EventsOutcome, SMALL, REFUSALS), min_size=1, max_size=6))
def test_a_sender_posts_no_more_than_its_facts_and_its_waits_explain(
    answers: list[EventsOutcome],
) -> None:
    """Whatever answers come, in turn and without end: facts settled, and waits that grow, bound the posts."""
    journal = dict.fromkeys(SEQS, False)  # by number, whether it is settled
    posts, waited = 0, list[float]()

    def answer(step: AgentStep) -> object:
        nonlocal posts
        match step:
            case ReadUnsent(_, leave_out):
                is_left_out = R1 in leave_out
                return tuple(row for row in ROWS if not journal[row.fact.seq] and not is_left_out)
            case PostEvents():
                posts += 1
                if posts > POSTS_MAX:
                    raise Stopped
                return answers[posts % len(answers)]
            case PostInput(EventsAcknowledged(row_ids)):
                journal.update((ROWS[row_id - 1].fact.seq, True) for row_id in row_ids)
            case PostInput(EventRejected(row_id)):
                journal[ROWS[row_id - 1].fact.seq] = True
            case PostInput(ReplayAsked(replay)):
                journal.update((seq, False) for seq in SEQS if seq >= replay.first_missing_seq)
            case Wait(seconds):
                if seconds is None or len(waited) == WAITS_MAX:
                    raise Stopped
                waited.append(seconds)
            case _:
                pass
        return Done()

    log = logging.Logger("silent", logging.CRITICAL)
    post = RetryingPost(Backoff(lambda: 0.0), log)
    sender = Sender("web-01", 0.0, post, Backoff(lambda: 0.0), log, Contact(lambda: T0))
    with suppress(Stopped):
        carried_out(sender.run(), answer)
    assert posts <= POSTS_MAX
    assert len(waited) < WAITS_MAX or sum(waited) >= WAITED_SECONDS_MIN
