"""The control plane's shell: the mutator, waiting polls and ticks. It contains this side's `await`s.

No policy here. Requests of hosts and operators become inputs; the engine's replies become answers, its actions
wake-ups. A waiting poll is woken by host name, never by broadcast.
Source: docs/spec/runtimes.md, Control plane; docs/spec/wire.md, GET /v1/agent/dispatch.
"""

import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import TypeVar, assert_never

import anyio
from attrs import evolve

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.fact_intake import STOPPED_BY
from nixfleet_control_plane.engine.guard_verdicts import AskedCheck, GuardedRollout
from nixfleet_control_plane.engine.in_force import stale_at
from nixfleet_control_plane.engine.state import LoadedManifest, State
from nixfleet_control_plane.engine.warrants import HostRecall, RelayedWarrant
from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.history.loading import loaded_state
from nixfleet_control_plane.messages.entry_codec import time_of
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
    GiveApproval,
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
    ReportVerdict,
    SeeChannel,
    SeeEnrollment,
    Signed,
    Totals,
    UseKeys,
    WakeHost,
    WaveTotals,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection, KeyRing
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.notices import Notices
from nixfleet_control_plane.overview.fleet_lists import Item
from nixfleet_control_plane.overview.needs import FleetNotices
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.store.queries import Quarantined, Waiting
from nixfleet_control_plane.store.store import OwnedInTurn, Store
from nixfleet_control_plane.waiting_dispatches import WaitingDispatches
from nixfleet_control_plane.wakers import Wakers
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.drafting import maker
from nixfleet_proto.enrollment import BootstrapNonce, EnrollRequest
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import SignedApproval
from nixfleet_proto.trust import Operator, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.http.fleet_pages import ListedQuarantine, ListedRefusal
from nixfleet_runtime.http.host_pages import HostRecordPage
from nixfleet_runtime.http.listings import ChannelInForce, ListedRow, ReleaseStanding
from nixfleet_runtime.http.overview import Asker, FleetCounts, Need, Overview, ServedBy
from nixfleet_runtime.http.shards import ListedShard
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import (
    WRITE_SECONDS_MAX,
    EngineFault,
    MutatorClosed,
    SingleMutator,
    WriteFailed,
)
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.transport import (
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    ReleaseInForce,
)
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.hold import Hold
from nixfleet_state_machine.planner.host_status import HostInRollout
from nixfleet_state_machine.planner.pace.status import BudgetStatus, Shortage
from nixfleet_state_machine.planner.rollout_status import WaveStatus
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import Standing
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import MAIN, ONLY, ShardPlace

ReplyT = TypeVar("ReplyT", bound=Reply)

FLUSH_PORTION = 100
FLUSH_TICKS = 12
QUEUE_LENGTH_MAX = 4096
STOP_WRITE_SECONDS_MAX = 5.0
"""How long a commit may take once a stop has begun: a store that hangs must not keep the process from ending."""
_emit_metric = maker(EmitMetric)
_log = logging.getLogger(__name__)


class AnotherHost(NixfleetError):
    """A message names another host than the one that was authenticated: `authenticated`, `named`."""

    def __init__(self, authenticated: str, named: str) -> None:
        super().__init__(authenticated, named)
        self.authenticated = authenticated
        self.named = named

    def __str__(self) -> str:
        return f"expected a message of {self.authenticated!r}, which was authenticated, found one of {self.named!r}"


def _require_own(hostname: str, named: str) -> None:
    if named != hostname:
        raise AnotherHost(hostname, named)


