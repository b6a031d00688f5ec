"""The control-plane engine: decides which log entries follow from an input. Sans I/O: the time is an argument.

The engine decides; `entry_handlers` applies. A refusal is a reply; an exception is a bug and leaves the state
unchanged. After every input the planner re-plans whatever the input affected.
Source: docs/spec/runtimes.md, Control plane.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import islice
from typing import Final, assert_never, cast

from nixfleet_control_plane.engine import artefact_intake
from nixfleet_control_plane.engine.command_checks import (
    by_next_attempt,
    command_objection,
    holding_hosts,
    retriable_hosts,
)
from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.contradictions import contradiction, heard_after
from nixfleet_control_plane.engine.entry_handlers import (
    apply_command,
    carry_out_plan,
    defer,
    enroll,
    move_rollout,
)
from nixfleet_control_plane.engine.fact_intake import hold_forked, take_events
from nixfleet_control_plane.engine.guard_verdicts import (
    AskedCheck,
    GuardedRollout,
    asked_checks,
    authors,
    give_approval,
    guarded_rollout,
    guards_open,
    report_verdict,
)
from nixfleet_control_plane.engine.in_force import fleets_in_force, in_force, release_of
from nixfleet_control_plane.engine.record_flush import flush
from nixfleet_control_plane.engine.rollout_course import (
    advance,
    heard,
    is_calendar_due,
    join,
    judge,
    note_running,
    pass_hold_time,
    pass_time,
    resume,
)
from nixfleet_control_plane.engine.shard_words import see_channel, see_enrollment, word_on
from nixfleet_control_plane.engine.state import LoadedManifest, State
from nixfleet_control_plane.engine.warrants import (
    HostRecall,
    RelayedWarrant,
    hand_out_warrants,
    note_recall_refusals,
    recalls_of,
    relay_objection,
    warrant_statuses,
)
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    Action,
    ArtefactRejected,
    ClearRollout,
    CommandOutcome,
    DispatchAnswer,
    DispatchPoll,
    Done,
    EnrollHost,
    EnrollOutcome,
    ExcuseHosts,
    ExplainHost,
    Explanation,
    FlushRecords,
    GiveApproval,
    HostEvents,
    HostList,
    InForce,
    Input,
    ListHosts,
    ListsUpdated,
    ManifestAnswer,
    ManifestPoll,
    ManifestsUpdated,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    PlanTick,
    RelayWarrant,
    ReleaseHold,
    Reply,
    ReportVerdict,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SeeChannel,
    SeeEnrollment,
    SkipHosts,
    Totals,
    WaveTotals,
)
from nixfleet_control_plane.messages.key_ring import (
    EnrollmentObjection,
    TokenRefused,
    enrollment_objection,
    is_repeated,
    token_objection,
)
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    Commanded,
    HostEnrolled,
    Planned,
)
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.overview.advice import host_commands
from nixfleet_control_plane.overview.fleet_lists import Item, quarantines, refusals
from nixfleet_control_plane.overview.host_map import columns
from nixfleet_control_plane.overview.needs import (
    FleetNotices,
    all_rollout_needs,
    fleet_needs,
)
from nixfleet_control_plane.overview.one_host import host_record_page
from nixfleet_control_plane.overview.rollouts import rollout_overviews
from nixfleet_control_plane.store.queries import Quarantined, Waiting
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec.warrant import decode_signed_warrant
from nixfleet_proto.enrollment import BootstrapNonce, EnrollRequest
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.signing import NoOrgRootKey
from nixfleet_proto.steering.warrant import ClosureRule, SignedWarrant
from nixfleet_proto.trust import TrustRoot
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.fleet_pages import ListedQuarantine, ListedRefusal
from nixfleet_runtime.http.host_pages import HostRecordPage
from nixfleet_runtime.http.listings import ListedRow, RefusedArtefact
from nixfleet_runtime.http.overview import Need, RolloutOverview
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_runtime.transport import (
    ActingRefusal,
    Heartbeat,
    HeartbeatReply,
    ReplayFrom,
)
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.errors import UnknownHost, UnknownRollout
from nixfleet_state_machine.planner.gates import Planning, first_block
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.holds.hold import Hold
from nixfleet_state_machine.planner.host_status import HostInRollout, host_status
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.status import (
    BudgetStatus,
    Shortage,
    budget_statuses,
    shortage_counts,
)
from nixfleet_state_machine.planner.passing_time import next_edge
from nixfleet_state_machine.planner.plan import replan
from nixfleet_state_machine.planner.rollout_status import (
    WaveStatus,
    overdue_by_stage,
    wave_statuses,
)
from nixfleet_state_machine.planner.verdict import waves_without
from nixfleet_state_machine.rollout.event import (
    OperatorClearance,
    RetryOrdered,
    RolloutAborted,
    Stage,
    StandingChanged,
    SuccessorOpened,
)
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import ONLY, ShardPlace

_IN_MOTION = frozenset({RolloutState.OPENING, RolloutState.ACTIVE, RolloutState.CONVERGING})
_IN_USE = frozenset(RolloutState) - {RolloutState.SUPERSEDED, RolloutState.PRUNED}

_NO_ZONES: Final = FrozenMap[str, tzinfo]()
_BEFORE_ACTIVATION = frozenset({HostState.PENDING, HostState.ACTIVATING, HostState.DEFERRED})


class ControlPlaneEngine:
    """One control plane's state and every decision about it. Owned by one mutator."""

    def __init__(
        self,
        state: State,
        trust: TrustRoot | None = None,
        zones: Zones = _NO_ZONES,
        place: ShardPlace = ONLY,
    ) -> None:
        """trust: the keys that may sign enrollment tokens; `None`: no host can enroll.

        zones: time zones by name, for windows and freezes; where one is unknown, nothing begins. place: which channels
        are those of this log.
        """
        self._place = place
        self._state = state
        self._zones = zones
        self._trust = trust
        state.undo.settle()

    def totals(self) -> Totals:
        """Return current totals. They include inputs that were handled but are not durable yet."""
        return Totals(
            head_seq=self._state.head_seq,
            manifests=len(self._state.manifests),
            enrolled=len(self._state.identities.ring.enrolled),
            rollouts=Counter(record.state for record in self._state.view.rollouts.values()),
            drifted=sum(len(record.drifted) for record in self._state.view.rollouts.values()),
        )

    def hosts_by_state(self) -> Mapping[HostState, int]:
        """Return the number of hosts in each state, over all rollouts that are not superseded or pruned.

        Counted as records change: strangers may ask, and the cost must not grow with the number of hosts.
        """
        rollouts = self._state.view.rollouts
        counts = Counter[HostState]()
        for (rollout_id, state), count in self._state.host_counts.items():
            if rollouts[rollout_id].state in _IN_USE:
                counts[state] += count
        return counts

    def hosts_by_standing(self) -> Mapping[Standing, int]:
        """Return how many hosts have each standing other than counted, in rollouts that are served. Counted as
        rollouts change, as `hosts_by_state`.
        """
        rollouts = self._state.view.rollouts
        counts = Counter[Standing]()
        for (rollout_id, standing), count in self._state.standing_counts.items():
            if rollouts[rollout_id].state.is_served:
                counts[standing] += count
        return counts

    def overdue_by_stage(self, now: datetime) -> Mapping[Stage, int]:
        """Return how many hosts are past a deadline of which nothing follows, by its stage. O(those hosts)."""
        return overdue_by_stage(self._state.view, now)

    def waiting_by_gate(self) -> Mapping[Gate, int]:
        """Return how many hosts each gate holds as the first one. Counted as deferrals change, as `hosts_by_state`."""
        return self._state.gate_counts

    def wave_totals(self) -> WaveTotals:
        """Return the numbers of hosts over the waves of all rollouts that are served. O(waves)."""
        view = self._state.view
        waves = [
            it for rollout_id in view.served_rollouts() for it in wave_statuses(view, rollout_id)
        ]
        return WaveTotals(
            absent=sum(wave.absent for wave in waves),
            tolerated=sum(wave.failed for wave in waves if wave.failed <= wave.allowed),
        )

    def waves(self, rollout_id: RolloutId) -> tuple[WaveStatus, ...]:
        """Return how the waves of a rollout stand; none, of one that is pruned or unknown. O(waves)."""
        try:
            return wave_statuses(self._state.view, rollout_id)
        except UnknownRollout:
            return ()

    def begins_at(self, rollout_id: RolloutId) -> datetime | None:
        """Return the signed time before which a rollout dispatches nothing in the waves that it has reached."""
        held = self._state.view.held_not_before(rollout_id)
        return None if held is None else held.until

    def budgets(self, rollout_id: RolloutId) -> tuple[BudgetStatus, ...]:
        """Return how full the budgets of a rollout are; none, of one that is pruned or unknown."""
        try:
            return budget_statuses(self._state.view, rollout_id)
        except UnknownRollout:
            return ()

    def budget_shortages(self) -> Mapping[Shortage, int]:
        """Return of how many budgets of live rollouts each kind of slot is all taken. O(budgets)."""
        return shortage_counts(self._state.view)

    def guarded(self, rollout_id: RolloutId) -> GuardedRollout | None:
        """Return how the guards of the next wave of a rollout stand; `None`: it has none. O(guards)."""
        return guarded_rollout(self._state, rollout_id)

    def guards_open(self) -> int:
        """Return how many guards hold a wave of which the wave before is done. O(rollouts)."""
        return guards_open(self._state)

    def asked_checks(self) -> tuple[AskedCheck, ...]:
        """Return the checks whose judges are to be asked. O(rollouts)."""
        return asked_checks(self._state)

    def queued_dispatches(self) -> Mapping[str, Sequence[Dispatch]]:
        """Return the dispatches that wait, by host, each host's in the order in which they were queued."""
        return self._state.dispatches

    def host_record(self, rollout_id: RolloutId, hostname: str) -> HostRolloutState | None:
        """Return a host's record in a rollout; `None`: it has none there."""
        return self._state.view.host(rollout_id, hostname)

    def next_edge(self) -> datetime | None:
        """Return when a hold ends, a calendar begins or ends one, or a bake is over next; `None`: not in sight."""
        return next_edge(self._state.view, self._state.calendar_due.get())

    def warrants(self) -> tuple[RelayedWarrant, ...]:
        """Return the warrants that are relayed, the oldest first. O(hosts that are to go back)."""
        return warrant_statuses(self._state)

    def recalls_of(self, hostname: str, now: datetime) -> tuple[HostRecall, ...]:
        """Return the orders that are for a host, and how far it is with each. O(warrants)."""
        return recalls_of(self._state, hostname, now)

    def until_of(self, rollout_id: RolloutId, hostname: str, gate: Gate) -> datetime | None:
        """Return the earliest time at which the gate that holds a host may change by itself; `None`: not known."""
        if rollout_id not in self._state.view.open_rollouts:
            return None
        planning = Planning(self._state.view, self._state.quarantines)
        block = first_block(planning, rollout_id, hostname)
        return block.until if block is not None and block.gate is gate else None

    def holds(self) -> tuple[Hold, ...]:
        """Return the holds that are on, by scope and source. O(holds)."""
        return tuple(
            sorted(self._state.view.holds, key=lambda hold: (str(hold.scope), hold.source.order))
        )

    def overviews(
        self,
        now: datetime,
        stale_at: Mapping[RolloutId, datetime],
        rollout_id: RolloutId | None = None,
    ) -> tuple[RolloutOverview, ...]:
        """Return how the current rollouts stand, or the one with this id. O(waves): see `rollout_overviews`."""
        return rollout_overviews(self._state, self._zones, now, stale_at, rollout_id)

    def shown_rollouts(self) -> Collection[RolloutId]:
        """Return the ids of the rollouts that an overview can show: those that are not pruned. O(rollouts)."""
        return {*self._state.view.open_rollouts, *self._state.lost}

    def quarantines(self, stored: Iterable[Quarantined]) -> Iterator[Item[ListedQuarantine]]:
        """Yield the closures that are barred from channels. stored: as the store has them."""
        return quarantines(self._state, stored)

    def refusals(
        self,
        artefacts: Iterable[RefusedArtefact],
        acting: Mapping[str, Collection[ActingRefusal]],
    ) -> Iterator[Item[ListedRefusal]]:
        """Yield what is refused now: artefacts, what agents do not act on, events of hosts."""
        return refusals(self._state, artefacts, acting)

    def awaited_tokens(self, now: datetime) -> Sequence[BootstrapNonce]:
        """Return the listed tokens that are not used and have not expired."""
        identities = self._state.identities
        listed = identities.nonces.get()
        return [
            nonce
            for nonce in (() if listed is None else listed.nonces)
            if nonce.nonce not in identities.used_nonces and nonce.expires_at > now
        ]

    def rollouts_with(self, hostname: str) -> tuple[RolloutId, ...]:
        """Return the rollouts that are served and have a record of the host. O(rollouts)."""
        view = self._state.view
        return tuple(it for it in view.rollouts_with(hostname) if self._is_served(it))

    def rollout_needs(
        self, now: datetime, stale_at: Mapping[RolloutId, datetime]
    ) -> Iterator[Need]:
        """Yield what the rollouts that are served, or lost, need a person for. O(waves)."""
        return all_rollout_needs(self._state, now, stale_at)

    def oldest_waits(self) -> Mapping[Gate, datetime]:
        """Return since when, without a break, hosts wait for one reason, the earliest by gate. O(reasons)."""
        return self._state.waits.oldest(self._state.view.live_rollouts())

    def quarantine_count(self) -> int:
        """Return how many closures are barred from a channel. O(channels)."""
        return sum(map(len, self._state.quarantines.values()))

    def live_budgets(self) -> tuple[BudgetStatus, ...]:
        """Return how full the budgets of live rollouts are; one that rollouts share counts once. O(budgets)."""
        view = self._state.view
        by_name = {
            status.budget: status
            for rollout_id in view.live_rollouts()
            for status in budget_statuses(view, rollout_id)
        }
        return tuple(by_name.values())

    def manifest_in_use(self, rollout_id: RolloutId) -> LoadedManifest | None:
        """Return the manifest that a rollout runs under; `None`: it is pruned, unknown, or lost its manifest."""
        state = self._state
        return state.manifests.get(rollout_id) if rollout_id in state.view.open_rollouts else None

    def map_columns(self, rollout_id: RolloutId, hosts: Sequence[str]) -> tuple[str, str]:
        """Return the states and the standings of hosts of a rollout, a digit for each. Empty: it is pruned."""
        try:
            return columns(self._state.view, rollout_id, hosts)
        except UnknownRollout:
            return "", ""

    def host_record_page(
        self,
        hostname: str,
        status: HostInRollout,
        waiting: Sequence[Waiting],
        facts: Sequence[AgentEvent],
        rows: tuple[ListedRow, ...],
    ) -> HostRecordPage | None:
        """Return a host in one rollout; `None`: it has no record there any more. See `host_record_page`."""
        record = self._state.view.host(status.rollout_id, hostname)
        if record is None:
            return None
        return host_record_page(self._state, status, record, waiting, facts, rows)

    def fleet_needs(self, notices: FleetNotices, now: datetime) -> tuple[Need, ...]:
        """Return what a person is needed for that is about no rollout."""
        return fleet_needs(self._state, notices, now)

    def host_commands(self, rollout_id: RolloutId, hostname: str, now: datetime) -> tuple[str, ...]:
        """Return what an operator may do now about a host that is not done. O(its wave)."""
        if rollout_id not in self._state.view.open_rollouts:
            return ()
        return host_commands(self._state, rollout_id, hostname, now)

    def token_objection(self, request: EnrollRequest) -> EnrollmentObjection | None:
        """Return what is wrong with the token of `request`, whatever time it is. Changes nothing."""
        return token_objection(request, self._state.identities.ring, self._trust)

    def use_trust(self, trust: TrustRoot) -> None:
        """Judge tokens by another trust root from now on."""
        self._trust = trust

    def in_force(self) -> tuple[InForce, ...]:
        """Return what each channel of the newest fleet points at, by channel. O(channels).

        A channel that the fleet does not have any more has nothing in force: nothing is signed for it again.
        """
        return in_force(self._state)

    def release_of(self, hostname: str) -> InForce | None:
        """Return what the channel of a host points at; `None` if no fleet in force names the host."""
        return release_of(self._state, hostname)

    def word_on(self, channel: str, as_of: AsOf) -> ChannelSeen:
        """Return what this log says of one of its channels. as_of: its last row. O(rollouts)."""
        return word_on(self._state, channel, as_of)

    def channels_with_words(self) -> Collection[str]:
        """Return the channels of which this log has a manifest or a rollout."""
        view = self._state.view
        return {*view.offers, *(record.channel for record in view.rollouts.values())}

    def moved_channels(self) -> Collection[str]:
        """Return the channels that are not of this log, and have a rollout in it that is not pruned."""
        rollouts = self._state.view.rollouts.values()
        found = {it.channel for it in rollouts if it.state is not RolloutState.PRUNED}
        return sorted(channel for channel in found if not self._place.has(channel))

    def knows(self, hostname: str) -> bool:
        """Whether a rollout that is not pruned has the host, or what is in force for its channel is in this log."""
        return (
            bool(self._state.view.rollouts_with(hostname)) or self.release_of(hostname) is not None
        )

    def fleets_in_force(self) -> tuple[FleetResolved, ...]:
        """Return the fleets in which manifests in force are anchored, the newest first."""
        return fleets_in_force(self._state)

    def newest_release_at(self) -> datetime | None:
        """Return when the newest fleet in force was signed; `None`: none is."""
        newest = next(iter(fleets_in_force(self._state)), None)
        return None if newest is None else newest.meta.signed_at

    def handle(self, input: Input, now: datetime) -> Commit[Write, Reply, Action]:
        """Return the commit for `input`. The engine's state already includes it."""
        mark = self._state.undo.mark()
        if self._state.began_at is None:
            self._state.began_at = now
        commit = CommitBuilder()
        try:
            reply = self._reply(commit, input, now)
            self._plan(commit, now)
        except BaseException:
            self._state.undo.undo_to(mark)
            raise
        return commit.built(reply)

    def settle(self) -> None:
        """Commit all changes so far: everything handled is durable."""
        self._state.undo.settle()

    def roll_back(self) -> None:
        """Roll back to the state at the last `settle`."""
        self._state.undo.undo_to(0)

    def _reply(self, commit: CommitBuilder, input: Input, now: datetime) -> Reply:
        match input:
            case HostEvents():
                return take_events(self._state, commit, input, now)
            case DispatchPoll():
                if is_calendar_due(self._state, now):
                    self._plan(commit, now)  # A freeze that begins now takes back what is queued.
                self._state.last_heard.set(input.hostname, now)
                waiting = self._state.dispatches.get(input.hostname)
                return DispatchAnswer(waiting[-1] if waiting else None)
            case Heartbeat():
                return self._compare(commit, input, now)
            case ManifestPoll():
                return self._manifest(input)
            case ManifestsUpdated():
                return artefact_intake.take(self._state, commit, input, self._place, now)
            case ListsUpdated():
                return artefact_intake.take_lists(self._state, commit, input, now)
            case EnrollHost():
                return self._enroll(commit, input, now)
            case SeeChannel():
                see_channel(self._state, commit, self._place, input, now)
                return Done()
            case SeeEnrollment():
                see_enrollment(self._state, commit, input, now)
                return Done()
            case ArtefactRejected():
                self._state.append(commit, ArtefactRefused(input.name, input.reason), now)
                return Done()
            case (
                PauseScope()
                | ResumeScope()
                | PlaceHold()
                | ReleaseHold()
                | ClearRollout()
                | RetireQuarantine()
                | ExcuseHosts()
                | SkipHosts()
                | RetryHosts()
                | AbortRollout()
                | RelayWarrant()
            ):
                return self._command(commit, input, now)
            case GiveApproval():
                return give_approval(self._state, commit, input, self._trust, now)
            case ReportVerdict():
                report_verdict(self._state, commit, input, now)
                return Done()
            case ExplainHost():
                return self._explained(input.hostname, now)
            case ListHosts():
                return self._listed(input)
            case PlanTick():
                pass_time(self._state, commit, now)
                return Done()
            case FlushRecords():
                return flush(self._state, commit, input.limit)
            case _:
                assert_never(input)

    # Hosts' requests.

    def _compare(
        self, commit: CommitBuilder, heartbeat: Heartbeat, now: datetime
    ) -> HeartbeatReply:
        view, hostname = self._state.view, heartbeat.hostname
        before = self._state.heard.get(hostname)
        rollouts = {id_: _record_of(view, id_, hostname) for id_ in view.rollouts_with(hostname)}
        taken: dict[str, int] = {id_: each.last_event_seq for id_, each in rollouts.items()}
        contradicts = contradiction(before, heartbeat, taken, now)
        if contradicts is not None:
            hold_forked(self._state, commit, heartbeat.hostname, None, contradicts, now)
        if heartbeat.hostname in self._state.forked:
            # Neither record is offered for the other: which machine asks is not known. Either may go back.
            return HeartbeatReply(now, warrants=self._warrants(heartbeat, now))
        self._state.heard.set(heartbeat.hostname, heard_after(before, heartbeat, taken, now))
        # What follows changes rollouts, and no host's record.
        heard(self._state, commit, hostname, rollouts, now)
        note_running(self._state, commit, hostname, rollouts, heartbeat.current_closure, now)
        ahead: list[HostRolloutState] = []
        behind: list[ReplayFrom] = []
        for rollout_id, record in rollouts.items():
            host_seq = heartbeat.last_seqs.get(rollout_id, 0)
            if record.last_event_seq == host_seq and record.state in _BEFORE_ACTIVATION:
                self._state.receipts.note_in_step((rollout_id, hostname), now)
            if record.last_event_seq > host_seq:
                # A superseded rollout must not be resumed: the host would switch back.
                if view.rollouts[rollout_id].state is not RolloutState.SUPERSEDED:
                    ahead.append(record)
            elif record.last_event_seq < host_seq:
                behind.append(ReplayFrom(rollout_id, record.last_event_seq + 1))
        resting = tuple(each for each in sorted(heartbeat.last_seqs) if self._rests(each, hostname))
        warrants = self._warrants(heartbeat, now)
        return HeartbeatReply(now, tuple(ahead), tuple(behind), resting=resting, warrants=warrants)

    def _warrants(self, heartbeat: Heartbeat, now: datetime) -> tuple[SignedWarrant, ...]:
        note_recall_refusals(self._state, heartbeat)
        return hand_out_warrants(self._state, heartbeat.hostname, now)

    def _rests(self, rollout_id: str, hostname: str) -> bool:
        """Whether nothing that the host does when Converged changes the rollout's course: it is over, or it left."""
        record = self._state.view.rollouts.get(cast("RolloutId", rollout_id))
        return (
            record is None
            or record.state not in _IN_MOTION
            or record.standing_of(hostname) is Standing.LEFT
        )

    def _manifest(self, poll: ManifestPoll) -> ManifestAnswer:
        try:
            loaded = self._state.manifests.get(RolloutId(poll.rollout_id))
        except InvalidRolloutId:
            loaded = None
        if loaded is None or poll.hostname not in (None, *loaded.terms.targets):
            return ManifestAnswer(None)
        return ManifestAnswer(loaded.artefact)

    def _listed(self, asked: ListHosts) -> HostList:
        records = tuple(islice(self._hosts_after(asked.after), asked.limit))
        rollouts = self._state.view.rollouts
        return HostList(
            records,
            tuple(rollouts[it.rollout_id].standing_of(it.hostname) for it in records),
            tuple(rollouts[it.rollout_id].drifted.get(it.hostname) for it in records),
        )

    def _hosts_after(self, after: tuple[str, str] | None) -> Iterator[HostRolloutState]:
        for rollout_id in sorted(self._state.view.open_rollouts):
            if after is None or rollout_id > after[0]:
                yield from self._state.view.hosts_of(rollout_id)
            elif rollout_id == after[0]:
                hosts = self._state.view.hosts_of(rollout_id)
                yield from (host for host in hosts if host.hostname > after[1])

    def _explained(self, hostname: str, now: datetime) -> Explanation:
        state = self._state
        early = tuple(each for (_, host), each in state.early.items() if host == hostname)
        try:
            fleets = fleets_in_force(state)
            status = host_status(
                state.view, state.quarantines, fleets, hostname, now, authors(state)
            )
        except UnknownHost as error:
            return Explanation(None, early, error.hosts)
        return Explanation(status, early)

    def _enroll(self, commit: CommitBuilder, input: EnrollHost, now: datetime) -> EnrollOutcome:
        request, identities = input.request, self._state.identities
        hostname = request.token.token.hostname
        if is_repeated(request, identities.ring, identities.used_nonces):
            return EnrollOutcome(identities.ring.enrolled[hostname])
        objection = self._objection_to(input, now)
        if objection is not None:
            return EnrollOutcome(objection)
        enroll(self._state, commit, HostEnrolled(input.signer.public_key, request.token), now)
        return EnrollOutcome(identities.ring.enrolled[hostname])

    def _objection_to(self, input: EnrollHost, now: datetime) -> EnrollmentObjection | None:
        identities = self._state.identities
        if self._trust is None:
            return TokenRefused(input.request.token.token.hostname, NoOrgRootKey())
        return enrollment_objection(
            input.request,
            input.signer,
            ring=identities.ring,
            nonces=identities.nonces.get(),
            used_nonces=identities.used_nonces,
            trust=self._trust,
            now=now,
        )

    # Planning.

    def _plan(self, commit: CommitBuilder, now: datetime) -> None:
        """Re-plan until nothing changes: opening a rollout affects its hosts, which must then be planned."""
        pass_hold_time(self._state, commit, self._zones, now)
        while actions := self._replanned(now):
            for action in actions:
                self._carry_out(commit, action, now)

    def _replanned(self, now: datetime) -> tuple[PlanAction, ...]:
        for rollout_id in self._state.timed:
            self._state.hold_waves(rollout_id, now)
        return replan(self._state.view, self._state.quarantines, now)

    def _carry_out(self, commit: CommitBuilder, action: PlanAction, now: datetime) -> None:
        match action:
            case OpenRollout():
                self._supersede(commit, action, now)
                carry_out_plan(self._state, commit, Planned(action), now)
                advance(self._state, commit, action.rollout_id, now)
            case QueueDispatch() | DeferDispatch() if not self._is_served(action.rollout_id):
                pass  # An earlier action of this plan opened the rollout's successor.
            case QueueDispatch() if self._is_outrun(action):
                pass  # An earlier action of this plan was its first, which halted or completed it.
            case QueueDispatch():
                carry_out_plan(self._state, commit, Planned(action), now)
                was = self._state.view.rollouts[action.rollout_id].state
                join(self._state, commit, action.rollout_id, action.host, now)
                if self._state.view.rollouts[action.rollout_id].state is not was:
                    advance(self._state, commit, action.rollout_id, now)
            case WithdrawDispatch():
                carry_out_plan(self._state, commit, Planned(action), now)
            case DeferDispatch():
                if self._state.deferrals.get((action.rollout_id, action.host)) != action:
                    defer(self._state, commit, action, now)
            case _:
                assert_never(action)

    def _is_outrun(self, action: QueueDispatch) -> bool:
        """Whether the rollout is halted, or done without the host: a wave was denied, or all were excused, before."""
        record = self._state.view.rollouts[action.rollout_id]
        is_excused = record.standing_of(action.host) is Standing.EXCUSED
        return record.state.is_halted or (record.state is RolloutState.TERMINAL and is_excused)

    def _is_served(self, rollout_id: RolloutId) -> bool:
        return self._state.view.rollouts[rollout_id].state.is_served

    def _supersede(self, commit: CommitBuilder, action: OpenRollout, now: datetime) -> None:
        for record in self._state.view.rollouts_of(action.channel):
            if record.state not in (RolloutState.SUPERSEDED, RolloutState.PRUNED):
                event = SuccessorOpened(record.rollout_id, action.rollout_id, now)
                move_rollout(self._state, commit, event, now)

    # Operators' commands.

    def _command(
        self, commit: CommitBuilder, command: OperatorCommand, now: datetime
    ) -> CommandOutcome:
        refusal = command_objection(self._state, command, now)
        if refusal is None and isinstance(command, RelayWarrant):
            refusal = relay_objection(self._state, command, self._trust, now)
        if refusal is not None:
            return CommandOutcome(refusal)
        apply_command(self._state, commit, Commanded(command), now)
        match command:
            case ClearRollout():
                self._clear(commit, command, now)
            case ExcuseHosts() | SkipHosts():
                self._change_standing(commit, command, now)
            case RetryHosts():
                self._retry(commit, command, now)
            case RelayWarrant():
                self._end_recalled(commit, command, now)
            case AbortRollout():
                aborted = RolloutAborted(command.rollout_id, command.operator, command.reason, now)
                move_rollout(self._state, commit, aborted, now)
            case PauseScope() | ResumeScope() | PlaceHold() | ReleaseHold() | RetireQuarantine():
                pass  # All of it is done.
            case _:
                assert_never(command)
        return CommandOutcome()

    def _end_recalled(self, commit: CommitBuilder, command: RelayWarrant, now: datetime) -> None:
        """A recalled rollout begins nothing any more: what is taken back must not go out again meanwhile.

        One whose locks are overridden goes on.
        """
        signed = decode_signed_warrant(command.warrant.encode())
        if signed.warrant.rule is not ClosureRule.PRIOR:
            return
        rollout = self._state.view.rollouts[command.rollout_id]
        if rollout.state is not RolloutState.ABORTED:
            reason = f"recalled: {command.reason}"
            aborted = RolloutAborted(command.rollout_id, command.operator, reason, now)
            move_rollout(self._state, commit, aborted, now)

    def _clear(self, commit: CommitBuilder, command: ClearRollout, now: datetime) -> None:
        rollout_id = command.rollout_id
        excused = command.excused_hosts or holding_hosts(self._state, rollout_id)
        waves = waves_without(self._state.view, rollout_id, excused)
        clearance = OperatorClearance(
            rollout_id, command.operator, command.reason, excused, now, waves
        )
        move_rollout(self._state, commit, clearance, now)
        resume(self._state, commit, rollout_id, now)

    def _change_standing(
        self, commit: CommitBuilder, command: ExcuseHosts | SkipHosts, now: datetime
    ) -> None:
        standing = Standing.EXCUSED if isinstance(command, ExcuseHosts) else Standing.AWAY
        hosts = tuple(sorted(command.hosts))
        reason = f"{command.operator}: {command.reason}"
        event = StandingChanged(command.rollout_id, hosts, standing, reason, now)
        move_rollout(self._state, commit, event, now)
        judge(self._state, commit, command.rollout_id, hosts, now)
        advance(self._state, commit, command.rollout_id, now)

    def _retry(self, commit: CommitBuilder, command: RetryHosts, now: datetime) -> None:
        rollout_id, reason = command.rollout_id, f"{command.operator}: {command.reason}"
        hosts = command.hosts or retriable_hosts(self._state, rollout_id)
        for attempt, names in by_next_attempt(self._state, rollout_id, hosts):
            move_rollout(
                self._state, commit, RetryOrdered(rollout_id, names, attempt, reason, now), now
            )


def _record_of(view: FleetView, rollout_id: RolloutId, hostname: str) -> HostRolloutState:
    record = view.host(rollout_id, hostname)
    assert record is not None, (rollout_id, hostname)
    return record
