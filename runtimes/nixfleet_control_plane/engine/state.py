"""The control plane's state, and the primitive changes to it.

Each change is made in memory and, where a table shows it, asked of the store in the same commit. No
decision is taken here and nothing is appended to the log but by `append`. Only the mutator's task may touch
an instance; every change can be taken back through `undo`.
Source: docs/spec/runtimes.md, Control plane.
"""

from datetime import datetime

from attrs import frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.failing_controls import Control, control_results
from nixfleet_control_plane.engine.identity_state import Identities
from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.inputs import PauseScope, WakeHost
from nixfleet_control_plane.messages.log_entry import Entry
from nixfleet_control_plane.messages.writes import (
    ClearProbeFailure,
    OpenProbeFailure,
    PutArtefact,
    PutDeferral,
    PutDispatch,
    PutHold,
    PutQuarantine,
    PutRefusedEvent,
    PutRollout,
    RemoveArtefact,
    RemoveDeferral,
    RemoveDispatch,
    RemoveHold,
    RemoveHostRecords,
    RemoveRefusedEvents,
    RetireQuarantineRow,
)
from nixfleet_proto.agent_event import ProbeResult, ProbeStatus
from nixfleet_proto.enrollment import BootstrapNonces, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.members import members
from nixfleet_proto.wire import Dispatch, SignedArtefact
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import DeferDispatch
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.undo import UndoableDict, UndoableSet, UndoableValue, UndoLog

HostKey = tuple[RolloutId, str]
"""A host in a rollout."""

_Status = members(ProbeStatus)


@frozen
class KeptManifest:
    """A manifest in force: what it says, what it means, and the bytes that were signed."""

    manifest: RolloutManifest
    terms: RolloutTerms
    artefact: SignedArtefact


@frozen
class KeptFleet:
    """A fleet that manifests in force are anchored in."""

    name: str
    fleet: FleetResolved


@frozen
class FlushCycle:
    """Host records still to be written, and up to which log row the cache is true when they are."""

    left: tuple[HostKey, ...] = ()
    through: int = 0


