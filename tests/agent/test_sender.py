"""The sender: in order, until durable, and no rollout holds up another."""

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
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
from nixfleet_agent.workers.sender import Sender
from nixfleet_proto.agent_event import ActivationStarted
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    ReplayFrom,
    RolloutUnknown,
    TransportFailed,
)
from tests.agent.lone_agent import T0

pytestmark = pytest.mark.anyio

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
Answer = Callable[[tuple[AgentEventEnvelope, ...]], EventsOutcome]


def all_of(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
    return EventsOutcome(len(envelopes))


@define
class FakeControlPlane:
    """Answers posts as a test says, and remembers what was accepted. A `Transport`."""

    answer: Answer = all_of
    accepted: list[tuple[str, int]] = field(factory=list)
    posts: int = 0

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        await anyio.lowlevel.checkpoint()
        self.posts += 1
        outcome = self.answer(envelopes)
        taken = envelopes[: outcome.accepted]
        self.accepted += [(envelope.rollout_id, envelope.event.seq) for envelope in taken]
        return outcome

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        raise TransportFailed("not asked here")

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        raise TransportFailed("not asked here")

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        raise TransportFailed("not asked here")


@define
class SenderBench:
    """A journal, a sender, and the engine's part in it: to write down what came of a post."""

    journal: SqliteJournal
    control_plane: FakeControlPlane
    clock: FakeClock
    sender: Sender = field(init=False)
    is_empty: anyio.Event = field(factory=anyio.Event)

    def __attrs_post_init__(self) -> None:
        self.sender = Sender(
            "web-01", self.journal, self.control_plane, self.post, Backoff(self.clock, lambda: 0.0)
        )

    async def post(self, input: Input) -> Reply:
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
        if not self.journal.unsent(1):
            self.is_empty.set()
        return Done()

    def lived(self, rollout_id: RolloutId, *seqs: int) -> None:
        self.journal.commit(
            [AppendEvent(rollout_id, ActivationStarted(T0, "directory", seq), T0) for seq in seqs]
        )
        self.sender.wake()

    async def send_until_empty(self) -> None:
        """Run the sender, with time passing as fast as it likes, until nothing is unsent."""
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.sender.run)
                tasks.start_soon(self._let_time_pass)
                await self.is_empty.wait()
                tasks.cancel_scope.cancel()

    async def _let_time_pass(self) -> None:
        while True:
            self.clock.advance(1)
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def desk(tmp_path: Path) -> SenderBench:
    return SenderBench(
        SqliteJournal(tmp_path / "journal.sqlite"), FakeControlPlane(), FakeClock(T0)
    )


async def test_facts_are_sent_in_the_order_they_were_lived(desk: SenderBench) -> None:
    """Everything that is unsent goes out, oldest first."""
    desk.lived(R1, 1, 2, 3)
    await desk.send_until_empty()
    assert desk.control_plane.accepted == [(R1, 1), (R1, 2), (R1, 3)]


async def test_facts_are_sent_again_when_no_answer_came(desk: SenderBench) -> None:
    """An answer that was lost costs another post, not a fact."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if desk.control_plane.posts < 3:
            raise TransportFailed("cut off")
        return all_of(envelopes)

    desk.control_plane.answer = answer
    desk.lived(R1, 1)
    await desk.send_until_empty()
    assert desk.control_plane.posts == 3


async def test_a_refused_fact_is_marked_and_the_rest_goes_on(desk: SenderBench) -> None:
    """One fact that will never be taken does not keep the others back."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].event.seq == 1:
            return EventsOutcome(0, EventRefused(R1, 1, "breaks rule soak-elapsed"))
        return all_of(envelopes)

    desk.control_plane.answer = answer
    desk.lived(R1, 1, 2)
    await desk.send_until_empty()
    assert desk.control_plane.accepted == [(R1, 2)]


async def test_a_gap_makes_the_missing_facts_go_out_again(desk: SenderBench) -> None:
    """The control plane names the first fact it lacks, and gets everything from there."""
    desk.lived(R1, 1, 2)
    desk.journal.commit([MarkAcknowledged((1,))])
    known = [0]

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].event.seq > known[0] + 1:
            return EventsOutcome(0, ReplayFrom(R1, known[0] + 1))
        known[0] = envelopes[-1].event.seq
        return all_of(envelopes)

    desk.control_plane.answer = answer
    await desk.send_until_empty()
    assert desk.control_plane.accepted == [(R1, 1), (R1, 2)]


async def test_an_unknown_rollout_does_not_hold_up_another(desk: SenderBench) -> None:
    """Facts of a rollout that the control plane does not know yet wait by themselves."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].rollout_id == R1 and desk.control_plane.posts < 6:
            return EventsOutcome(0, RolloutUnknown(R1))
        return all_of(envelopes)

    desk.control_plane.answer = answer
    desk.lived(R1, 1)
    desk.lived(R2, 1)
    await desk.send_until_empty()
    assert desk.control_plane.accepted == [(R2, 1), (R1, 1)]


async def test_any_number_of_facts_of_an_unknown_rollout_do_not_hide_the_others(
    desk: SenderBench,
) -> None:
    """More of them than a batch holds, and older than everything else: the next rollout is heard all the same."""

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        if envelopes[0].rollout_id == R1 and (R2, 1) not in desk.control_plane.accepted:
            return EventsOutcome(0, RolloutUnknown(R1))
        return all_of(envelopes)

    desk.control_plane.answer = answer
    desk.lived(R1, *range(1, BATCH_LENGTH_MAX + 2))
    desk.lived(R2, 1)
    await desk.send_until_empty()
    assert desk.control_plane.accepted[0] == (R2, 1)
    assert len(desk.control_plane.accepted) == BATCH_LENGTH_MAX + 2


async def test_a_replay_that_does_not_help_is_not_repeated_in_a_hurry(desk: SenderBench) -> None:
    """Asked for the same again, the sender takes its time, longer each time."""
    desk.control_plane.answer = lambda envelopes: EventsOutcome(0, ReplayFrom(R1, 1))
    desk.lived(R1, 2)
    with anyio.move_on_after(0.5):
        await desk.sender.run()
    assert desk.control_plane.posts == 2


async def test_a_wait_that_was_asked_for_is_kept_and_not_carried_over(desk: SenderBench) -> None:
    """Retry-After counts for the try that it answered; the next failure without one waits by itself."""
    waited: list[float] = []
    sleep = desk.clock.sleep

    async def noted_sleep(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    desk.clock.sleep = noted_sleep  # type: ignore[method-assign]

    def answer(envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        match desk.control_plane.posts:
            case 1:
                raise TransportFailed("full", retry_after_seconds=30)
            case 2:
                raise TransportFailed("cut off")
            case _:
                return all_of(envelopes)

    desk.control_plane.answer = answer
    desk.lived(R1, 1)
    await desk.send_until_empty()
    assert waited == [30.0, 1.0]
