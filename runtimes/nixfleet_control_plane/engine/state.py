"""The control plane's state, and the primitive changes to it.

Each change is made in memory and, where a table holds it, written to the store in the same commit. Nothing is decided
here, and only `append` writes to the log. Only the mutator's task may use an instance; every change can be rolled back
through `undo`.
Source: docs/spec/runtimes.md, Control plane.
"""

from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from attrs import evolve, frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.contradictions import Heard
from nixfleet_control_plane.engine.fact_digests import FactDigests
from nixfleet_control_plane.engine.failing_controls import Control, control_results
from nixfleet_control_plane.engine.host_record import is_to_go
from nixfleet_control_plane.engine.identity_state import Identities
from nixfleet_control_plane.engine.receipts import Receipts
from nixfleet_control_plane.engine.wait_groups import WaitGroups
from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.inputs import WakeHost
from nixfleet_control_plane.messages.log_entry import Entry
from nixfleet_control_plane.messages.writes import (
    ClearProbeFailure,
    OpenProbeFailure,
    PutArtefact,
    PutBeginning,
    PutDeferral,
    PutDispatch,
    PutHold,
    PutQuarantine,
    PutRefusedEvent,
    PutRollout,
    PutWarrant,
    RemoveArtefact,
    RemoveBeginning,
    RemoveBeginnings,
    RemoveDeferral,
    RemoveDispatch,
    RemoveHold,
    RemoveHostRecords,
    RemoveRefusedEvents,
    RemoveWarrants,
    RetireQuarantineRow,
)
from nixfleet_proto.agent_event import AgentEvent, ProbeResult, ProbeStatus, RollbackComplete
from nixfleet_proto.codec import format_time
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.enrollment import BootstrapNonces, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.members import members
from nixfleet_proto.signing import artefact_hash
from nixfleet_proto.steering.warrant import SignedWarrant
from nixfleet_proto.wire import Dispatch, SignedArtefact
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_runtime.transport import EventEarly
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import DeferDispatch, Gate
from nixfleet_state_machine.planner.holds.device import DEVICE
from nixfleet_state_machine.planner.holds.groups import ChannelCalendar, channel_calendar
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import HoldScope, HostScope, RolloutScope
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.undo import UndoableDict, UndoableSet, UndoableValue, UndoLog

HostKey = tuple[RolloutId, str]
"""One host in one rollout."""

CONTRADICTION: Final = HoldSource(HoldKind.CONTRADICTION)
"""What holds a host that contradicted itself."""
_AT_ONCE: Final = datetime.min.replace(tzinfo=UTC)
_REVOCATION: Final = HoldSource(HoldKind.REVOCATION)
_NOT_BEFORE: Final = HoldSource(HoldKind.NOT_BEFORE)

_Status = members(ProbeStatus)


@frozen
class LoadedManifest:
    """A manifest in force: decoded, its terms, and the signed bytes."""

    manifest: RolloutManifest
    terms: RolloutTerms
    artefact: SignedArtefact

    @cached_property
    def body_hash(self) -> str:
        """The SHA-256 of the signed bytes, in hex: what an approval is over. Megabytes in a large fleet."""
        return artefact_hash(self.artefact.body)


@frozen
class LoadedFleet:
    """A fleet in which manifests in force are anchored."""

    name: str
    fleet: FleetResolved


@frozen
class KnownRefusal:
    """A fact that did not apply. counts: whether it still speaks against its host, which was not resumed since."""

    reason: str
    counts: bool = True


@frozen
class FlushCycle:
    """left: the host records still to be written. through: the log row up to which the cache is current afterwards."""

    left: tuple[HostKey, ...] = ()
    through: int = 0


