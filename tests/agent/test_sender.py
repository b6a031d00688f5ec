"""The sender: in order, until durable, and no rollout holds up another."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.messages.inputs import (
    Done,
    EventRejected,
    EventsAcknowledged,
    Input,
    ReplayAsked,
    Reply,
    RolloutDisowned,
)
from nixfleet_agent.messages.writes import AppendEvent, MarkAcknowledged, MarkRefused, MarkUnsent
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.sender import LINGERS_MAX, Sender
from nixfleet_agent.workers.steps import AgentStep, PostEvents, PostInput, ReadUnsent, Wait
from nixfleet_proto.agent_event import ActivationFailed, ActivationStarted
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefused,
    EventsOutcome,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
    TransportFailed,
)
from tests.agent.lone_agent import T0
from tests.agent.steps import Stopped, carried_out

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
POSTS_MAX = 200
"""After so many the bench stops a sender that would go on for ever without a wait."""
Answer = Callable[[tuple[AgentEventEnvelope, ...]], EventsOutcome]


def all_of(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
    return EventsOutcome(len(envelopes))


@define
class FakeControlPlane:
    """Answers posts as a test says, and remembers what was accepted."""

    answer: Answer = all_of
    accepted: list[tuple[str, int]] = field(factory=list)
    posts: int = 0

    def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if self.posts == POSTS_MAX:
            raise Stopped
        self.posts += 1
        outcome = self.answer(envelopes)
        taken = envelopes[: outcome.accepted]
        self.accepted += [(envelope.rollout_id, envelope.event.seq) for envelope in taken]
        return outcome


@define
class SenderBench:
    """A journal, a sender, and the engine's part in it: to write down the result of a post. Waits end at once."""

    journal: SqliteJournal
    control_plane: FakeControlPlane
    sender: Sender = field(init=False)
    waited: list[float] = field(factory=list)
    hurried: list[bool] = field(factory=list)
    waits_max: int = 100
    when_waiting: Callable[[], None] = lambda: None

    def __attrs_post_init__(self) -> None:
        self.sender = self.lingering(0.0)

    def lingering(self, linger_seconds: float) -> Sender:
        """Return a sender whose facts wait so long for others."""
        log = logging.getLogger(__name__)
        post = RetryingPost(Backoff(lambda: 0.0), log)
        return Sender(
            "web-01", linger_seconds, post, Backoff(lambda: 0.0), log, Contact(lambda: T0)
        )

    def lived(self, rollout_id: RolloutId, *seqs: int) -> None:
        self.journal.commit(
            [AppendEvent(rollout_id, ActivationStarted(T0, "directory", seq), T0) for seq in seqs]
        )
        self.sender.wake()

    def send(self) -> None:
        """Run the sender until it waits for new rows, or has waited `waits_max` times."""
        with suppress(Stopped):
            carried_out(self.sender.run(), self._answer)

    def _answer(self, step: AgentStep) -> object:
        match step:
            case ReadUnsent(limit, leave_out):
                return self.journal.unsent(limit, leave_out)
            case PostEvents(envelopes):
                return self.control_plane.post_events(envelopes)
            case PostInput(input):
                return self._written(input)
            case Wait(seconds, wakeup):
                if seconds is None or len(self.waited) == self.waits_max:
                    raise Stopped
                self.waited.append(seconds)
                self.hurried.append(wakeup is not None)
                self.when_waiting()
                return None
            case _:
                raise AssertionError(step)

    def _written(self, input: Input) -> Reply:
        match input:
            case EventsAcknowledged(row_ids):
                self.journal.commit([MarkAcknowledged(row_ids)])
            case EventRejected(row_id, refusal):
                self.journal.commit([MarkRefused(row_id, refusal.reason)])
            case ReplayAsked(replay):
                self.journal.commit([MarkUnsent(R1, replay.first_missing_seq)])
            case RolloutDisowned():
                pass
            case _:
                raise AssertionError(input)
        return Done()


@pytest.fixture
def bench(tmp_path: Path) -> SenderBench:
    return SenderBench(SqliteJournal(tmp_path / "journal.sqlite"), FakeControlPlane())


def test_facts_are_sent_in_the_order_they_were_lived(bench: SenderBench) -> None:
    """Everything that is unsent goes out, oldest first."""
    bench.lived(R1, 1, 2, 3)
    bench.send()
    assert bench.control_plane.accepted == [(R1, 1), (R1, 2), (R1, 3)]