class State:
    """Everything the control plane knows, in memory."""

    def __init__(self) -> None:
        self.undo = UndoLog()
        self.view = FleetView(self.undo)
        self.manifests = UndoableDict[RolloutId, KeptManifest](self.undo)
        self.fleets = UndoableDict[str, KeptFleet](self.undo)
        self.quarantines = UndoableDict[str, frozenset[str]](self.undo)
        self.dispatches = UndoableDict[str, tuple[Dispatch, ...]](self.undo)
        self.deferrals = UndoableDict[HostKey, DeferDispatch](self.undo)
        self.outstanding = UndoableDict[HostKey, FrozenMap[Control, int]](self.undo)
        self.holds = UndoableDict[str, PauseScope](self.undo)
        self.prune_due = UndoableDict[RolloutId, datetime](self.undo)
        self.pruned = UndoableSet[str](self.undo)
        self.unsaved = UndoableDict[HostKey, int](self.undo)
        self.refused = UndoableDict[tuple[RolloutId, str, int], str](self.undo)
        self.identities = Identities(self.undo)
        self.flush_cycle = UndoableValue(self.undo, FlushCycle())
        self.head_seq = 0
        """The number of the latest log row; 0 for an empty log. Changed by `append` alone, or by a start."""

    def append(self, commit: CommitBuilder, entry: Entry, at: datetime) -> int:
        """Append `entry` to the log and return its number."""
        self.undo.note(setattr, self, "head_seq", self.head_seq)
        self.head_seq = seq = self.head_seq + 1
        commit.write(row_of(seq, at, entry))
        return seq

    # Host records. The table behind them is a cache, written by `FlushRecords`.

    def put_host(self, record: HostRolloutState) -> None:
        """The record of this host in this rollout is `record`, as of the latest log row."""
        self.view.set_host(record)
        self.unsaved.set((record.rollout_id, record.hostname), self.head_seq)

    def refuse_fact(
        self, commit: CommitBuilder, key: HostKey, seq: int, reason: str, event_log_seq: int
    ) -> None:
        """Whenever this fact comes again, that is the answer."""
        self.refused.set((*key, seq), reason)
        commit.write(PutRefusedEvent(*key, seq, reason, event_log_seq))

    # Rollouts.

    def put_rollout(self, commit: CommitBuilder, record: RolloutRecord) -> None:
        """The record of this rollout is `record`."""
        self.view.set_rollout(record)
        commit.write(PutRollout(record))

    def open_rollout(
        self, commit: CommitBuilder, record: RolloutRecord, terms: RolloutTerms
    ) -> None:
        """A rollout begins; its hosts' records come next."""
        self.view.open(record, terms)
        commit.write(PutRollout(record))

    def schedule_pruning(self, rollout_id: RolloutId, due_at: datetime) -> None:
        """The rollout may be forgotten from `due_at` on."""
        self.prune_due.set(rollout_id, due_at)

    def cancel_pruning(self, rollout_id: RolloutId) -> None:
        """The rollout goes on: nothing of it may be forgotten."""
        self.prune_due.discard(rollout_id)

    def forget_rollout(self, commit: CommitBuilder, record: RolloutRecord) -> None:
        """The rollout is pruned: its row stays, its hosts' records, its hold and its manifest go.

        The manifest stays while its channel names it: hosts may fetch it, and it must not open again.
        """
        rollout_id = record.rollout_id
        for host in self.view.hosts_of(rollout_id):
            self.outstanding.discard((rollout_id, host.hostname))
            self.unsaved.discard((rollout_id, host.hostname))
        for refused in [known for known in self.refused if known[0] == rollout_id]:
            self.refused.discard(refused)
        if rollout_id in self.holds:
            self.release(commit, rollout_id)
        self.put_rollout(commit, record)
        self.view.forget_rollout(rollout_id)
        self.pruned.add(rollout_id)
        commit.write(RemoveHostRecords(rollout_id))
        commit.write(RemoveRefusedEvents(rollout_id))
        self.remove_unused_artefacts(commit)

    # Dispatches and the reasons why there is none.

    def queue_dispatch(self, commit: CommitBuilder, key: HostKey, dispatch: Dispatch) -> None:
        """The host is handed `dispatch` at its polls, until `remove_dispatch`."""
        self.put_dispatch(key, dispatch)
        commit.write(PutDispatch(dispatch, self.head_seq))
        commit.afterwards(WakeHost(dispatch.hostname))
        self.remove_deferral(commit, key)

    def put_dispatch(self, key: HostKey, dispatch: Dispatch) -> None:
        """As `queue_dispatch`, for one that is in the store already."""
        rollout_id, hostname = key
        others = self.dispatches.get(hostname, ())
        self.dispatches.set(hostname, (*others, dispatch))
        self.view.set_queued(rollout_id, hostname, True)

    def remove_dispatch(self, commit: CommitBuilder, key: HostKey) -> None:
        """Nothing of this rollout waits for the host any more."""
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
        """The host waits, for this reason."""
        self.deferrals.set((deferral.rollout_id, deferral.host), deferral)
        commit.write(PutDeferral(deferral, since, self.head_seq))

    def remove_deferral(self, commit: CommitBuilder, key: HostKey) -> None:
        """The host waits no more."""
        if key in self.deferrals:
            self.deferrals.discard(key)
            commit.write(RemoveDeferral(key[1], key[0]))

    def remove_deferrals(self, commit: CommitBuilder, rollout_id: RolloutId) -> None:
        """Nobody waits in this rollout any more."""
        for record in self.view.hosts_of(rollout_id):
            self.remove_deferral(commit, (rollout_id, record.hostname))

    # Quarantines, holds, failures.

    def quarantine(
        self, commit: CommitBuilder, channel: str, closure: str, at: datetime, triggered_by: int
    ) -> None:
        """`closure` is not handed to hosts of `channel` any more. A second time changes nothing."""
        closures = self.quarantines.get(channel, frozenset[str]())
        if closure in closures:
            return
        self.quarantines.set(channel, closures | {closure})
        self.view.stir_closure(channel, closure)
        commit.write(PutQuarantine(channel, closure, at, triggered_by))

    def retire_quarantine(
        self, commit: CommitBuilder, channel: str, closure: str, cleared_by: int
    ) -> None:
        """`closure` may be handed to hosts of `channel` again."""
        self.quarantines.set(channel, self.quarantines[channel] - {closure})
        self.view.stir_closure(channel, closure)
        commit.write(RetireQuarantineRow(channel, closure, cleared_by))

    def hold(self, commit: CommitBuilder, pause: PauseScope, at: datetime) -> None:
        """Nothing of the scope is dispatched."""
        self.put_hold(pause)
        commit.write(PutHold(pause.scope, pause.operator, pause.reason, at, self.head_seq))

    def put_hold(self, pause: PauseScope) -> None:
        """As `hold`, for one that is in the store already."""
        self.holds.set(pause.scope, pause)
        self.view.hold(pause.scope, f"{pause.operator}: {pause.reason}")

    def release(self, commit: CommitBuilder, scope: str) -> None:
        """The scope is dispatched again."""
        self.holds.discard(scope)
        self.view.release(scope)
        commit.write(RemoveHold(scope))

    def note_probe_result(
        self, commit: CommitBuilder, key: HostKey, fact: ProbeResult, seq: int
    ) -> None:
        """Keep track of which failing controls are outstanding, after `fact` in log row `seq`."""
        before = self.outstanding.get(key)
        if before is None and fact.status is _Status.PASS and not fact.sub_results:
            return  # Nearly always: nothing failed, and nothing does.
        after = dict(before or ())
        for control, is_failing_enforce in control_results(fact):
            if is_failing_enforce and control not in after:
                after[control] = seq
                commit.write(_opened(seq, key, control, fact))
            elif not is_failing_enforce and control in after:
                commit.write(_cleared(after.pop(control), control, by_seq=seq))
        if after != (before or {}):
            self.put_outstanding(key, FrozenMap(after))

    def put_outstanding(self, key: HostKey, failures: FrozenMap[Control, int]) -> None:
        """These controls of the host fail by their latest result; each since its log row."""
        if failures:
            self.outstanding.set(key, failures)
        else:
            self.outstanding.discard(key)
        self.view.set_outstanding(key[0], key[1], len(failures))

    # Artefacts.

    def put_fleet(self, commit: CommitBuilder, fleet_hash: str, kept: KeptFleet) -> None:
        """The fleet is one that manifests may be anchored in."""
        self.fleets.set(fleet_hash, kept)
        commit.write(PutArtefact(kept.name, None, self.head_seq))
        self._name_hosts(commit)

    def _name_hosts(self, commit: CommitBuilder) -> None:
        self.identities.name_by(commit, {it: kept.fleet for it, kept in self.fleets.items()})

    def put_manifest(
        self, commit: CommitBuilder, rollout_id: RolloutId, kept: KeptManifest
    ) -> None:
        """The manifest is in force; its channel now names this rollout."""
        self.manifests.set(rollout_id, kept)
        self.view.offer(kept.terms)
        commit.write(PutArtefact(manifest_name(rollout_id), rollout_id, self.head_seq))

    def put_revocations(self, commit: CommitBuilder, revocations: Revocations) -> None:
        """The list of revocations is in force."""
        self.identities.put_revocations(commit, revocations, self.head_seq)
        commit.write(PutArtefact(REVOCATIONS_FILE, None, self.head_seq))

    def put_nonces(self, commit: CommitBuilder, nonces: BootstrapNonces) -> None:
        """The list of nonces is in force."""
        self.identities.nonces.set(nonces)
        commit.write(PutArtefact(NONCES_FILE, None, self.head_seq))

    def remove_unused_artefacts(self, commit: CommitBuilder) -> None:
        """Forget manifests that no channel and no rollout needs, and fleets that no manifest does."""
        named = {terms.rollout_id for terms in self.view.offers.values()}
        for rollout_id in [known for known in self.manifests if known not in named]:
            # What a channel names no more has a record here for as long as it is not pruned.
            if rollout_id not in self.view.rollouts:
                commit.write(RemoveArtefact(manifest_name(rollout_id)))
                self.manifests.discard(rollout_id)
        used = {kept.manifest.fleet_resolved_hash for kept in self.manifests.values()}
        for fleet_hash in [known for known in self.fleets if known not in used]:
            commit.write(RemoveArtefact(self.fleets[fleet_hash].name))
            self.fleets.discard(fleet_hash)
        self._name_hosts(commit)


def manifest_name(rollout_id: RolloutId) -> str:
    """Return the name under which a rollout's manifest is kept."""
    return f"rollouts/{rollout_id}.json"


def fleet_name(fleet_hash: str) -> str:
    """Return the name under which a fleet is kept."""
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