class State:
    """Everything the control plane knows, in memory."""

    def __init__(self) -> None:
        self.undo = UndoLog()
        self.view = FleetView(self.undo)
        self.manifests = UndoableDict[RolloutId, LoadedManifest](self.undo)
        self.fleets = UndoableDict[str, LoadedFleet](self.undo)
        # The rollouts whose manifest signs a time before which a wave must not begin.
        self.timed = UndoableSet[RolloutId](self.undo)
        self.quarantines = UndoableDict[str, frozenset[str]](self.undo)
        # Since when each is barred, by channel and closure, for those that look on.
        self.quarantined_at = UndoableDict[tuple[str, str], datetime](self.undo)
        self.dispatches = UndoableDict[str, tuple[Dispatch, ...]](self.undo)
        self.deferrals = UndoableDict[HostKey, DeferDispatch](self.undo)
        # The warrants that were taken, by order. Of a rollout that is over, they are relayed no more, and their order
        # is known until all of them have expired: no other warrant may have it.
        self.warrants = UndoableDict[str, SignedWarrant](self.undo)
        # How long each is, in bytes.
        self.warrant_lengths = UndoableDict[str, int](self.undo)
        # By wave, the hosts that are to go back or are rolling back: of rollouts for which `ways_back_of` was asked.
        self.ways_back = UndoableDict[RolloutId, tuple[UndoableSet[str], ...]](self.undo)
        # The order with which the latest answer to a host ended, of those that have more orders than fit. In memory.
        self.last_handed_out = UndoableDict[str, str](self.undo)
        # The hosts that were told to go back, by a warrant. In memory alone: after a start they are told again.
        self.going_back = UndoableSet[HostKey](self.undo)
        # Those of them that refuse something of the rollout since they were told, by their latest heartbeat. In memory.
        self.refusing_recall = UndoableSet[HostKey](self.undo)
        # The hosts whose latest fact is that their rollback failed, as far as this process has seen.
        self.rollback_failed = UndoableSet[HostKey](self.undo)
        # Counted as deferrals change: how many hosts each gate holds as the first one.
        self.gate_counts = UndoableDict[Gate, int](self.undo)
        # The same by rollout and reason, and since when there is such a host.
        self.waits = WaitGroups(self.undo)
        self.outstanding = UndoableDict[HostKey, FrozenMap[Control, int]](self.undo)
        # How the fleet of each channel's manifest in force holds its hosts by the clock, where it does.
        self.calendars = UndoableDict[str, ChannelCalendar](self.undo)
        # When they next have something to say; `None`: never. Not known before they were asked.
        self.calendar_due = UndoableValue[datetime | None](self.undo, _AT_ONCE)
        # When they were asked last. A clock that was set back since shows a time for which that does not hold.
        self.calendar_asked_at = UndoableValue[datetime](self.undo, _AT_ONCE)
        self.prune_due = UndoableDict[RolloutId, datetime](self.undo)
        # Rollouts of which the store has no manifest, and why: held, since nothing of them can be judged.
        self.lost = UndoableDict[RolloutId, str](self.undo)
        # Up to which row the log of another shard was read for a channel, whether it said something new or not. In
        # memory: what was said last is in the view, with its row.
        self.seen_through = UndoableDict[str, AsOf](self.undo)
        self.left_out: tuple[str, ...] = ()
        """What the start left out, since the store does not have what it refers to. For people."""
        self.pruned = UndoableSet[str](self.undo)
        self.unsaved = UndoableDict[HostKey, int](self.undo)
        self.refused = UndoableDict[tuple[RolloutId, str, int], KnownRefusal](self.undo)
        # How many of them count, by host.
        self.refused_counts = UndoableDict[HostKey, int](self.undo)
        self.digests = FactDigests(self.undo)
        self.receipts = Receipts(self.undo)
        # The fact of a host that cannot be true yet: shown, and logged once.
        self.early = UndoableDict[HostKey, EventEarly](self.undo)
        # Hosts that contradicted themselves: held, and nothing new is taken from them.
        self.forked = UndoableSet[str](self.undo)
        self.heard = UndoableDict[str, Heard](self.undo)
        # What a host ran in its latest heartbeat that strays from what it converged to. Two in a row are a drift.
        self.strayed = UndoableDict[HostKey, str](self.undo)
        # When each host was last heard of, since the start.
        self.last_heard = UndoableDict[str, datetime](self.undo)
        self.began_at: datetime | None = None
        """When the first input came. Who was not heard of since then may have been heard of before."""
        self.host_counts = UndoableDict[tuple[RolloutId, HostState], int](self.undo)
        # Counted as rollouts change: how many of its hosts have a standing other than counted.
        self.standing_counts = UndoableDict[tuple[RolloutId, Standing], int](self.undo)
        self.identities = Identities(self.undo)
        self.flush_cycle = UndoableValue(self.undo, FlushCycle())
        self.head_seq = 0
        """The number of the latest log row; 0 for an empty log. Only `append` and a start change it."""

    def append(self, commit: CommitBuilder, entry: Entry, at: datetime) -> int:
        """Append `entry` to the log and return its number."""
        seq = self.number_row()
        commit.write(row_of(seq, at, entry))
        return seq

    def number_row(self) -> int:
        """Return the number of the next log row, which the caller writes in this commit."""
        self.undo.note(setattr, self, "head_seq", self.head_seq)
        self.head_seq += 1
        return self.head_seq

    def heard_at(self, hostname: str) -> datetime | None:
        """Return when the host was heard of last, at the latest when this process began; `None` before that."""
        return self.last_heard.get(hostname, self.began_at)

    # Host records. Their table is a cache, written by `FlushRecords`.

    def put_host(self, record: HostRolloutState) -> None:
        """Set a host's record in its rollout, as of the latest log row."""
        self.load_host(record)
        self.unsaved.set((record.rollout_id, record.hostname), self.head_seq)

    def load_host(self, record: HostRolloutState) -> None:
        """As `put_host`, for a record that is in the cache."""
        rollout_id, after = record.rollout_id, record.state
        before = self.view.host(rollout_id, record.hostname)
        self.view.set_host(record)
        if before is not None and before.state is after:
            return
        if before is not None:
            self._count_hosts(rollout_id, before.state, -1)
        self._count_hosts(rollout_id, after, 1)
        if rollout_id in self.ways_back:
            self._note_way_back(record)

    def _note_way_back(self, record: HostRolloutState) -> None:
        wave = self.view.terms(record.rollout_id).wave_of.get(record.hostname)
        if wave is None:
            return
        left = self.ways_back[record.rollout_id][wave]
        if is_to_go(record) or record.is_rolling_back:
            left.add(record.hostname)
        else:
            left.discard(record.hostname)

    def ways_back_of(self, rollout_id: RolloutId) -> tuple[UndoableSet[str], ...]:
        """Return, by wave, the hosts that took the rollout and did not leave it. The first call walks them all."""
        if rollout_id not in self.ways_back:
            waves = range(self.view.terms(rollout_id).last_wave + 1)
            self.ways_back.set(rollout_id, tuple(UndoableSet[str](self.undo) for _ in waves))
            for record in self.view.hosts_of(rollout_id):
                self._note_way_back(record)
        return self.ways_back[rollout_id]

    def note_fact(self, key: HostKey, fact: AgentEvent, at: datetime) -> None:
        """Note what else follows, in memory alone, from a fact that a host's record took. Of most nothing does."""
        if not isinstance(fact, ProbeResult):
            self.receipts.note(key, fact, at)
        if isinstance(fact, RollbackComplete) or key in self.rollback_failed:
            self._note_rollback(key, fact)

    def _note_rollback(self, key: HostKey, fact: AgentEvent) -> None:
        """Note whether the latest fact of a host is that its rollback failed; if one ended, the host's slot is free."""
        if isinstance(fact, RollbackComplete):
            self.going_back.discard(key)
            self.refusing_recall.discard(key)
        if isinstance(fact, RollbackComplete) and fact.exit_code != 0:
            self.rollback_failed.add(key)
        else:
            self.rollback_failed.discard(key)

    def _count_hosts(self, rollout_id: RolloutId, state: HostState, by: int) -> None:
        key = rollout_id, state
        self.host_counts.set(key, self.host_counts.get(key, 0) + by)

    def refuse_fact(
        self, commit: CommitBuilder, key: HostKey, seq: int, reason: str, event_log_seq: int
    ) -> None:
        """Remember why a fact was refused: the reply whenever it is reported again."""
        self.load_refusal(key, seq, KnownRefusal(reason))
        commit.write(PutRefusedEvent(*key, seq, reason, event_log_seq))

    def load_refusal(self, key: HostKey, seq: int, refusal: KnownRefusal) -> None:
        """As `refuse_fact`, for a refusal that is in the store."""
        self.refused.set((*key, seq), refusal)
        if refusal.counts:
            self.refused_counts.set(key, self.refused_counts.get(key, 0) + 1)

    def forgive(self, commit: CommitBuilder, hostname: str, event_log_seq: int) -> None:
        """What was refused of the host so far does not count any more, as of this log row. The reasons stay."""
        for key in [key for key in self.refused_counts if key[1] == hostname]:
            self.refused_counts.discard(key)
        counting = [
            (key, refusal)
            for key, refusal in self.refused.items()
            if key[1] == hostname and refusal.counts
        ]
        for (rollout_id, _, seq), refusal in counting:
            self.refused.set((rollout_id, hostname, seq), evolve(refusal, counts=False))
            commit.write(PutRefusedEvent(rollout_id, hostname, seq, refusal.reason, event_log_seq))

    # Rollouts.

    def lose_rollout(self, record: RolloutRecord, why: str) -> None:
        """Hold a rollout whose manifest cannot be loaded: its record is all that is known until a start finds one."""
        self.view.keep(record)
        self.lost.set(record.rollout_id, why)

    def put_rollout(self, commit: CommitBuilder, record: RolloutRecord) -> None:
        """Set a rollout's record."""
        self.count_standings(record, self.view.rollouts.get(record.rollout_id))
        self.view.set_rollout(record)
        commit.write(PutRollout(record))

    def count_standings(self, record: RolloutRecord, before: RolloutRecord | None = None) -> None:
        """Count the standings of `record` in place of those of `before`. O(1) if they are the same."""
        known = {} if before is None else before.standings
        if known is record.standings:
            return
        for _, standing in record.standings.items() - known.items():
            self._count_standing(record.rollout_id, standing, 1)
        for _, standing in known.items() - record.standings.items():
            self._count_standing(record.rollout_id, standing, -1)

    def _count_standing(self, rollout_id: RolloutId, standing: Standing, by: int) -> None:
        key = rollout_id, standing
        self.standing_counts.set(key, self.standing_counts.get(key, 0) + by)

    def open_rollout(
        self, commit: CommitBuilder, record: RolloutRecord, terms: RolloutTerms
    ) -> None:
        """Open a rollout. Its hosts' records follow."""
        self.view.open(record, terms)
        commit.write(PutRollout(record))

    def schedule_pruning(self, rollout_id: RolloutId, due_at: datetime) -> None:
        """Schedule the pruning of a rollout."""
        self.prune_due.set(rollout_id, due_at)

    def cancel_pruning(self, rollout_id: RolloutId) -> None:
        """Cancel the pruning of a rollout."""
        self.prune_due.discard(rollout_id)

    def forget_rollout(self, commit: CommitBuilder, record: RolloutRecord) -> None:
        """Prune a rollout: keep its row; remove its hosts' records, its hold and its manifest.

        The manifest is kept while its channel names it: hosts may fetch it, and the rollout must not open again.
        """
        rollout_id = record.rollout_id
        if rollout_id in self.view.open_rollouts:
            for host in self.view.hosts_of(rollout_id):
                self._forget_details((rollout_id, host.hostname))
        for refused in [key for key in self.refused if key[0] == rollout_id]:
            self.refused.discard(refused)
        for hold in self.view.holds.of_rollout(rollout_id):
            self.release(commit, *hold.key)
        self.put_rollout(commit, record)
        self.view.forget_rollout(rollout_id)
        for state in HostState:
            self.host_counts.discard((rollout_id, state))
        for standing in Standing:
            self.standing_counts.discard((rollout_id, standing))
        self.lost.discard(rollout_id)
        self.pruned.add(rollout_id)
        commit.write(RemoveHostRecords(rollout_id))
        commit.write(RemoveRefusedEvents(rollout_id))
        self.remove_unused_artefacts(commit)

    def forget_host(self, commit: CommitBuilder, key: HostKey) -> None:
        """A host is no member of its rollout any more: remove what is known of it but the record in the view.

        The view is amended next. A host that joins again begins anew, and tells again what its journal has.
        """
        record = self.view.host(*key)
        assert record is not None, key
        self._count_hosts(key[0], record.state, -1)
        for control, opened_by_seq in self.outstanding.get(key, FrozenMap[Control, int]()).items():
            commit.write(_cleared(opened_by_seq, control, by_seq=self.head_seq))
        self._forget_details(key)
        for refused in [each for each in self.refused if each[:2] == key]:
            self.refused.discard(refused)
        commit.write(RemoveHostRecords(*key))
        commit.write(RemoveRefusedEvents(*key))

    def forget_facts(self, commit: CommitBuilder, key: HostKey) -> None:
        """The host begins its numbers anew: what came by them before says nothing of what comes now."""
        self.digests.forget(key)
        self.early.discard(key)
        # What was heard of the journal before would contradict the numbers of the new one.
        self.heard.discard(key[1])
        self.refused_counts.discard(key)
        refused = [each for each in self.refused if each[:2] == key]
        for each in refused:
            self.refused.discard(each)
        if refused:
            commit.write(RemoveRefusedEvents(*key))

    def _forget_details(self, key: HostKey) -> None:
        self.outstanding.discard(key)
        self.unsaved.discard(key)
        self.digests.forget(key)
        self.receipts.forget(key)
        self.early.discard(key)
        self.refused_counts.discard(key)
        self.strayed.discard(key)
        self.rollback_failed.discard(key)

    # Dispatches, and the reasons why hosts have none.

    def queue_dispatch(
        self, commit: CommitBuilder, key: HostKey, dispatch: Dispatch, at: datetime
    ) -> None:
        """Queue `dispatch`: the host receives it at every poll until `remove_dispatch`."""
        self.put_dispatch(key, dispatch, at)
        commit.write(PutDispatch(dispatch, self.head_seq, at))
        self._note_beginnings(commit, key, at)
        commit.afterwards(WakeHost(dispatch.hostname))
        self.remove_deferral(commit, key)

    def _note_beginnings(self, commit: CommitBuilder, key: HostKey, at: datetime) -> None:
        """Take the slots that come back by the clock. A dispatch that is withdrawn gives none back, one that
        is postponed does.
        """
        rollout_id, hostname = key
        for budget in sorted(self.view.terms(rollout_id).minute_names_of(hostname)):
            self.view.note_beginning(budget, at)
            commit.write(PutBeginning(budget, at, self.head_seq))

    def give_slots_back(self, commit: CommitBuilder, key: HostKey) -> None:
        """The host that is dispatched says "not now": it takes no slot of a minute, if it still had one."""
        queued_at = self.view.queued_since(*key)
        if queued_at is None:
            return
        for budget in sorted(self.view.terms(key[0]).minute_names_of(key[1])):
            if self.view.give_slot_back(budget, queued_at):
                commit.write(RemoveBeginning(budget, queued_at))

    def return_slots(self, commit: CommitBuilder, budget: str, begun_by: datetime) -> None:
        """The slots of the beginnings up to `begun_by` are free again."""
        self.view.return_slots(budget, begun_by)
        commit.write(RemoveBeginnings(budget, begun_by))

    def put_dispatch(self, key: HostKey, dispatch: Dispatch, queued_at: datetime | None) -> None:
        """As `queue_dispatch`, for a dispatch that is already in the store."""
        rollout_id, hostname = key
        others = self.dispatches.get(hostname, ())
        self.dispatches.set(hostname, (*others, dispatch))
        self.view.set_queued(rollout_id, hostname, True, queued_at)

    def remove_dispatch(self, commit: CommitBuilder, key: HostKey) -> None:
        """Remove the rollout's dispatch from the host's queue, if there is one."""
        rollout_id, hostname = key
        waiting = self.dispatches.get(hostname)
        if waiting is None:
            return
        left = tuple(dispatch for dispatch in waiting if dispatch.rollout_id != rollout_id)
        if len(left) == len(waiting):
            return
        if left:
            self.dispatches.set(hostname, left)
        else:
            self.dispatches.discard(hostname)
        self.view.set_queued(rollout_id, hostname, False)
        commit.write(RemoveDispatch(hostname, rollout_id))

    def put_deferral(self, commit: CommitBuilder, deferral: DeferDispatch, since: datetime) -> None:
        """Record why the host is held, and since when."""
        self.load_deferral(deferral, since)
        commit.write(PutDeferral(deferral, since, self.head_seq))

    def load_deferral(self, deferral: DeferDispatch, since: datetime | None) -> None:
        """As `put_deferral`, for a deferral that is in the store. since: `None`: not known."""
        key = deferral.rollout_id, deferral.host
        before = self.deferrals.get(key)
        if before is not None:
            self._count_gate(before.gate, -1)
            self.waits.remove(before)
        self.deferrals.set(key, deferral)
        self._count_gate(deferral.gate, 1)
        self.waits.add(deferral, since)

    def _count_gate(self, gate: Gate, by: int) -> None:
        self.gate_counts.set(gate, self.gate_counts.get(gate, 0) + by)

    def remove_deferral(self, commit: CommitBuilder, key: HostKey) -> None:
        """The host is no longer held."""
        if key in self.deferrals:
            self._count_gate(self.deferrals[key].gate, -1)
            self.waits.remove(self.deferrals[key])
            self.deferrals.discard(key)
            commit.write(RemoveDeferral(key[1], key[0]))

    def remove_deferrals(self, commit: CommitBuilder, rollout_id: RolloutId) -> None:
        """No host of this rollout is held any longer."""
        if rollout_id not in self.view.open_rollouts:
            return
        for record in self.view.hosts_of(rollout_id):
            self.remove_deferral(commit, (rollout_id, record.hostname))

    # Quarantines, holds, failures.

    def quarantine(
        self, commit: CommitBuilder, channel: str, closure: str, at: datetime, triggered_by: int
    ) -> None:
        """Stop dispatching `closure` to hosts of `channel`. Idempotent."""
        closures = self.quarantines.get(channel, frozenset[str]())
        if closure in closures:
            return
        self.quarantines.set(channel, closures | {closure})
        self.quarantined_at.set((channel, closure), at)
        self.view.quarantine_changed(channel, closure)
        commit.write(PutQuarantine(channel, closure, at, triggered_by))

    def retire_quarantine(
        self, commit: CommitBuilder, channel: str, closure: str, cleared_by: int
    ) -> None:
        """Allow `closure` to be dispatched to hosts of `channel` again."""
        # A log of before may retire what was barred by its rules, and is not by ours.
        closures = self.quarantines.get(channel, frozenset[str]())
        self.quarantines.set(channel, closures - {closure})
        self.quarantined_at.discard((channel, closure))
        self.view.quarantine_changed(channel, closure)
        commit.write(RetireQuarantineRow(channel, closure, cleared_by))

    def relay(self, commit: CommitBuilder, signed: SignedWarrant, seq: int) -> None:
        """Relay a warrant to the hosts that it is for, until its rollout is served no more."""
        self.load_warrant(signed)
        warrant, text = signed.warrant, encode_signed_warrant(signed).decode()
        commit.write(PutWarrant(warrant.order_id, warrant.rollout_id, text, seq))

    def load_warrant(self, signed: SignedWarrant) -> None:
        """As `relay`, for a warrant that is already in the store."""
        order_id = signed.warrant.order_id
        self.warrants.set(order_id, signed)
        self.warrant_lengths.set(order_id, len(encode_signed_warrant(signed)))

    def end_warrants(self, rollout_id: RolloutId) -> None:
        """The rollout is over, and nobody is told to go back from it any more."""
        for key in [key for key in self.going_back if key[0] == rollout_id]:
            self.going_back.discard(key)
            self.refusing_recall.discard(key)
        self.ways_back.discard(rollout_id)

    def is_over(self, rollout_id: RolloutId) -> bool:
        """Whether no warrant of the rollout is relayed any more: it was superseded or pruned."""
        record = self.view.rollouts.get(rollout_id)
        return record is None or not record.state.is_served

    def forget_expired_warrants(self, commit: CommitBuilder, now: datetime) -> None:
        """Forget the orders of rollouts that are over, once all of a rollout have expired."""
        left: dict[RolloutId, datetime] = {}
        for signed in self.warrants.values():
            warrant = signed.warrant
            if self.is_over(warrant.rollout_id):
                latest = left.get(warrant.rollout_id, warrant.expires_at)
                left[warrant.rollout_id] = max(latest, warrant.expires_at)
        for rollout_id in sorted(key for key, at in left.items() if at <= now):
            for order_id in [
                each for each, it in self.warrants.items() if it.warrant.rollout_id == rollout_id
            ]:
                self.warrants.discard(order_id)
                self.warrant_lengths.discard(order_id)
            commit.write(RemoveWarrants(rollout_id))

    def hold(self, commit: CommitBuilder, hold: Hold, at: datetime) -> None:
        """Stop dispatching in the scope of `hold`, which begins or changes at `at`, as of the latest log row.

        It ends by `release`, or by itself at its `until`. Nothing that is under way is stopped.
        """
        begun = hold.begun(at)
        self.load_hold(begun)
        commit.write(PutHold(begun, self.head_seq))

    def load_hold(self, hold: Hold) -> None:
        """As `hold`, for a hold that is already in the store."""
        if isinstance(hold.scope, HostScope) and hold.source == CONTRADICTION:
            self.forked.add(hold.scope.hostname)
        self.view.hold(hold)

    def release(self, commit: CommitBuilder, scope: HoldScope, source: HoldSource) -> None:
        """End the hold of `source` on `scope`. Other holds on it stay."""
        self.view.release(scope, source)
        if isinstance(scope, HostScope) and source == CONTRADICTION:
            self.forked.discard(scope.hostname)
            # What was heard of two machines says nothing of the one that is left.
            self.heard.discard(scope.hostname)
        if not source.kind.is_derived:
            commit.write(RemoveHold(scope, source))

    def end_device_hold(self, commit: CommitBuilder, hostname: str) -> None:
        """The host is not held by its own lock any more."""
        if self.view.holds.get(HostScope(hostname), DEVICE) is not None:
            self.release(commit, HostScope(hostname), DEVICE)

    def hosts_held_by_devices(self) -> tuple[str, ...]:
        """Return the hosts that are held by their own locks, by name. O(holds)."""
        scopes = (hold.scope for hold in self.view.holds if hold.source == DEVICE)
        return tuple(sorted(scope.hostname for scope in scopes if isinstance(scope, HostScope)))

    def hold_if_revoked(self, hostname: str) -> None:
        """Plan nothing for the host while its key is revoked. In the planner's view alone, where it follows from the
        lists and enrollments in force; no operator can lift it.
        """
        scope = HostScope(hostname)
        revocation = self.identities.ring.revoked.get(hostname)
        if revocation is not None and self.identities.ring.is_revoked(hostname):
            not_before = format_time(revocation.not_before)
            reason = f"its key was revoked: enroll it anew, at or after {not_before}"
            self.view.hold(Hold(scope, _REVOCATION, reason))
        elif self.view.holds.get(scope, _REVOCATION) is not None:
            self.view.release(scope, _REVOCATION)

    def hold_waves(self, rollout_id: RolloutId, now: datetime) -> None:
        """Hold the waves that the rollout has reached until the time that its manifest signs for them, in the view.

        It follows from the manifest, the current wave and the time, so it is not stored. Judged by the engine before it
        plans, since gates read no clock.
        """
        record = self.view.rollouts.get(rollout_id)
        manifest = self.manifests[rollout_id].manifest
        reached = range(-1 if record is None else record.current_wave + 1)
        ahead = [
            (begins, wave)
            for wave, begins in zip(reached, manifest.wave_not_before, strict=False)
            if begins is not None and begins > now
        ]
        held = None
        if ahead:
            begins, wave = max(ahead)
            why = f"wave {wave} of {rollout_id} begins not before {format_time(begins)}"
            held = Hold(RolloutScope(rollout_id), _NOT_BEFORE, why, begins)
        if held == self.view.held_not_before(rollout_id):
            return
        if held is None:
            self.view.release(RolloutScope(rollout_id), _NOT_BEFORE)
        else:
            self.view.hold(held)

    def note_probe_result(
        self, commit: CommitBuilder, key: HostKey, fact: ProbeResult, seq: int
    ) -> None:
        """Update the outstanding failures with the probe result in log row `seq`.

        The caller has them counted, by `count_outstanding`, before anything else looks at the host.
        """
        before = self.outstanding.get(key)
        if before is None and fact.status is _Status.PASS and not fact.sub_results:
            return  # The common case: nothing failed before, and nothing fails now.
        after = dict(before or ())
        for control, is_failing_enforce in control_results(fact):
            if is_failing_enforce and control not in after:
                after[control] = seq
                commit.write(_opened(seq, key, control, fact))
            elif not is_failing_enforce and control in after:
                commit.write(_cleared(after.pop(control), control, by_seq=seq))
        if not after:
            self.outstanding.discard(key)
        elif after != before:
            self.outstanding.set(key, FrozenMap(after))

    def put_outstanding(self, key: HostKey, failures: FrozenMap[Control, int]) -> None:
        """Set the host's outstanding failures, of which there is one: each control, with the log row since which it
        fails.
        """
        self.outstanding.set(key, failures)
        self.count_outstanding(key)

    def count_outstanding(self, key: HostKey) -> None:
        """Count the host's outstanding failures for the planner."""
        self.view.set_outstanding(*key, len(self.outstanding.get(key, ())))

    # Artefacts.

    def put_fleet(self, commit: CommitBuilder, fleet_hash: str, loaded: LoadedFleet) -> None:
        """Put a fleet in force: manifests may be anchored in it."""
        self.fleets.set(fleet_hash, loaded)
        commit.write(PutArtefact(loaded.name, None, self.head_seq))
        self._name_hosts(commit)

    def _name_hosts(self, commit: CommitBuilder) -> None:
        fleets = {fleet_hash: loaded.fleet for fleet_hash, loaded in self.fleets.items()}
        self.identities.name_by(commit, fleets)

    def put_manifest(
        self, commit: CommitBuilder, rollout_id: RolloutId, loaded: LoadedManifest
    ) -> None:
        """Put a manifest in force: its channel now names this rollout."""
        self.manifests.set(rollout_id, loaded)
        if loaded.terms.channel in self.view.seen:
            # The channel was moved here.
            self.seen_through.discard(loaded.terms.channel)
            commit.write(RemoveArtefact(seen_name(loaded.terms.channel)))
        if any(loaded.manifest.wave_not_before):
            self.timed.add(rollout_id)
        else:
            self.timed.discard(rollout_id)
            if self.view.held_not_before(rollout_id) is not None:
                self.view.release(RolloutScope(rollout_id), _NOT_BEFORE)
        self.view.offer(loaded.terms)
        self._put_calendar(loaded)
        commit.write(PutArtefact(manifest_name(rollout_id), rollout_id, self.head_seq))

    def _put_calendar(self, loaded: LoadedManifest) -> None:
        channel, fleet = loaded.terms.channel, self.fleets[loaded.manifest.fleet_resolved_hash]
        activation = loaded.terms.deadlines.activation
        minutes_needed = 0 if activation is None else activation.minutes
        calendar = channel_calendar(fleet.fleet, channel, minutes_needed)
        if calendar == self.calendars.get(channel, ChannelCalendar()):
            return
        if calendar.groups:
            self.calendars.set(channel, calendar)
        else:
            self.calendars.discard(channel)
        self.view.set_groups(channel, calendar.group_of)
        self.calendar_due.set(_AT_ONCE)

    def put_revocations(self, commit: CommitBuilder, revocations: Revocations) -> None:
        """Put a list of revocations in force."""
        before = self.identities.ring.revoked.keys()
        self.identities.put_revocations(commit, revocations, self.head_seq)
        for hostname in before | self.identities.ring.revoked.keys():
            self.hold_if_revoked(hostname)
        commit.write(PutArtefact(REVOCATIONS_FILE, None, self.head_seq))

    def put_nonces(self, commit: CommitBuilder, nonces: BootstrapNonces) -> None:
        """Put a list of nonces in force."""
        self.identities.nonces.set(nonces)
        commit.write(PutArtefact(NONCES_FILE, None, self.head_seq))

    # Other shards.

    def see_channel(self, commit: CommitBuilder, seen: ChannelSeen) -> None:
        """Go by what the log of another shard says of a channel, as of the latest log row."""
        self.load_seen(seen)
        commit.write(PutArtefact(seen_name(seen.channel), None, self.head_seq))

    def load_seen(self, seen: ChannelSeen) -> None:
        """As `see_channel`, for what is in the store."""
        self.view.see(seen)
        self.seen_through.set(seen.channel, seen.as_of)

    def remove_unused_artefacts(self, commit: CommitBuilder) -> None:
        """Remove the manifests that no channel and no rollout needs, and the fleets that no manifest needs."""
        named = {terms.rollout_id for terms in self.view.offers.values()}
        for rollout_id in [id_ for id_ in self.manifests if id_ not in named]:
            # A rollout that no channel names any more is in the view until it is pruned.
            if rollout_id not in self.view.rollouts:
                commit.write(RemoveArtefact(manifest_name(rollout_id)))
                self.manifests.discard(rollout_id)
                self.timed.discard(rollout_id)
        used = {loaded.manifest.fleet_resolved_hash for loaded in self.manifests.values()}
        for fleet_hash in [hash_ for hash_ in self.fleets if hash_ not in used]:
            commit.write(RemoveArtefact(self.fleets[fleet_hash].name))
            self.fleets.discard(fleet_hash)
        self._name_hosts(commit)


def manifest_name(rollout_id: RolloutId) -> str:
    """Return the name under which a rollout's manifest is stored."""
    return f"rollouts/{rollout_id}.json"


def seen_name(channel: str) -> str:
    """Return the name under which the latest word of another shard on a channel is stored."""
    return f"channels/{channel}"


def fleet_name(fleet_hash: str) -> str:
    """Return the name under which a fleet is stored."""
    return f"fleet.resolved.json#{fleet_hash}"


def _cleared(opened_by_seq: int, control: Control, by_seq: int) -> ClearProbeFailure:
    return ClearProbeFailure(
        event_log_seq=opened_by_seq,
        probe_name=control.probe_name,
        control_id=control.control_id,
        framework=control.framework,
        cleared_by_seq=by_seq,
    )


def _opened(seq: int, key: HostKey, control: Control, fact: ProbeResult) -> OpenProbeFailure:
    return OpenProbeFailure(
        event_log_seq=seq,
        rollout_id=key[0],
        host_id=key[1],
        probe_name=control.probe_name,
        control_id=control.control_id,
        framework=control.framework,
        observed_at=fact.observed_at,
    )