class ControlPlaneService:
    """One running control plane. Created by `running`."""

    def __init__(
        self,
        store: Store,
        engine: ControlPlaneEngine,
        clock: Clock,
        record_metric: Callable[[EmitMetric], None],
        ring: KeyRing | None = None,
        queue_length_max: int = QUEUE_LENGTH_MAX,
        on_batch: Callable[[int], None] = lambda _: None,
        freshness_limit_minutes: int | None = None,
        write_seconds_max: float = WRITE_SECONDS_MAX,
        is_current: Callable[[], bool] = lambda: True,
        url: str | None = None,
    ) -> None:
        self._engine = engine
        self._url = url
        self._clock = clock
        self._record_metric = record_metric
        self._ring = ring or KeyRing()
        self._freshness_limit_minutes = freshness_limit_minutes
        self.notices = Notices()
        self.feed = Feed(engine.totals().head_seq)
        self._store = store
        self._followers: list[Callable[[Sequence[Write]], None]] = []
        self.waiting_dispatches = WaitingDispatches(engine.queued_dispatches(), self.feed.head)
        self._wakers = Wakers()
        self._is_closing = False
        self._mutator = SingleMutator[Input, Write, Reply, Action](
            engine,
            self._write,
            self._carry_out,
            clock,
            queue_length_max=queue_length_max,
            on_batch=on_batch,
            write_seconds_max=write_seconds_max,
            is_current=is_current,
        )

    def ring(self) -> KeyRing:
        """Return the keys in force: those of hosts as committed, those of operators from the trust file."""
        return self._ring

    def now(self) -> datetime:
        """Return the time of the fleet's clock."""
        return self._clock.now()

    @property
    def waiting_polls(self) -> int:
        """How many polls of hosts wait for a dispatch now."""
        return len(self._wakers)

    @property
    def is_closing(self) -> bool:
        """Whether new requests are refused."""
        return self._is_closing

    @property
    def queue_length(self) -> int:
        """The number of inputs that wait for the engine."""
        return self._mutator.queue_length

    @property
    def epoch(self) -> int:
        """Which of the owners of a shared store this is: higher than of all before it; 0: nobody else can own it."""
        return self._store.epoch if isinstance(self._store, OwnedInTurn) else 0

    @contextmanager
    def following(self, follow: Callable[[Sequence[Write]], None]) -> Iterator[None]:
        """Have `follow` called with the writes of each commit while the context is open.

        It is called when they are durable, before anybody is answered; the engine's state is just that then. It must
        not raise, and not wait.
        """
        self._followers.append(follow)
        try:
            yield
        finally:
            self._followers.remove(follow)

    def totals(self) -> Totals:
        """Return current totals."""
        return self._engine.totals()

    def hosts_by_state(self) -> Mapping[HostState, int]:
        """Return the number of hosts in each state, over all rollouts that are not superseded or pruned."""
        return self._engine.hosts_by_state()

    def hosts_by_standing(self) -> Mapping[Standing, int]:
        """Return how many hosts have each standing other than counted, in rollouts that are served."""
        return self._engine.hosts_by_standing()

    def overdue_by_stage(self) -> Mapping[Stage, int]:
        """Return how many hosts are past a deadline of which nothing follows, by its stage."""
        return self._engine.overdue_by_stage(self.now())

    def waiting_by_gate(self) -> Mapping[Gate, int]:
        """Return how many hosts each gate holds as the first one, over all rollouts."""
        return self._engine.waiting_by_gate()

    def wave_totals(self) -> WaveTotals:
        """Return the numbers of hosts over the waves of all rollouts that are served."""
        return self._engine.wave_totals()

    def waves(self, rollout_id: RolloutId) -> tuple[WaveStatus, ...]:
        """Return how the waves of a rollout stand; none, of one that is pruned or unknown."""
        return self._engine.waves(rollout_id)

    def begins_at(self, rollout_id: RolloutId) -> datetime | None:
        """Return the signed time before which a rollout dispatches nothing in the waves that it has reached."""
        return self._engine.begins_at(rollout_id)

    def budgets(self, rollout_id: RolloutId) -> tuple[BudgetStatus, ...]:
        """Return how full the budgets of a rollout are; none, of one that is pruned or unknown."""
        return self._engine.budgets(rollout_id)

    def warrants(self) -> tuple[RelayedWarrant, ...]:
        """Return the warrants that are relayed, the oldest first."""
        return self._engine.warrants()

    def recalls_of(self, hostname: str) -> tuple[HostRecall, ...]:
        """Return the orders that are for a host, and how far it is with each."""
        return self._engine.recalls_of(hostname, self.now())

    def until_of(self, rollout_id: RolloutId, hostname: str, gate: Gate) -> datetime | None:
        """Return the earliest time at which the gate that holds a host may change by itself; `None`: not known."""
        return self._engine.until_of(rollout_id, hostname, gate)

    def holds(self) -> tuple[Hold, ...]:
        """Return the holds that are on, by scope and source."""
        return self._engine.holds()

    def budget_shortages(self) -> Mapping[Shortage, int]:
        """Return of how many budgets of live rollouts each kind of slot is all taken."""
        return self._engine.budget_shortages()

    def guarded(self, rollout_id: RolloutId) -> GuardedRollout | None:
        """Return how the guards of the next wave of a rollout stand; `None`: it has none."""
        return self._engine.guarded(rollout_id)

    def guards_open(self) -> int:
        """Return how many guards hold a wave of which the wave before is done. O(rollouts)."""
        return self._engine.guards_open()

    def asked_checks(self) -> tuple[AskedCheck, ...]:
        """Return the checks whose judges are to be asked."""
        return self._engine.asked_checks()

    def use_trust(self, trust: TrustRoot) -> None:
        """Use another trust root from now on: its operators, and its keys for enrollment tokens."""
        self._engine.use_trust(trust)
        self._ring = evolve(self._ring, operators=KeyRing.of(trust).operators)

    def in_force(self) -> tuple[ChannelInForce, ...]:
        """Return what each channel points at, and when that is stale."""
        return tuple(
            ChannelInForce(
                it.channel,
                it.rollout_id,
                it.signed_at,
                stale_at(it, self._freshness_limit_minutes),
            )
            for it in self._engine.in_force()
        )

    @property
    def version(self) -> str:
        """What changes with every row of the log."""
        return str(self.feed.head)

    def word_on(self, channel: str, as_of: AsOf) -> ChannelSeen:
        """Return what the log says of a channel; only while everything handled is durable. as_of: its last row."""
        return self._engine.word_on(channel, as_of)

    def channels_with_words(self) -> Collection[str]:
        """Return the channels of which the log has a manifest or a rollout."""
        return self._engine.channels_with_words()

    def moved_channels(self) -> Collection[str]:
        """Return the channels that are not of this log, and have a rollout in it that is not pruned."""
        return self._engine.moved_channels()

    def knows(self, hostname: str) -> bool:
        """Whether a rollout that is not pruned has the host, or the release in force for its channel is of this log."""
        return self._engine.knows(hostname)

    def fleets_in_force(self) -> Sequence[FleetResolved]:
        """Return the fleets in which manifests in force are anchored, the newest first."""
        return self._engine.fleets_in_force()

    def shards(self) -> tuple[ListedShard, ...]:
        """Return the shards of this control plane: one with every channel, unless it has more."""
        return (self.as_shard(MAIN),)

    def other_logs(self) -> Mapping[str, "tuple[ControlPlaneService, Queries]"]:
        """Return the service and the read port of each shard beside `MAIN`, by name."""
        return {}

    def as_shard(self, name: str) -> ListedShard:
        """Return how this shard stands. name: its own."""
        totals = self.totals()
        in_force = tuple(each.channel for each in self.in_force())
        return ListedShard(name, in_force, totals.head_seq, self.queue_length)

    def newest_release_at(self) -> datetime | None:
        """Return when the newest fleet in force was signed; `None`: none is."""
        return self._engine.newest_release_at()

    def shown_rollouts(self) -> Collection[RolloutId]:
        """Return the ids of the rollouts that an overview can show: those that are not pruned."""
        return self._engine.shown_rollouts()

    def quarantines(self, stored: Iterable[Quarantined]) -> Iterator[Item[ListedQuarantine]]:
        """Yield the closures that are barred from channels. stored: as the store has them."""
        return self._engine.quarantines(stored)

    def refusals(self) -> Iterator[Item[ListedRefusal]]:
        """Yield what is refused now: artefacts, what agents do not act on, events of hosts."""
        return self._engine.refusals(self.notices.refused_artefacts, self.notices.acting_refusals)

    def awaited_tokens(self) -> Sequence[BootstrapNonce]:
        """Return the listed tokens that are not used and have not expired."""
        return self._engine.awaited_tokens(self.now())

    def rollouts_with(self, hostname: str) -> tuple[RolloutId, ...]:
        """Return the rollouts that are served and have a record of the host. O(rollouts)."""
        return self._engine.rollouts_with(hostname)

    def needs(self) -> Iterator[Need]:
        """Yield everything that only a person moves now: of the rollouts, and of the fleet."""
        stale_at = {RolloutId(it.rollout_id): it.stale_at for it in self.in_force()}
        yield from self._engine.fleet_needs(self._fleet_notices(), self.now())
        yield from self._engine.rollout_needs(self.now(), stale_at)

    def oldest_waits(self) -> Mapping[Gate, datetime]:
        """Return since when, without a break, hosts wait for one reason, the earliest by gate. O(reasons)."""
        return self._engine.oldest_waits()

    def quarantine_count(self) -> int:
        """Return how many closures are barred from a channel."""
        return self._engine.quarantine_count()

    def live_budgets(self) -> tuple[BudgetStatus, ...]:
        """Return how full the budgets of live rollouts are; one that rollouts share counts once. O(budgets)."""
        return self._engine.live_budgets()

    def host_record(self, rollout_id: RolloutId, hostname: str) -> HostRolloutState | None:
        """Return a host's record in a rollout; `None`: it has none there.

        It may not be durable yet; within a call of `following` it is.
        """
        return self._engine.host_record(rollout_id, hostname)

    def next_edge(self) -> datetime | None:
        """Return when a hold ends, a calendar begins or ends one, or a bake is over next; `None`: not in sight."""
        return self._engine.next_edge()

    def manifest_in_use(self, rollout_id: RolloutId) -> LoadedManifest | None:
        """Return the manifest that a rollout runs under; `None`: it is pruned, unknown, or lost its manifest."""
        return self._engine.manifest_in_use(rollout_id)

    def map_columns(self, rollout_id: RolloutId, hosts: Sequence[str]) -> tuple[str, str]:
        """Return the states and the standings of hosts of a rollout, a digit for each. Empty: it is pruned."""
        return self._engine.map_columns(rollout_id, hosts)

    def host_commands(self, rollout_id: RolloutId, hostname: str) -> tuple[str, ...]:
        """Return what an operator may do now about a host that is not done, as `nixfleet operator` takes it."""
        return self._engine.host_commands(rollout_id, hostname, self.now())

    def host_record_page(
        self,
        hostname: str,
        status: HostInRollout,
        waiting: Sequence[Waiting],
        facts: Sequence[AgentEvent],
        rows: tuple[ListedRow, ...],
    ) -> HostRecordPage | None:
        """Return a host in one rollout; `None`: it has no record there any more. See `host_record_page`."""
        return self._engine.host_record_page(hostname, status, waiting, facts, rows)

    def overview(self, you: Operator, silent: int, rollout_id: RolloutId | None = None) -> Overview:
        """Return how the fleet stands, as of the last committed row, for `you` to see.

        silent: hosts that are not heard of. rollout_id: of this rollout alone, if it is not pruned.
        """
        now, last = self.now(), self.feed.last
        notices = self.notices
        stale_at = {RolloutId(it.rollout_id): it.stale_at for it in self.in_force()}
        return Overview(
            head=self.feed.head,
            now=now,
            you=Asker(you.name, you.role),
            fleet=FleetCounts(
                enrolled=self._engine.totals().enrolled,
                silent=silent,
                refusing=notices.refusing_hosts,
                knocking=len(notices.refused_enrollments),
                declared=len(self.ring().fleet_keys),
            ),
            needs_you=self._engine.fleet_needs(self._fleet_notices(), now),
            rollouts=self._engine.overviews(now, stale_at, rollout_id),
            head_at=None if last is None else time_of(last.ts),
            leader=None if self._url is None else ServedBy(self._url, self.epoch),
        )

    def _fleet_notices(self) -> FleetNotices:
        notices = self.notices
        return FleetNotices(
            notices.refused_artefacts,
            notices.release_problem,
            notices.left_out,
            notices.refusing_hosts,
            notices.refused_enrollments,
        )

    def standing(self) -> ReleaseStanding:
        """Return what is in force and what is refused."""
        notices = self.notices
        return ReleaseStanding(
            self.in_force(), notices.refused_artefacts, notices.release_problem, notices.left_out
        )

    # Hosts' requests. The transport authenticates: `hostname` is the host whose key signed the request, never a name
    # that a message gives. A message about another host is refused here, whatever the transport.

    async def take_events(
        self,
        hostname: str,
        envelopes: tuple[AgentEventEnvelope, ...],
        signed: Signed | None = None,
    ) -> EventsOutcome:
        """Return how many events were accepted, and what stopped the rest. Accepted events are durable.

        signed: what the host signed, which the caller verified, of events of one rollout; the log keeps these bytes.

        Raises: AnotherHost, QueueFull, WriteFailed, EngineFault, MutatorClosed.
        """
        for envelope in envelopes:
            _require_own(hostname, envelope.hostname)
        outcome = await self._ask_if_room(HostEvents(hostname, envelopes, signed), EventsOutcome)
        self._count(envelopes, outcome)
        return outcome

    def _count(self, envelopes: tuple[AgentEventEnvelope, ...], outcome: EventsOutcome) -> None:
        """Count by kind the accepted events (duplicates included) and the event that stopped the rest."""
        accepted: dict[type[AgentEvent], int] = {}
        for envelope in envelopes[: outcome.accepted]:
            kind = type(envelope.event)
            accepted[kind] = accepted.get(kind, 0) + 1
        for kind, number in accepted.items():
            self._count_events(kind, "accepted", number)
        if outcome.stopped_by is not None:
            stopping = type(envelopes[outcome.accepted].event)
            self._count_events(stopping, STOPPED_BY[type(outcome.stopped_by)], 1)

    def _count_events(self, kind: type[AgentEvent], answer: str, number: int) -> None:
        labels = (("kind", kind.__name__), ("answer", answer))
        self._record_metric(_emit_metric("nixfleet_events_total", labels, float(number)))

    async def next_dispatch(
        self,
        hostname: str,
        wait_seconds: float,
        until_gone: Callable[[], Awaitable[None]] = anyio.sleep_forever,
    ) -> Dispatch | None:
        """Return the host's queued dispatch, waiting up to `wait_seconds` for one.

        wait_seconds: real time, not the fleet's, because a connection waits. until_gone: returns when the client has
        disconnected. Returns `None` when no dispatch came in time, the client is gone, the host is revoked, or the
        control plane closes.
        """
        ends_at = anyio.current_time() + wait_seconds
        while not self._ring.is_revoked(hostname):
            # Added before the query, so that no wake-up is lost between the answer and the wait.
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
        return None

    async def _waiting_for(self, hostname: str) -> DispatchAnswer:
        # Also while closing: a poll that arrives then is released like the others.
        answer = await self._mutator.post_if_room(DispatchPoll(hostname))
        assert isinstance(answer, DispatchAnswer), answer
        return answer

    async def compare(self, hostname: str, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what each side lacks of the other's records, and what is in force. Notes the host's refusals.

        Raises: as `take_events`.
        """
        _require_own(hostname, heartbeat.hostname)
        self.notices.host_reports(hostname, heartbeat.refusals)
        reply = await self._ask_if_room(heartbeat, HeartbeatReply)
        release = self._engine.release_of(hostname)
        if release is None:
            return reply
        return evolve(reply, release=ReleaseInForce(release.rollout_id, release.signed_at))

    async def manifest(self, rollout_id: str, hostname: str | None = None) -> SignedArtefact | None:
        """Return the manifest in force for a rollout, byte for byte as it was signed.

        `None`: there is none, or it does not name `hostname`, if one is given.
        """
        poll = ManifestPoll(rollout_id, hostname)
        return (await self._ask_if_room(poll, ManifestAnswer)).artefact

    def token_objection(self, request: EnrollRequest) -> EnrollmentObjection | None:
        """Return what is wrong with the token of `request`, apart from its time. Changes nothing."""
        return self._engine.token_objection(request)

    async def enroll(self, request: EnrollHost) -> EnrolledHost | EnrollmentObjection:
        """Return the enrolled host, or why it may not enroll."""
        answer = (await self._ask_if_room(request, EnrollOutcome)).answer
        if isinstance(answer, EnrolledHost):
            self.notices.enrolled(answer.hostname)
        return answer

    # Requests of CI and operators.

    async def publish(self, update: ManifestsUpdated) -> ManifestsOutcome:
        """Put verified manifests in force; return which, and why the others were refused."""
        return await self._ask(update, ManifestsOutcome)

    async def publish_lists(self, update: ListsUpdated) -> ListsOutcome:
        """Put verified lists in force; return which, and why the others were refused."""
        return await self._ask(update, ListsOutcome)

    async def follow(self, word: SeeChannel | SeeEnrollment) -> None:
        """Take what the log of another shard says."""
        await self._ask(word, Done)

    async def note_rejected(self, name: str, reason: str) -> None:
        """Log that an artefact failed verification."""
        await self._ask(ArtefactRejected(name, reason), Done)

    async def command(self, command: OperatorCommand) -> CommandOutcome:
        """Carry out an operator's command, ahead of all queued inputs."""
        self._require_open(command)
        reply = await self._mutator.post_urgent(command)
        assert isinstance(reply, CommandOutcome), reply
        return reply

    async def approve(self, signed: SignedApproval) -> CommandOutcome:
        """Take an operator's signed statement on a wave, ahead of all queued inputs."""
        given = GiveApproval(signed)
        self._require_open(given)
        reply = await self._mutator.post_urgent(given)
        assert isinstance(reply, CommandOutcome), reply
        return reply

    async def report_verdict(self, reported: ReportVerdict) -> None:
        """Take the answer of a judge of a check."""
        await self._ask(reported, Done)

    async def explain(self, hostname: str) -> Explanation:
        """Return where the host stands, and all gates that hold it."""
        return await self._ask_if_room(ExplainHost(hostname), Explanation)

    async def host_records(
        self, after: tuple[str, str] | None = None, limit: int = 1000
    ) -> HostList:
        """Return up to `limit` host records, ordered by rollout and name, after the given rollout and name.

        Pruned rollouts have none. Paged, so that listing a fleet does not delay the hosts that report.
        """
        return await self._ask_if_room(ListHosts(after, limit), HostList)

    async def _ask_if_room(self, input: Input, expected: type[ReplyT]) -> ReplyT:
        """As `_ask`, for requests that may be refused. Raises: QueueFull, and MutatorClosed from `begin_closing` on."""
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

    # Background tasks.

    async def run_mutator(self) -> None:
        """Handle inputs until `close`."""
        await self._mutator.run()

    async def tick_every(self, seconds: float) -> None:
        """Let the engine handle what has become due, and write host records behind: every `seconds`, and at each edge.

        An edge that a tick did not end is not waited for again, so that no bug makes ticks follow each other.
        A tick that fails, because the disk is full or by a bug, is logged, those after it if they fail in another way;
        the next tick that does not fail catches up.
        """
        failure: str | None = None
        while True:
            await self._clock.sleep(seconds_to_tick(seconds, self._engine.next_edge(), self.now()))
            try:
                await self._ask(PlanTick(), Done)
                await self._trickle()
                failure = None
            except (WriteFailed, EngineFault) as error:
                if str(error) != failure:
                    _log.error("a tick failed: %s", error)
                failure = str(error)

    async def _trickle(self) -> None:
        """Write one portion of the unsaved host records; with a large backlog several, interleaved with other inputs.

        At one portion a tick, 100,000 hosts would take more than an hour, and a start would have to read the log
        since then.
        """
        left = (await self._ask(FlushRecords(FLUSH_PORTION), Flushed)).left
        for _ in range(left // (FLUSH_PORTION * FLUSH_TICKS)):
            await self._ask(FlushRecords(FLUSH_PORTION), Flushed)

    def begin_closing(self) -> None:
        """Release waiting polls, and refuse new requests from now on. Accepted requests are still answered.

        No commit takes longer than `STOP_WRITE_SECONDS_MAX` from now on; one that does ends the service.
        """
        self._is_closing = True
        self._mutator.limit_writes(STOP_WRITE_SECONDS_MAX)
        self._wakers.wake_all()
        self.feed.close()

    async def write_records(self) -> None:
        """Write the host records that are unsaved now, while requests are served: a start has less to read then.

        Raises: WriteFailed, EngineFault, MutatorClosed.
        """
        await self._flush_all()

    async def close(self, *, writes_records: bool = True) -> None:
        """As `begin_closing`; then write the remaining host records, and stop.

        Records that cannot be written, or are not to be, are not lost: the log has them.
        """
        self.begin_closing()
        try:
            if writes_records:
                await self._flush_all()
        except (WriteFailed, EngineFault, MutatorClosed) as error:
            _log.warning("some host records were not written to the cache: %s", error)
        finally:
            self._mutator.close()

    async def _flush_all(self) -> None:
        """Write the records that are unsaved now. Bounded, because hosts that still report could prolong it for
        ever.
        """
        left = (await self._ask(FlushRecords(FLUSH_PORTION), Flushed)).left
        # One extra portion, because the last one of a cycle can be short.
        for _ in range(0, left + FLUSH_PORTION, FLUSH_PORTION):
            await self._ask(FlushRecords(FLUSH_PORTION), Flushed)

    async def _write(self, writes: Sequence[Write]) -> None:
        await self._store.commit(writes)
        self.feed.add(write for write in writes if isinstance(write, LogRow))
        self.waiting_dispatches.apply(writes)
        for follow in self._followers:
            follow(writes)

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeHost():
                self._wakers.wake(action.hostname)
            case UseKeys():
                before, self._ring = self._ring, evolve(action.ring, operators=self._ring.operators)
                for hostname in self._ring.revoked:
                    if self._ring.is_revoked(hostname) and not before.is_revoked(hostname):
                        self._wakers.wake(hostname)
            case EmitMetric():
                self._record_metric(action)
            case EmitLog():
                level = logging.getLevelNamesMapping()[action.level.value.upper()]
                _log.log(level, "%s: %s %s", action.target, action.message, dict(action.fields))
            case _:
                assert_never(action)


def seconds_to_tick(tick_seconds: float, edge: datetime | None, now: datetime) -> float:
    """Return how long to wait for the next tick: until the edge, if that is earlier and still to come."""
    if edge is None or edge <= now:
        return tick_seconds
    return min(tick_seconds, (edge - now).total_seconds())


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
    freshness_limit_minutes: int | None = None,
    write_seconds_max: float = WRITE_SECONDS_MAX,
    state: State | None = None,
    is_current: Callable[[], bool] = lambda: True,
    place: ShardPlace = ONLY,
    url: str | None = None,
) -> AsyncIterator[ControlPlaneService]:
    """Run a control plane on `store` while the context is open; close it in order at the end.

    trust: the operators, and the keys that sign enrollment tokens; `None`: no operator, and no host can enroll.
    tick_seconds: in the time of `clock`. freshness_limit_minutes: the limit on the windows that releases declare, only
    shown here. write_seconds_max: how long a commit may take in real time.
    state: what `store` has, of who followed its log; its host records are not written at the end, for others follow
    too. is_current: whether no other process can have written since. url: of one that others stand in for.
    place: which channels are those of this log.
    Raises: what `Store.load` raises.
    """
    is_followed = state is not None
    state = state or await loaded_state(store)
    operators = FrozenMap[str, Operator]() if trust is None else KeyRing.of(trust).operators
    service = ControlPlaneService(
        store,
        ControlPlaneEngine(state, trust, SystemZones(), place),
        clock,
        record_metric,
        evolve(state.identities.ring, operators=operators),
        queue_length_max,
        on_batch,
        freshness_limit_minutes,
        write_seconds_max,
        is_current,
        url,
    )
    service.notices.left_out = state.left_out
    for each in state.left_out:
        _log.warning("left out of the start: %s", each)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_shielded, service.run_mutator)
        try:
            async with anyio.create_task_group() as ticking:
                ticking.start_soon(service.tick_every, tick_seconds)
                ticking.start_soon(service.feed.run_beats)
                yield service
                ticking.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await service.close(writes_records=not is_followed)


async def _shielded(run: Callable[[], Awaitable[None]]) -> None:
    """Run shielded from cancellation: only `close` ends the mutator, so that accepted requests are answered."""
    with anyio.CancelScope(shield=True):
        await run()