def test_facts_are_sent_again_when_no_answer_came(bench: SenderBench) -> None:
    """An answer that was lost costs another post, not a fact."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if bench.control_plane.posts < 3:
            raise TransportFailed("cut off")
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1)
    bench.send()
    assert bench.control_plane.posts == 3


def test_a_refused_fact_is_marked_and_the_rest_goes_on(bench: SenderBench) -> None:
    """One fact that will never be taken does not keep the others back."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].event.seq == 1:
            return EventsOutcome(0, EventRefused(R1, 1, "breaks rule soak-elapsed"))
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1, 2)
    bench.send()
    assert bench.control_plane.accepted == [(R1, 2)]


def test_a_fact_whose_number_is_taken_is_marked_and_the_rest_goes_on(bench: SenderBench) -> None:
    """Another machine may have this host's key: what it said first stays, and nothing is repeated for ever."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].event.seq == 1:
            return EventsOutcome(0, SeqForked(R1, 1))
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1, 2)
    bench.send()
    assert bench.control_plane.accepted == [(R1, 2)]


def test_a_fact_that_is_early_waits_as_it_is_and_what_came_before_it_goes_without_it(
    bench: SenderBench,
) -> None:
    """The control plane takes nothing of a batch with an early fact: it is sent alone, until it is taken."""
    posted: list[list[int]] = []

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        seqs = [envelope.event.seq for envelope in envelopes]
        posted.append(seqs)
        if 3 in seqs and len(posted) < 5:
            return EventsOutcome(0, EventEarly(R1, 3, "its date is to come", 240))
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1, 2, 3, 4)
    bench.send()
    assert posted == [[1, 2, 3, 4], [1, 2], [3, 4], [3, 4], [3, 4]]
    assert bench.control_plane.accepted == [(R1, seq) for seq in (1, 2, 3, 4)]


def test_a_fact_that_is_early_does_not_hold_up_another_rollout(bench: SenderBench) -> None:
    """A host whose clock was ahead for a moment can be moved on by a newer release."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].rollout_id == R1 and bench.control_plane.posts < 6:
            return EventsOutcome(0, EventEarly(R1, 1, "its date is to come", 3600))
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1)
    bench.lived(R2, 1)
    bench.send()
    assert bench.control_plane.accepted == [(R2, 1), (R1, 1)]
    assert max(bench.waited) < 60


def test_a_gap_makes_the_missing_facts_go_out_again(bench: SenderBench) -> None:
    """The control plane names the first fact it lacks, and gets everything from there."""
    bench.lived(R1, 1, 2)
    bench.journal.commit([MarkAcknowledged((1,))])
    known = [0]

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].event.seq > known[0] + 1:
            return EventsOutcome(0, ReplayFrom(R1, known[0] + 1))
        known[0] = envelopes[-1].event.seq
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.send()
    assert bench.control_plane.accepted == [(R1, 1), (R1, 2)]


def test_an_unknown_rollout_does_not_hold_up_another(bench: SenderBench) -> None:
    """Facts of a rollout that the control plane does not know yet wait by themselves."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].rollout_id == R1 and bench.control_plane.posts < 6:
            return EventsOutcome(0, RolloutUnknown(R1))
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1)
    bench.lived(R2, 1)
    bench.send()
    assert bench.control_plane.accepted == [(R2, 1), (R1, 1)]


def test_any_number_of_facts_of_an_unknown_rollout_do_not_hide_the_others(
    bench: SenderBench,
) -> None:
    """More of them than a batch holds, and older than everything else: the next rollout is heard all the same."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].rollout_id == R1 and (R2, 1) not in bench.control_plane.accepted:
            return EventsOutcome(0, RolloutUnknown(R1))
        return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, *range(1, BATCH_LENGTH_MAX + 2))
    bench.lived(R2, 1)
    bench.send()
    assert bench.control_plane.accepted[0] == (R2, 1)
    assert len(bench.control_plane.accepted) == BATCH_LENGTH_MAX + 2


def test_a_replay_that_does_not_help_is_not_repeated_in_a_hurry(bench: SenderBench) -> None:
    """Asked for the same again, the sender takes its time, longer each time."""
    bench.control_plane.answer = lambda envelopes: EventsOutcome(0, ReplayFrom(R1, 1))
    bench.waits_max = 4
    bench.lived(R1, 2)
    bench.send()
    assert bench.control_plane.posts == 6
    assert bench.waited == [0.5, 1.0, 2.0, 4.0]


