"""The control plane's shell: the mutator, the pollers that wait, the ticks. The only `await`s of this side.

No policy here. What a host or an operator asks becomes an input; what the engine says becomes an answer or a
wake-up. A poll that waits is woken by name, never by broadcast.
Source: docs/spec/runtimes.md, Control plane; docs/spec/wire.md, GET /v1/agent/dispatch.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar, assert_never

import anyio
import anyio.to_thread
from attrs import evolve

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import (
    Action,
    ArtefactRejected,
    CommandOutcome,
    DispatchAnswer,
    DispatchPoll,
    Done,
    EnrollHost,
    EnrollOutcome,
    ExplainHost,
    Explanation,
    Flushed,
    FlushRecords,
    HostEvents,
    HostList,
    Input,
    ListHosts,
    ListsOutcome,
    ListsUpdated,
    ManifestAnswer,
    ManifestPoll,
    ManifestsOutcome,
    ManifestsUpdated,
    OperatorCommand,
    PlanTick,
    Reply,
    Totals,
    UseKeys,
    WakeHost,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection, KeyRing
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.store import Store
from nixfleet_control_plane.wakers import Wakers
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.drafting import maker
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.trust import Operator, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, SingleMutator, WriteFailed
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    ReplayFrom,
    RolloutUnknown,
)
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostState

ReplyT = TypeVar("ReplyT", bound=Reply)

FLUSH_PORTION = 100
FLUSH_TICKS = 12
QUEUE_LENGTH_MAX = 4096
_STOPPED = {EventRefused: "refused", ReplayFrom: "gap", RolloutUnknown: "unknown"}
_emit_metric = maker(EmitMetric)
_log = logging.getLogger(__name__)


class ControlPlaneService:
    """One running control plane. Make it with `running`."""

    def __init__(
        self,
        store: Store,
        engine: ControlPlaneEngine,
        clock: Clock,
        record_metric: Callable[[EmitMetric], None],
        ring: KeyRing | None = None,
        queue_length_max: int = QUEUE_LENGTH_MAX,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._record_metric = record_metric
        self._ring = ring or KeyRing()
        self._wakers = Wakers()
        self._is_closing = False
        self._mutator = SingleMutator[Input, Write, Reply, Action](
            engine,
            store.commit,
            self._carry_out,
            clock,
            queue_length_max=queue_length_max,
            on_batch=on_batch,
        )

    def ring(self) -> KeyRing:
        """Return the keys in force now: those of hosts as committed, those of operators as the trust file has them."""
        return self._ring

    @property
    def is_closing(self) -> bool:
        """Whether it refuses what is new."""
        return self._is_closing

    @property
    def queue_length(self) -> int:
        """How many inputs wait for the engine."""
        return self._mutator.queue_length

    def figures(self) -> Totals:
        """Return how much there is of what."""
        return self._engine.figures()

    def hosts_by_state(self) -> Mapping[HostState, int]:
        """Return how many hosts are in which state, in the rollouts that no successor took over."""
        return self._engine.hosts_by_state()

    # What hosts ask. Who asks was established by the transport.

    async def take_events(
        self, hostname: str, envelopes: tuple[AgentEventEnvelope, ...]
    ) -> EventsOutcome:
        """Return what became of the events; what is accepted is durable."""
        outcome = await self._ask_if_room(HostEvents(hostname, envelopes), EventsOutcome)
        self._count(envelopes, outcome)
        return outcome

    def _count(self, envelopes: tuple[AgentEventEnvelope, ...], outcome: EventsOutcome) -> None:
        """By kind, what was accepted (a duplicate is, again) and what stopped the rest."""
        accepted = Counter(type(it.event) for it in envelopes[: outcome.accepted])
        for kind, number in accepted.items():
            self._count_events(kind, "accepted", number)
        if outcome.stopped_by is not None:
            stopping = type(envelopes[outcome.accepted].event)
            self._count_events(stopping, _STOPPED[type(outcome.stopped_by)], 1)

    def _count_events(self, kind: type[AgentEvent], answer: str, number: int) -> None:
        labels = (("kind", kind.__name__), ("answer", answer))
        self._record_metric(_emit_metric("nixfleet_events_total", labels, float(number)))

    async def next_dispatch(
        self,
        hostname: str,
        wait_seconds: float,
        until_gone: Callable[[], Awaitable[None]] = anyio.sleep_forever,
    ) -> Dispatch | None:
        """Return the dispatch that waits for the host.

        until_gone: returns when whoever asks has left. `None`: they have, none came in `wait_seconds`, or the
        control plane closes. They are seconds of the machine's clock, not of the fleet's: a connection waits.
        """
        ends_at = anyio.current_time() + wait_seconds
        while True:
            # Added before asking, so that no wake-up falls between the answer and the wait.
            woken = self._wakers.add(hostname)
            try:
                answer = await self._waiting_for(hostname)
                if answer.dispatch is not None or self._is_closing:
                    return answer.dispatch
                woken.deadline = ends_at
                with woken:
                    await until_gone()
                    return None
            finally:
                self._wakers.discard(hostname, woken)
            if self.is_closing or anyio.current_time() >= ends_at:
                return None

    async def _waiting_for(self, hostname: str) -> DispatchAnswer:
        # Also while it closes: who polls then is released like the others.
        answer = await self._mutator.post_if_room(DispatchPoll(hostname))
        assert isinstance(answer, DispatchAnswer), answer
        return answer

    async def compare(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what the two sides need to bring their records together."""
        return await self._ask_if_room(heartbeat, HeartbeatReply)

    async def manifest(self, rollout_id: str) -> SignedArtefact | None:
        """Return the manifest in force for a rollout, exactly as it was signed."""
        return (await self._ask_if_room(ManifestPoll(rollout_id), ManifestAnswer)).artefact

    async def enroll(self, wish: EnrollHost) -> EnrolledHost | EnrollmentObjection:
        """Return the host as it is known from now on, or why it is not."""
        return (await self._ask_if_room(wish, EnrollOutcome)).answer

    # What CI and operators ask.

    async def publish(self, update: ManifestsUpdated) -> ManifestsOutcome:
        """Put verified manifests in force, and say which did not fit."""
        return await self._ask(update, ManifestsOutcome)

    async def publish_lists(self, update: ListsUpdated) -> ListsOutcome:
        """Put verified lists in force, and say which are older than what is."""
        return await self._ask(update, ListsOutcome)

    async def note_rejected(self, name: str, reason: str) -> None:
        """Keep in the log that an artefact did not verify."""
        await self._ask(ArtefactRejected(name, reason), Done)

    async def command(self, command: OperatorCommand) -> CommandOutcome:
        """Carry out an operator's command, ahead of everything that waits."""
        self._require_open(command)
        reply = await self._mutator.post_urgent(command)
        assert isinstance(reply, CommandOutcome), reply
        return reply

    async def explain(self, hostname: str) -> Explanation:
        """Return every gate that holds the host."""
        return await self._ask_if_room(ExplainHost(hostname), Explanation)

    async def host_records(
        self, after: tuple[str, str] | None = None, limit: int = 1000
    ) -> HostList:
        """Return the records of up to `limit` hosts, by rollout and name, after a rollout and name.

        Rollouts that are pruned have none. A page, since whoever lists a fleet must not hold up those who report.
        """
        return await self._ask_if_room(ListHosts(after, limit), HostList)

    async def _ask_if_room(self, input: Input, expected: type[ReplyT]) -> ReplyT:
        """As `_ask`, for the many. Raises: QueueFull, and MutatorClosed from `begin_closing` on."""
        self._require_open(input)
        reply = await self._mutator.post_if_room(input)
        assert isinstance(reply, expected), reply
        return reply

    def _require_open(self, input: Input) -> None:
        if self._is_closing:
            raise MutatorClosed(f"closing; {type(input).__name__} was not accepted")

    async def _ask(self, input: Input, expected: type[ReplyT]) -> ReplyT:
        reply = await self._mutator.post(input)
        assert isinstance(reply, expected), reply
        return reply

    # What runs by itself.

    async def run_mutator(self) -> None:
        """Handle inputs until `close`."""
        await self._mutator.run()

    async def tick_every(self, seconds: float) -> None:
        """Let time pass for the engine, and host records be written behind.

        A tick that fails, on a full disk or by a bug, is logged: the next one makes up for it.
        """
        while True:
            await self._clock.sleep(seconds)
            try:
                await self._ask(PlanTick(), Done)
                await self._trickle()
            except (WriteFailed, EngineFault) as error:
                _log.error("a tick failed: %s", error)

    async def _trickle(self) -> None:
        """Write a portion of the host records behind, and of many a share, portion by portion among what else waits.

        A portion alone would take a quarter of an hour for 100,000 hosts, and a start has to read the log since then.
        """
        left = (await self._ask(FlushRecords(FLUSH_PORTION), Flushed)).left
        for _ in range(left // (FLUSH_PORTION * FLUSH_TICKS)):
            await self._ask(FlushRecords(FLUSH_PORTION), Flushed)

    def begin_closing(self) -> None:
        """Release who polls, and refuse from now on what hosts and operators ask. What was accepted is answered."""
        self._is_closing = True
        self._wakers.wake_all()

    async def close(self) -> None:
        """As `begin_closing`; then write what was left to be written behind, and stop.

        What cannot be written behind is in the log all the same.
        """
        self.begin_closing()
        try:
            await self._flush_all()
        except (WriteFailed, EngineFault, MutatorClosed) as error:
            _log.warning("host records were not all written behind: %s", error)
        finally:
            self._mutator.close()

    async def _flush_all(self) -> None:
        """Write behind what there is now; hosts that still report could keep this going for ever."""
        left = (await self._ask(FlushRecords(FLUSH_PORTION), Flushed)).left
        # One more, for the portion that is short because a cycle ends with it.
        for _ in range(0, left + FLUSH_PORTION, FLUSH_PORTION):
            await self._ask(FlushRecords(FLUSH_PORTION), Flushed)

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeHost():
                self._wakers.wake(action.hostname)
            case UseKeys():
                self._ring = evolve(action.ring, operators=self._ring.operators)
            case EmitMetric():
                self._record_metric(action)
            case EmitLog():
                level = logging.getLevelNamesMapping()[action.level.value.upper()]
                _log.log(level, "%s: %s %s", action.target, action.message, dict(action.fields))
            case _:
                assert_never(action)


@asynccontextmanager
async def running(
    store: Store,
    clock: Clock,
    *,
    trust: TrustRoot | None = None,
    tick_seconds: float = 5.0,
    queue_length_max: int = QUEUE_LENGTH_MAX,
    record_metric: Callable[[EmitMetric], None] = lambda _: None,
    on_batch: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[ControlPlaneService]:
    """Run a control plane on `store` while the context is open; it is closed in order at the end.

    trust: who operates, and whose tokens let hosts in; `None`: nobody. tick_seconds: of `clock`.
    Raises: what `Store.load` raises.
    """
    state = await anyio.to_thread.run_sync(load_state, store)
    operators = FrozenMap[str, Operator]() if trust is None else KeyRing.of(trust).operators
    service = ControlPlaneService(
        store,
        ControlPlaneEngine(state, trust),
        clock,
        record_metric,
        evolve(state.identities.ring, operators=operators),
        queue_length_max,
        on_batch,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_shielded, service.run_mutator)
        try:
            async with anyio.create_task_group() as ticking:
                ticking.start_soon(service.tick_every, tick_seconds)
                yield service
                ticking.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await service.close()


async def _shielded(run: Callable[[], Awaitable[None]]) -> None:
    """Let only `close` end the mutator, so that what was accepted is answered."""
    with anyio.CancelScope(shield=True):
        await run()
