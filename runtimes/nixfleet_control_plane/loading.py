"""A state out of a store's snapshot. The views are taken as they are; the host records are completed from the log.

Source: design 7, Store: a start loads the cache and folds the log's tail.
"""

from collections.abc import Iterator, Mapping
from typing import assert_never

from nixfleet_control_plane.books import put_artefact
from nixfleet_control_plane.commit_builder import CommitBuilder
from nixfleet_control_plane.failures import Control
from nixfleet_control_plane.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    FactReported,
    LoggedEntry,
    Planned,
    RolloutMoved,
)
from nixfleet_control_plane.mirror import opened_record, queued_record, told_record
from nixfleet_control_plane.state import HostKey, State
from nixfleet_control_plane.store import Snapshot, Store, StoredHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import OpenRollout, QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.rollout.state import RolloutRecord


def load_state(store: Store) -> State:
    """Return the state as of the last commit. Raises: DamagedRow, DecodeError."""
    snapshot = store.load()
    state = State()
    state.start_at(snapshot.head_seq)
    _load_artefacts(state, snapshot)
    for record, moved_at in snapshot.rollouts:
        state.view.open(record, state.manifests[record.rollout_id].terms)
        if _rests(record):
            state.schedule_pruning(record.rollout_id, moved_at + record.retention)
    for key, stored in _complete_hosts(state, snapshot).items():
        state.view.set_host(stored.record)
        if stored.event_log_seq > snapshot.cached_through:
            state.unsaved.set(key, stored.event_log_seq)
    _load_views(state, snapshot)
    state.undo.settle()
    return state


def _load_artefacts(state: State, snapshot: Snapshot) -> None:
    for logged in snapshot.artefacts:
        assert isinstance(logged.entry, ArtefactTaken), logged
        put_artefact(state, CommitBuilder(), logged.entry)


def _rests(record: RolloutRecord) -> bool:
    return record.state.is_halted or record.state.is_terminal_for_ordering


def _complete_hosts(state: State, snapshot: Snapshot) -> dict[HostKey, StoredHost]:
    hosts = {(h.record.rollout_id, h.record.hostname): h for h in snapshot.hosts}
    for logged in snapshot.tail:
        for key, record in _records_after(state, hosts, logged):
            hosts[key] = StoredHost(record, logged.seq)
    return hosts


def _records_after(
    state: State, hosts: Mapping[HostKey, StoredHost], logged: LoggedEntry
) -> Iterator[tuple[HostKey, HostRolloutState]]:
    """Yield what `logged` made of the records that do not know of it yet."""
    entry = logged.entry
    match entry:
        case FactReported():
            kept = state.manifests.get(entry.rollout_id)
            key = entry.rollout_id, entry.host
            if kept is not None and hosts[key].event_log_seq < logged.seq:
                policy = kept.manifest.rollout_policy
                before = hosts[key].record
                yield key, told_record(before, entry.fact, logged.at, kept.terms, policy)[0]
        case Planned():
            yield from _records_planned(state, hosts, entry.action, logged)
        case RolloutMoved() | Deferred() | Commanded() | ArtefactTaken() | ArtefactRefused():
            pass
        case _:
            assert_never(entry)


def _records_planned(
    state: State,
    hosts: Mapping[HostKey, StoredHost],
    action: OpenRollout | QueueDispatch | WithdrawDispatch,
    logged: LoggedEntry,
) -> Iterator[tuple[HostKey, HostRolloutState]]:
    kept = state.manifests.get(action.rollout_id)
    if kept is None:
        return  # Pruned since.
    match action:
        case OpenRollout():
            for hostname in kept.terms.targets:
                if (action.rollout_id, hostname) not in hosts:
                    yield (action.rollout_id, hostname), opened_record(kept.terms, hostname)
        case QueueDispatch():
            key = action.rollout_id, action.host
            if hosts[key].event_log_seq < logged.seq:
                yield key, queued_record(hosts[key].record, logged.at, action.soak_due_at)
        case WithdrawDispatch():
            pass
        case _:
            assert_never(action)


def _load_views(state: State, snapshot: Snapshot) -> None:
    for channel, closure in snapshot.quarantines:
        known = state.quarantines.get(channel, frozenset[str]())
        state.quarantines.set(channel, known | {closure})
    for pause in snapshot.holds:
        state.put_hold(pause)
    for dispatch in snapshot.dispatches:
        state.put_dispatch((RolloutId(dispatch.rollout_id), dispatch.hostname), dispatch)
    for deferral in snapshot.deferrals:
        state.deferrals.set((deferral.rollout_id, deferral.host), deferral)
    outstanding: dict[HostKey, dict[Control, int]] = {}
    for failure in snapshot.failures:
        control = Control(failure.probe_name, failure.control_id, failure.framework)
        of_host = outstanding.setdefault((failure.rollout_id, failure.host_id), {})
        of_host[control] = failure.event_log_seq
    for key, controls in outstanding.items():
        if state.view.host(*key) is not None:
            state.put_outstanding(key, FrozenMap(controls))