def test_a_wait_that_was_asked_for_is_kept_and_not_carried_over(bench: SenderBench) -> None:
    """Retry-After counts for the try that it answered; the next failure without one waits by itself."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        match bench.control_plane.posts:
            case 1:
                raise TransportFailed("full", retry_after_seconds=30)
            case 2:
                raise TransportFailed("cut off")
            case _:
                return all_of(envelopes)

    bench.control_plane.answer = answer
    bench.lived(R1, 1)
    bench.send()
    assert bench.waited == [30.0, 1.0]


def test_a_wake_during_a_read_is_not_lost(bench: SenderBench) -> None:
    """A row that was committed after the read is sent without waiting for the next one."""
    work = bench.sender.run()
    assert isinstance(next(work), ReadUnsent)
    bench.sender.wake()
    step = work.send(())

    assert isinstance(step, Wait)
    assert step.wakeup is not None
    assert step.wakeup.is_set


def test_replays_of_changing_numbers_are_no_progress(bench: SenderBench) -> None:
    """A control plane that takes and forgets in turn waits longer each time, whatever it asks for."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        stopped = min(1, len(envelopes) - 1)
        first = 1 + bench.control_plane.posts % 2
        return EventsOutcome(stopped, ReplayFrom(R1, min(first, envelopes[stopped].event.seq)))

    bench.control_plane.answer = answer
    bench.waits_max = 5
    bench.lived(R1, 1, 2, 3)
    bench.send()
    assert bench.waited == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert bench.control_plane.posts <= 10


def test_facts_taken_again_do_not_make_the_waits_short(bench: SenderBench) -> None:
    """One is refused and asked for again: only a fact that was never taken or refused before is progress."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].event.seq == 1:
            return EventsOutcome(0, EventRefused(R1, 1, "no"))
        return EventsOutcome(0, ReplayFrom(R1, 1))

    bench.control_plane.answer = answer
    bench.waits_max = 5
    bench.lived(R1, 1, 2)
    bench.send()
    assert bench.control_plane.posts <= 20
    assert bench.waited == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_fact_that_is_early_and_was_not_sent_is_no_answer(bench: SenderBench) -> None:
    """Otherwise two numbers in turn would keep the sender busy."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        seq = 3 if len(envelopes) > 2 else 10
        return EventsOutcome(0, EventEarly(R1, seq, "its date is to come", 1))

    bench.control_plane.answer = answer
    bench.waits_max = 5
    bench.lived(R1, 1, 2, 3)
    bench.send()
    assert bench.control_plane.posts <= 12
    assert bench.waited == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_only_the_wait_for_an_answer_ends_when_another_call_is_answered(bench: SenderBench) -> None:
    """Otherwise polls that fail and succeed in turn would end each wait after a replay."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if bench.control_plane.posts == 1:
            raise TransportFailed("cut off")
        return EventsOutcome(0, ReplayFrom(R1, 1))

    bench.control_plane.answer = answer
    bench.waits_max = 3
    bench.lived(R1, 1)
    bench.send()
    assert bench.hurried == [True, False, False]


def test_facts_that_no_rollout_waits_for_are_sent_with_those_of_the_next_moment(
    bench: SenderBench,
) -> None:
    """What comes while they linger goes in the same request."""
    bench.sender = bench.lingering(0.05)
    bench.lived(R1, 1)
    later = iter([(2, 3)])
    bench.when_waiting = lambda: bench.lived(R1, *next(later, ()))

    bench.send()

    assert bench.control_plane.posts == 1
    assert bench.control_plane.accepted == [(R1, 1), (R1, 2), (R1, 3)]
    assert set(bench.waited) == {0.05}


def test_a_fact_that_changes_a_state_goes_at_once_with_all_that_linger(bench: SenderBench) -> None:
    """It ends the wait of those before it, and has none itself."""
    bench.sender = bench.lingering(0.05)
    bench.lived(R1, 1)
    failed = ActivationFailed(1, "it broke", T0, seq=2)

    def fail() -> None:
        bench.journal.commit([AppendEvent(R1, failed, T0)])
        bench.sender.wake()

    bench.when_waiting = fail

    bench.send()

    assert bench.control_plane.posts == 1
    assert bench.control_plane.accepted == [(R1, 1), (R1, 2)]
    assert bench.waited == [0.05]


def test_facts_that_come_without_end_do_not_linger_without_end(bench: SenderBench) -> None:
    """A probe at a short interval puts the others off four times."""
    bench.sender = bench.lingering(0.05)
    bench.lived(R1, 1)
    seqs = iter(range(2, 40))
    bench.when_waiting = lambda: bench.lived(R1, next(seqs))
    bench.waits_max = LINGERS_MAX

    bench.send()

    assert bench.control_plane.posts == 1
    assert len(bench.control_plane.accepted) == 1 + LINGERS_MAX


def test_without_lingering_every_fact_goes_at_once(bench: SenderBench) -> None:
    """A linger of 0 waits for nothing."""
    bench.lived(R1, 1)

    bench.send()

    assert bench.control_plane.accepted == [(R1, 1)]
    assert bench.waited == []
