"""The contract of a transport: what it says was accepted is durable, and what comes out is what went in.

Subclass `TransportContract`, connect one host with a control plane that runs, and run pytest. Serve the
control plane and open the client in `connect`, and stop both at its end; a transport with a server of its
own may replace `serve`, too.
Source: docs/spec/wire.md, Calls.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

import anyio
from attrs import evolve

from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope, Dispatch
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    Heartbeat,
    ReplayFrom,
    RolloutUnknown,
    Transport,
    TransportFailed,
)
from nixfleet_testing.contracts.difference import difference
from nixfleet_testing.contracts.event_loop import (
    ASYNCIO,
    ends_within,
    in_event_loop,
    let_others_run,
)
from nixfleet_testing.contracts.histories import (
    CONVERGES,
    HOST,
    OTHER_HOST,
    PRIOR,
    ROLLBACK_FAILS_FIRST,
    ROLLOUT,
    ROLLS_BACK,
    T0,
    TARGET,
    record_after,
)
from nixfleet_testing.contracts.served_fleet import SOAK_MINUTES, ServedFleet, served_fleet

POLLS_CANCELLED = 4
_LOOKED_EVERY_SECONDS = 0.005


def enveloped(*facts: AgentEvent, rollout_id: str = ROLLOUT) -> tuple[AgentEventEnvelope, ...]:
    """Return `facts` as `HOST` sends them."""
    return tuple(AgentEventEnvelope(HOST, rollout_id, fact) for fact in facts)


class Line:
    """A fleet that is served, and the transports of its two hosts."""

    def __init__(self, fleet: ServedFleet, host: Transport, other_host: Transport) -> None:
        self.fleet = fleet
        self.host = host
        self.other_host = other_host

    def require_durable(self, *facts: AgentEvent) -> None:
        """The log must have exactly these facts of `HOST`, in this order."""
        expected = [(HOST, fact) for fact in facts]
        found = self.fleet.durable_facts()
        assert found == expected, (
            f"{len(facts)} facts should be in the log, as and in the order in which they were sent, found "
            f"{len(found)}: {difference(expected, found)}"
        )


class TransportContract(ABC):
    """What every `Transport` must do. Subclass it as `class TestMyTransport(TransportContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your transport runs in: "asyncio" or "trio"."""

    patience_seconds: float = 5.0
    """How much real time an answer may take."""
    grace_seconds: float = 0.05
    """How long a test waits for an answer that must not come."""
    polls_wait_at_the_control_plane: ClassVar[bool] = True
    """Whether a poll is open at the control plane while it waits; `False` if dispatches are published."""

    @abstractmethod
    def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AbstractAsyncContextManager[Transport]:
        """Open your transport from the agent of `hostname` to a control plane that runs in this process."""

    def serve(self, directory: Path) -> AbstractAsyncContextManager[ServedFleet]:
        """Run the control plane that the hosts are connected with."""
        return served_fleet(directory)

    # Events.

    @in_event_loop
    async def test_accepted_events_are_durable_in_their_order(self, tmp_path: Path) -> None:
        """Each fact of a batch is in the log, as it was, in the order in which it was sent."""
        async with self._line(tmp_path, published=True) as line:
            outcome = await line.host.post_events(enveloped(*ROLLBACK_FAILS_FIRST))
            _require_outcome(outcome, EventsOutcome(len(ROLLBACK_FAILS_FIRST)))
            line.require_durable(*ROLLBACK_FAILS_FIRST)

    @in_event_loop
    async def test_events_are_not_accepted_before_they_are_durable(self, tmp_path: Path) -> None:
        """Until the control plane has written them, there is no answer: the agent would forget to repeat them."""
        async with self._line(tmp_path, published=True) as line:
            line.fleet.store.hold_up()
            post = _Call(lambda: line.host.post_events(enveloped(*CONVERGES[:1])))
            async with anyio.create_task_group() as agent:
                agent.start_soon(post.make)
                written = await line.fleet.store.begun()
                await let_others_run()
                early = await ends_within(self.grace_seconds, post.over.wait)
                line.fleet.store.let_go()
                assert written, "events were posted, and nothing reached the control plane's store"
                assert not early, (
                    f"events were acknowledged before they were durable: {post.answer}"
                )
            _require_outcome(post.answer, EventsOutcome(1))

    @in_event_loop
    async def test_a_full_batch_is_accepted(self, tmp_path: Path) -> None:
        """As many events as a batch may have go through at once."""
        chatter = [evolve(ROLLS_BACK[5], seq=seq) for seq in range(6, BATCH_LENGTH_MAX + 1)]
        facts = (*ROLLS_BACK[:5], *chatter)
        async with self._line(tmp_path, published=True) as line:
            outcome = await line.host.post_events(enveloped(*facts))
            _require_outcome(outcome, EventsOutcome(BATCH_LENGTH_MAX))
            line.require_durable(*facts)

    @in_event_loop
    async def test_events_that_are_sent_again_are_accepted_and_kept_once(
        self, tmp_path: Path
    ) -> None:
        """An agent whose answer was lost repeats itself, and gets the same answer."""
        async with self._line(tmp_path, published=True) as line:
            for _ in range(2):
                outcome = await line.host.post_events(enveloped(*CONVERGES[:3]))
                _require_outcome(outcome, EventsOutcome(3))
            line.require_durable(*CONVERGES[:3])

    @in_event_loop
    async def test_a_gap_is_answered_with_where_to_begin(self, tmp_path: Path) -> None:
        """The control plane names the first event that it lacks, and takes none after it."""
        async with self._line(tmp_path, published=True) as line:
            await line.host.post_events(enveloped(*CONVERGES[:1]))
            outcome = await line.host.post_events(enveloped(*CONVERGES[3:5]))
            _require_outcome(outcome, EventsOutcome(0, ReplayFrom(ROLLOUT, 2)))
            line.require_durable(*CONVERGES[:1])

    @in_event_loop
    async def test_an_event_that_does_not_apply_is_refused_by_name(self, tmp_path: Path) -> None:
        """Those before it are accepted; the refusal says which one, and why."""
        again = evolve(CONVERGES[0], seq=2)
        async with self._line(tmp_path, published=True) as line:
            outcome = await line.host.post_events(enveloped(CONVERGES[0], again))
            refusal = outcome.stopped_by
            assert isinstance(refusal, EventRefused), (
                f"an event that does not apply must be answered with EventRefused, found {outcome}"
            )
            assert (outcome.accepted, refusal.rollout_id, refusal.seq) == (1, ROLLOUT, 2), (
                f"event 2 of {ROLLOUT} was refused after one that was accepted; the answer says {outcome}"
            )
            assert refusal.reason, "a refusal must name the rule"
            line.require_durable(CONVERGES[0])

    @in_event_loop
    async def test_events_of_an_unknown_rollout_are_answered_so(self, tmp_path: Path) -> None:
        """Whether the rollout is not there, or its id is none: that is an answer, and no failure."""
        async with self._line(tmp_path, published=True) as line:
            for rollout_id in ("stable@0000000", "not a rollout/id?x=1#ü"):
                events = enveloped(*CONVERGES[:1], rollout_id=rollout_id)
                outcome = await line.host.post_events(events)
                _require_outcome(outcome, EventsOutcome(0, RolloutUnknown(rollout_id)))

    # No answer.

    @in_event_loop
    async def test_events_that_could_not_be_written_are_not_accepted(self, tmp_path: Path) -> None:
        """A full disk is no answer: the agent keeps its events, repeats them, and nothing is lost or doubled."""
        async with self._line(tmp_path, published=True) as line:
            line.fleet.store.is_full = True
            await _require_failure(lambda: line.host.post_events(enveloped(*CONVERGES[:2])))
            line.require_durable()
            line.fleet.store.is_full = False
            outcome = await line.host.post_events(enveloped(*CONVERGES[:2]))
            _require_outcome(outcome, EventsOutcome(2))
            line.require_durable(*CONVERGES[:2])

    @in_event_loop
    async def test_a_control_plane_that_is_gone_is_no_answer(self, tmp_path: Path) -> None:
        """Every call fails by name, so that the agent waits and tries again."""
        async with self._line(tmp_path, published=True) as line:
            await line.fleet.service.close()
            heartbeat = Heartbeat(HOST, PRIOR, FrozenMap[str, int]())
            for call in (
                lambda: line.host.post_events(enveloped(*CONVERGES[:1])),
                lambda: line.host.next_dispatch(0),
                lambda: line.host.heartbeat(heartbeat),
                lambda: line.host.fetch_manifest(ROLLOUT),
            ):
                await _require_failure(call)

    # Dispatches.

    @in_event_loop
    async def test_a_poll_without_a_dispatch_ends_when_its_time_is_over(
        self, tmp_path: Path
    ) -> None:
        """Nothing came: that is an answer, too."""
        async with self._line(tmp_path) as line:
            for wait_seconds in (0, self.grace_seconds):
                poll = _Call(partial(line.host.next_dispatch, wait_seconds))
                assert await ends_within(self.patience_seconds, poll.make), (
                    f"a poll that was to wait {wait_seconds:g} s had not ended after {self.patience_seconds:g} s"
                )
                assert poll.answer is None, (
                    f"no dispatch is queued, and the poll returned {poll.answer}"
                )

    @in_event_loop
    async def test_a_dispatch_is_handed_out_as_it_was_queued(self, tmp_path: Path) -> None:
        """Host, rollout, closure and times, to the microsecond."""
        async with self._line(tmp_path, published=True) as line:
            expected = Dispatch(HOST, ROLLOUT, TARGET, T0 + timedelta(minutes=SOAK_MINUTES), T0)
            found = await line.host.next_dispatch(0)
            assert found == expected, (
                f"what was handed out is not what was queued: {difference(expected, found)}"
            )

    @in_event_loop
    async def test_a_poll_that_waits_is_answered_when_its_dispatch_comes(
        self, tmp_path: Path
    ) -> None:
        """The dispatch ends the wait, long before its time is over; somebody else's does not."""
        async with self._line(tmp_path) as line:
            mine = _Call(lambda: line.host.next_dispatch(60))
            others = _Call(lambda: line.other_host.next_dispatch(60))
            async with anyio.create_task_group() as agents:
                agents.start_soon(mine.make)
                agents.start_soon(others.make)
                await let_others_run()
                await line.fleet.publish()
                woken = await ends_within(self.patience_seconds, mine.over.wait)
                woken_too = await ends_within(self.grace_seconds, others.over.wait)
                agents.cancel_scope.cancel()
                assert not woken_too, (
                    f"the poll of {OTHER_HOST} was answered with {others.answer} when a dispatch for {HOST} came: "
                    "wake the poller whose dispatch it is"
                )
                assert woken, f"a dispatch for {HOST} came and its poll still waits"
            assert isinstance(mine.answer, Dispatch), f"the poll was answered with {mine.answer}"
            assert mine.answer.hostname == HOST, (
                f"{HOST} was handed the dispatch of {mine.answer.hostname}"
            )

    @in_event_loop
    async def test_a_dispatch_is_handed_out_until_it_is_acknowledged(self, tmp_path: Path) -> None:
        """A lost answer costs one poll; after `DispatchAck` is durable, there is nothing more to hand out."""
        async with self._line(tmp_path, published=True) as line:
            first = await line.host.next_dispatch(0)
            again = await line.host.next_dispatch(0)
            assert again == first, (
                f"the dispatch is not acknowledged; the second poll returned {again}, expected {first}"
            )
            await line.host.post_events(enveloped(*CONVERGES[:1]))
            acknowledged = await line.host.next_dispatch(0)
            assert acknowledged is None, (
                f"the dispatch was acknowledged, and handed out again: {acknowledged}"
            )

    @in_event_loop
    async def test_a_poll_that_is_cancelled_takes_no_dispatch_along(self, tmp_path: Path) -> None:
        """An agent that stops while it waits gets its dispatch after the restart."""
        async with self._line(tmp_path) as line:
            for published in (False, True):
                async with anyio.create_task_group() as agent:
                    agent.start_soon(line.host.next_dispatch, 60)
                    await let_others_run()
                    if published:
                        await line.fleet.publish()
                    agent.cancel_scope.cancel()
            found = await line.host.next_dispatch(self.patience_seconds)
            assert found is not None, (
                "a poll was cancelled when its dispatch arrived, and the dispatch was lost"
            )

    @in_event_loop
    async def test_polls_that_were_cancelled_do_not_stand_in_the_way_of_the_next(
        self, tmp_path: Path
    ) -> None:
        """An agent that started and stopped a few times is answered like any other: cancelled polls hold nothing up."""
        async with self._line(tmp_path) as line:
            for _ in range(POLLS_CANCELLED):
                poll = _Call(partial(line.host.next_dispatch, 60))
                async with anyio.create_task_group() as agent:
                    agent.start_soon(poll.make)
                    await ends_within(self.grace_seconds, poll.over.wait)
                    agent.cancel_scope.cancel()
            await line.fleet.publish()
            try:
                found = await line.host.next_dispatch(0)
            except TransportFailed as error:
                raise AssertionError(
                    f"{POLLS_CANCELLED} polls were cancelled, and the next one was not answered: {error}"
                ) from error
            assert found is not None, "a dispatch is queued, and the poll was answered with none"

    @in_event_loop
    async def test_a_poll_that_is_cancelled_leaves_nothing_at_the_control_plane(
        self, tmp_path: Path
    ) -> None:
        """The control plane learns that nobody waits any more: its polls are limited in number."""
        async with self._line(tmp_path) as line:
            service = line.fleet.service
            async with anyio.create_task_group() as agent:
                agent.start_soon(line.host.next_dispatch, 60)
                begun = await ends_within(
                    self.patience_seconds
                    if self.polls_wait_at_the_control_plane
                    else self.grace_seconds,
                    lambda: _until(lambda: service.waiting_polls == 1),
                )
                assert begun or not self.polls_wait_at_the_control_plane, (
                    f"a poll began, and {service.waiting_polls} wait at the control plane"
                )
                agent.cancel_scope.cancel()
            await ends_within(
                self.patience_seconds, lambda: _until(lambda: service.waiting_polls == 0)
            )
            assert service.waiting_polls == 0, (
                f"a poll was cancelled, and {self.patience_seconds:g} s later it still waits at the control plane: "
                "end it on both sides"
            )

    # Heartbeats and manifests.

    @in_event_loop
    async def test_a_heartbeat_brings_what_the_host_lacks(self, tmp_path: Path) -> None:
        """The record that is ahead of the journal comes back whole, and the time is the control plane's."""
        async with self._line(tmp_path, published=True) as line:
            await line.host.next_dispatch(0)
            await line.host.post_events(enveloped(*ROLLBACK_FAILS_FIRST))
            reply = await line.host.heartbeat(Heartbeat(HOST, PRIOR, FrozenMap[str, int]()))
            expected = record_after(ROLLBACK_FAILS_FIRST)
            found = reply.bootstrap_rollouts
            assert found == (expected,), (
                f"the record did not come back as it is: {difference((expected,), found)}"
            )
            assert reply.received_at == line.fleet.clock.now(), f"received at {reply.received_at}"

    @in_event_loop
    async def test_a_heartbeat_asks_for_what_the_control_plane_lacks(self, tmp_path: Path) -> None:
        """A journal that is ahead is asked to send again, from the first number that is missing."""
        async with self._line(tmp_path, published=True) as line:
            await line.host.post_events(enveloped(*CONVERGES[:2]))
            reply = await line.host.heartbeat(Heartbeat(HOST, PRIOR, FrozenMap({str(ROLLOUT): 7})))
            assert reply.replay_from == (ReplayFrom(ROLLOUT, 3),), (
                f"the journal goes to 7 and the log to 2; expected a replay from 3, found {reply.replay_from}"
            )
            assert reply.bootstrap_rollouts == (), (
                f"nothing is ahead, found {reply.bootstrap_rollouts}"
            )

    @in_event_loop
    async def test_a_manifest_arrives_as_it_was_signed(self, tmp_path: Path) -> None:
        """Byte for byte, with its signature: anything else does not verify."""
        async with self._line(tmp_path) as line:
            signed = await line.fleet.publish()
            found = await line.host.fetch_manifest(ROLLOUT)
            assert found == signed, (
                "what was fetched is not what was signed, so it does not verify; hand on the bytes as they are: "
                f"{difference(signed, found)}"
            )

    @in_event_loop
    async def test_an_unknown_manifest_is_none(self, tmp_path: Path) -> None:
        """The rollout does not exist, or its id is malformed."""
        async with self._line(tmp_path, published=True) as line:
            for rollout_id in ("stable@0000000", "not a rollout/id?x=1#ü"):
                found = await line.host.fetch_manifest(rollout_id)
                assert found is None, (
                    f"there is no rollout {rollout_id!r}: expected None, found {found}"
                )

    # Who speaks.

    @in_event_loop
    async def test_events_of_another_host_are_not_accepted(self, tmp_path: Path) -> None:
        """A host speaks for itself alone: its transport proves who calls, and what an envelope says proves nothing."""
        async with self._line(tmp_path, published=True) as line:
            try:
                outcome = await line.other_host.post_events(enveloped(*CONVERGES[:1]))
            except TransportFailed:
                outcome = EventsOutcome(0)
            assert outcome.accepted == 0, (
                f"{OTHER_HOST} sent an event of {HOST}, and it was accepted: hand on the name of the host that called"
            )
            line.require_durable()

    @in_event_loop
    async def test_a_heartbeat_of_another_host_is_not_answered(self, tmp_path: Path) -> None:
        """What the control plane knows of a host is for that host alone."""
        async with self._line(tmp_path, published=True) as line:
            await _require_failure(
                lambda: line.other_host.heartbeat(Heartbeat(HOST, PRIOR, FrozenMap[str, int]()))
            )

    @asynccontextmanager
    async def _line(self, directory: Path, *, published: bool = False) -> AsyncGenerator[Line]:
        async with self.serve(directory) as fleet:
            if published:
                await fleet.publish()
            async with (
                self.connect(fleet.service, HOST) as host,
                self.connect(fleet.service, OTHER_HOST) as other_host,
            ):
                yield Line(fleet, host, other_host)


async def _until(is_so: Callable[[], bool]) -> None:
    """Return when it is so. A server in this process tells no event of ours."""
    while not is_so():  # noqa: ASYNC110
        await anyio.sleep(_LOOKED_EVERY_SECONDS)


class _Call:
    """A call that another task makes, and its result."""

    def __init__(self, call: Callable[[], Awaitable[object]]) -> None:
        self.answer: object = "no answer"
        self.over = anyio.Event()
        self._call = call

    async def make(self) -> None:
        self.answer = await self._call()
        self.over.set()


def _require_outcome(found: object, expected: EventsOutcome) -> None:
    assert found == expected, f"expected the answer {expected}, found {found}"


async def _require_failure(call: Callable[[], Awaitable[object]]) -> None:
    """The call must raise TransportFailed, and no other error."""
    try:
        answer = await call()
    except TransportFailed:
        return
    except Exception as error:
        raise AssertionError(
            f"there is no answer: expected TransportFailed, on which workers retry, found {error!r}"
        ) from error
    raise AssertionError(f"there is no answer: expected TransportFailed, found {answer}")
