"""Transports with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from attrs import evolve

from nixfleet_control_plane.in_process import InProcessTransport
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.transport import (
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    Transport,
    TransportFailed,
)
from nixfleet_testing.contracts.histories import HOST
from nixfleet_testing.contracts.transport import TransportContract


class SeededContract(TransportContract):
    """Tries `transport`."""

    transport: type[InProcessTransport]
    patience_seconds = 1.0

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        yield self.transport(control_plane, hostname)


class InBackground(InProcessTransport):
    def __init__(self, service: ControlPlaneService, hostname: str, tasks: TaskGroup) -> None:
        super().__init__(service, hostname)
        self._tasks = tasks

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        self._tasks.start_soon(super().post_events, envelopes)
        return EventsOutcome(len(envelopes))


class TestAcknowledgesBeforeItIsDurable(TransportContract):
    """Accepts events as soon as they are on their way."""

    says = "events were acknowledged before they were durable"

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        async with anyio.create_task_group() as tasks:
            yield InBackground(control_plane, hostname, tasks)


class Reverses(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        return await super().post_events(envelopes[::-1])


class TestReordersABatch(SeededContract):
    """Sends the events of a batch in another order."""

    says = "expected the answer EventsOutcome(accepted=5"
    transport = Reverses


class LosesTheRest(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        await super().post_events(envelopes[:100])
        return EventsOutcome(len(envelopes))


class TestLosesTheEndOfALargeBatch(SeededContract):
    """Accepts a batch of which it sent the beginning."""

    says = "256 facts should be in the log"
    transport = LosesTheRest


class MakesAnswersUp(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        try:
            return await super().post_events(envelopes)
        except TransportFailed:
            return EventsOutcome(len(envelopes))


class TestTakesNoAnswerForAnAcceptance(SeededContract):
    """Accepts events when it heard nothing of them."""

    says = "there is no answer: expected TransportFailed, found"
    transport = MakesAnswersUp


class LetsErrorsThrough(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        return await self._service.take_events(self._hostname, envelopes)


class TestRaisesItsOwnErrors(SeededContract):
    """Fails in a way that no worker expects."""

    says = "expected TransportFailed, on which workers retry"
    transport = LetsErrorsThrough


class LosesTheReason(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        return evolve(await super().post_events(envelopes), stopped_by=None)


class TestDoesNotSayWhatStoppedABatch(SeededContract):
    """Says how many events were accepted, and not why no more."""

    says = "stopped_by=ReplayFrom"
    transport = LosesTheReason


class AsksForOneHost(InProcessTransport):
    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        return await self._service.next_dispatch(HOST, wait_seconds)


class TestWakesTheWrongPoller(SeededContract):
    """Answers whoever polls with whatever dispatch comes."""

    says = "wake the poller whose dispatch it is"
    transport = AsksForOneHost


class HandsOutOnce(InProcessTransport):
    _handed_out = False

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        if self._handed_out:
            return None
        found = await super().next_dispatch(wait_seconds)
        self._handed_out = found is not None
        return found


class TestHandsADispatchOutOnce(SeededContract):
    """Has a lost answer lose the dispatch, too."""

    says = "the second poll returned None"
    transport = HandsOutOnce


class LosesOnCancellation(InProcessTransport):
    _is_lost = False

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        try:
            found = await super().next_dispatch(wait_seconds)
        except anyio.get_cancelled_exc_class():
            self._is_lost = True
            raise
        return None if self._is_lost else found


class TestLosesADispatchOnCancellation(SeededContract):
    """Takes the dispatch along when the poll is cancelled."""

    says = "and the dispatch was lost"
    transport = LosesOnCancellation


class WaitsOn(InProcessTransport):
    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        return await super().next_dispatch(max(wait_seconds, 60))


class TestWaitsLongerThanAsked(SeededContract):
    """Does not end a poll when its time is over."""

    says = "had not ended after"
    transport = WaitsOn
    patience_seconds = 0.2


class Rounds(InProcessTransport):
    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        found = await super().next_dispatch(wait_seconds)
        return found and evolve(found, enqueued_at=found.enqueued_at.replace(microsecond=0))


class TestRoundsTimes(SeededContract):
    """Hands out a dispatch with times to the second."""

    says = "what was handed out is not what was queued: enqueued_at: expected"
    transport = Rounds


class WritesAnew(InProcessTransport):
    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        found = await super().fetch_manifest(rollout_id)
        return found and evolve(found, body=json.dumps(json.loads(found.body)).encode())


class TestWritesAManifestAnew(SeededContract):
    """Decodes and encodes what was signed."""

    says = "hand on the bytes as they are"
    transport = WritesAnew


class NeverAsksAgain(InProcessTransport):
    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        return evolve(await super().heartbeat(heartbeat), replay_from=())


class TestLosesARequestForAReplay(SeededContract):
    """Leaves out of a heartbeat's answer what the control plane lacks."""

    says = "expected a replay from 3, found ()"
    transport = NeverAsksAgain


class SendsOneByOne(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        accepted = 0
        for envelope in envelopes:
            accepted += (await super().post_events((envelope,))).accepted
        return EventsOutcome(accepted)


class TestGoesOnAfterARefusal(SeededContract):
    """Sends a batch event by event, and does not stop at the first that is refused."""

    says = "must be answered with EventRefused"
    transport = SendsOneByOne


class LeavesPollsBehind(InProcessTransport):
    def __init__(self, service: ControlPlaneService, hostname: str, tasks: TaskGroup) -> None:
        super().__init__(service, hostname)
        self._tasks = tasks

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        over, found = anyio.Event(), list[Dispatch | None]()

        async def poll() -> None:
            found.append(await self._service.next_dispatch(self._hostname, wait_seconds))
            over.set()

        self._tasks.start_soon(poll)
        await over.wait()
        return found[0]


class TestLeavesACancelledPollAtTheControlPlane(TransportContract):
    """Stops waiting for the answer, and lets the control plane wait on."""

    says = "it still waits at the control plane"
    patience_seconds = 0.5

    @asynccontextmanager
    async def connect(
        self, control_plane: ControlPlaneService, hostname: str
    ) -> AsyncIterator[Transport]:
        async with anyio.create_task_group() as tasks:
            yield LeavesPollsBehind(control_plane, hostname, tasks)
            tasks.cancel_scope.cancel()


class BelievesEnvelopes(InProcessTransport):
    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        return await self._service.take_events(envelopes[0].hostname, envelopes)


class TestTakesTheHostFromTheEnvelope(SeededContract):
    """Lets every host speak for every other one."""

    says = "sent an event of web-01, and it was accepted"
    transport = BelievesEnvelopes


class BelievesHeartbeats(InProcessTransport):
    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        return await self._service.compare(heartbeat.hostname, heartbeat)


class TestTakesTheHostFromTheHeartbeat(SeededContract):
    """Tells every host what the control plane knows of every other one."""

    says = "expected TransportFailed, found HeartbeatReply"
    transport = BelievesHeartbeats
