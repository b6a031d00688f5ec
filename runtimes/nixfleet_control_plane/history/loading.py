"""Loads the state from a store's snapshot. Views are loaded as stored; host records are completed from the log.

Records in the cache are trusted, but not the cache's completeness: if it lacks a record, it is discarded and the whole
log is read instead. What a row refers to may be gone, if somebody else wrote to the file. A rollout without its
manifest is held, other rows without their rollout are left out, and both are said: the rest is served.
Source: docs/spec/runtimes.md, Record cache: a start loads the cache and folds the log's tail.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, repeat
from typing import Final, TypeAlias, assert_never

import anyio.to_thread

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import FleetMissing, put_artefact
from nixfleet_control_plane.engine.failing_controls import Control
from nixfleet_control_plane.engine.host_record import (
    apply_fact,
    opened_record,
    queued_record,
    retried_record,
    skip_seq,
)
from nixfleet_control_plane.engine.state import HostKey, KnownRefusal, LoadedManifest, State
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    FactRefused,
    FactReported,
    FactsReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    LoggedEntry,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_control_plane.messages.writes import SetRecordsThrough
from nixfleet_control_plane.store.store import (
    BlockingStore,
    Snapshot,
    Store,
    StoredHost,
    stored_host,
)
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import OpenRollout, QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.rollout.event import (
    MembersChanged,
    RetryOrdered,
    RolloutEvent,
    subject_of,
)
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from nixfleet_state_machine.shards.channel_seen import ChannelSeen

LOST: Final = (
    "nothing is dispatched in it, and nothing of its hosts is taken; restart the control plane once its release is in "
    "force again, or release the channel under another ref"
)
"""What follows for a rollout whose manifest the store does not have, and what can be done."""

_TAIL: Final = "of the rows after the cached records"

_Open: TypeAlias = Mapping[RolloutId, LoadedManifest]
"""The manifest of each rollout that is not pruned."""


async def loaded_state(store: Store) -> State:
    """Return the state as of the last commit; `State.left_out` says what had to be left out.

    Raises: DamagedRow, DecodeError, TransitionError.
    """
    with suppress(CacheIncomplete):
        return await anyio.to_thread.run_sync(state_of, await store.load())
    await store.commit((SetRecordsThrough(0),))
    return await anyio.to_thread.run_sync(state_by_log, await store.load())


def load_state(store: BlockingStore) -> State:
    """As `loaded_state`."""
    with suppress(CacheIncomplete):
        return state_of(store.load())
    store.commit((SetRecordsThrough(0),))
    return state_by_log(store.load())


class CacheIncomplete(NixfleetError):
    """The cache lacks a record that it claims to have, or claims rows that the log does not have."""


def state_by_log(snapshot: Snapshot) -> State:
    """As `state_of`, of a snapshot without cached records, from which nothing but the log can complete them."""
    try:
        return state_of(snapshot)
    except CacheIncomplete as error:
        problem = "expected the record of each host of an open rollout to follow from the log, found one missing"
        raise DamagedRow(snapshot.head_seq, "the last", problem) from error


def state_of(snapshot: Snapshot) -> State:
    """Return the state that a snapshot describes. Raises: DamagedRow, DecodeError, TransitionError."""
    state = State()
    state.head_seq = snapshot.head_seq
    _load_artefacts(state, snapshot)
    _load_rollouts(state, snapshot)
    for key, stored in _complete_hosts(state, snapshot).items():
        state.load_host(stored.record)
        if stored.event_log_seq > snapshot.cached_through:
            state.unsaved.set(key, stored.event_log_seq)
    state.left_out += tuple(_load_views(state, snapshot))
    state.undo.settle()
    return state


def _load_artefacts(state: State, snapshot: Snapshot) -> None:
    for logged in snapshot.artefacts:
        entry = logged.entry
        if isinstance(entry, Followed) and isinstance(entry.seen, ChannelSeen):
            state.load_seen(entry.seen)
            continue
        assert isinstance(entry, ArtefactTaken), logged
        try:
            put_artefact(state, CommitBuilder(), entry)
        except FleetMissing as error:
            state.left_out += (f"{entry.name} is left out: {error}",)


def _load_rollouts(state: State, snapshot: Snapshot) -> None:
    for rollout_id in snapshot.pruned:
        state.pruned.add(rollout_id)
    for record, moved_at in snapshot.rollouts:
        loaded = state.manifests.get(record.rollout_id)
        if record.state is RolloutState.PRUNED:
            # While its channel names it, the rollout's record is left, or it would be opened again.
            offered = state.view.offers.get(record.channel)
            if offered is not None and offered.rollout_id == record.rollout_id:
                state.view.keep(record)
            continue
        if loaded is None:
            state.lose_rollout(record, f"the database has no manifest of {record.rollout_id}")
        else:
            state.view.open(record, loaded.terms)
        state.count_standings(record)
        if _rests(record):
            state.schedule_pruning(record.rollout_id, moved_at + record.retention)
    state.left_out += tuple(f"{why}: {LOST}" for why in state.lost.values())


def _rests(record: RolloutRecord) -> bool:
    return record.state.is_halted or record.state.is_terminal_for_ordering


def _complete_hosts(state: State, snapshot: Snapshot) -> dict[HostKey, StoredHost]:
    open_rollouts = _open_rollouts(state)
    hosts = {
        (stored.record.rollout_id, stored.record.hostname): stored
        for stored in snapshot.hosts
        if stored.record.rollout_id in open_rollouts
    }
    misfits: dict[HostKey, TransitionError] = {}
    for logged in _in_order(snapshot):
        for key, record in _records_after(open_rollouts, hosts, misfits, logged):
            hosts[key] = stored_host(record, logged.seq)
            if isinstance(logged.entry, RolloutMoved):
                # It joined, or joined again: what it told before is no part of this membership.
                state.digests.forget(key)
                state.receipts.forget(key)
                state.rollback_failed.discard(key)
            if isinstance(logged.entry, FactsReported | FactReported | FactRefused):
                facts, refused = _facts_in(logged.entry)
                state.digests.note(key, facts)
                for fact in facts:
                    if fact.seq not in refused:
                        state.note_fact(key, fact, logged.at)
    for misfit in misfits.values():
        raise misfit
    if hosts.keys() != _expected_hosts(open_rollouts):
        raise CacheIncomplete
    return hosts


def _in_order(snapshot: Snapshot) -> Iterator[LoggedEntry]:
    """Yield the tail. Raises: DamagedRow, if it has not every row up to the head once: a fact would be missing.

    Its first rows may have been exported and dropped: nothing live needs those.
    """
    if snapshot.cached_through > snapshot.head_seq:
        raise CacheIncomplete
    last = None
    for logged in snapshot.tail:
        if last is not None and logged.seq != last + 1:
            raise DamagedRow(logged.seq, _TAIL, f"expected row {last + 1} here")
        if last is None and logged.seq <= snapshot.cached_through:
            raise DamagedRow(logged.seq, _TAIL, f"expected rows after {snapshot.cached_through}")
        last = logged.seq
        yield logged
    end = snapshot.cached_through if last is None else last
    if end != snapshot.head_seq:
        raise DamagedRow(end, _TAIL, f"expected the log to end with row {snapshot.head_seq}")


def _open_rollouts(state: State) -> _Open:
    """Return the manifests of all rollouts that are not pruned by now, nor lost."""
    return {rollout_id: state.manifests[rollout_id] for rollout_id in state.view.open_rollouts}


def _expected_hosts(open_rollouts: _Open) -> set[HostKey]:
    return {
        (rollout_id, hostname)
        for rollout_id, loaded in open_rollouts.items()
        for hostname in loaded.terms.targets
    }


def _earlier(
    open_rollouts: _Open, hosts: Mapping[HostKey, StoredHost], key: HostKey, seq: int
) -> StoredHost | None:
    """Return the record if it is older than log row `seq`, otherwise `None`; `None` for a host that left since."""
    loaded = open_rollouts.get(key[0])
    if loaded is None or key[1] not in loaded.terms.targets:
        return None
    stored = hosts.get(key)
    if stored is None:
        raise CacheIncomplete
    return stored if stored.event_log_seq < seq else None


def _records_after(
    open_rollouts: _Open,
    hosts: Mapping[HostKey, StoredHost],
    misfits: dict[HostKey, TransitionError],
    logged: LoggedEntry,
) -> Iterable[tuple[HostKey, HostRolloutState]]:
    """Return the records after `logged`, of those that are older than it."""
    entry = logged.entry
    match entry:
        case FactsReported() | FactReported() | FactRefused():
            return _records_reported(open_rollouts, hosts, misfits, entry, logged)
        case Planned():
            return _records_planned(open_rollouts, hosts, entry.action, logged)
        case RolloutMoved():
            return _records_moved(open_rollouts, hosts, misfits, entry.event, logged)
        case (
            Deferred() | Returned() | HoldMoved() | Commanded() | HostEnrolled() | IdentityForked()
        ):
            return ()
        case ArtefactTaken() | ArtefactRefused() | Followed():
            return ()
        case _:
            assert_never(entry)


def _records_reported(
    open_rollouts: _Open,
    hosts: Mapping[HostKey, StoredHost],
    misfits: dict[HostKey, TransitionError],
    entry: FactsReported | FactReported | FactRefused,
    logged: LoggedEntry,
) -> Iterable[tuple[HostKey, HostRolloutState]]:
    """As `_records_after`.

    misfits: a fact that does not apply is noted here. It is right all the same if the host left and joined again, since
    it may have had another target before; `_records_moved` removes it then.
    """
    key = entry.rollout_id, entry.host
    before = _earlier(open_rollouts, hosts, key, logged.seq)
    if before is None or key in misfits:
        return ()
    policy, record = open_rollouts[entry.rollout_id].manifest.rollout_policy, before.record
    facts, refused = _facts_in(entry)
    try:
        for fact in facts:
            if fact.seq in refused:
                record = skip_seq(record, fact.seq)
            else:
                record = apply_fact(record, fact, logged.at, policy)[0]
    except TransitionError as error:
        misfits[key] = error
        return ()
    return ((key, record),)


def _facts_in(
    entry: FactsReported | FactReported | FactRefused,
) -> tuple[tuple[AgentEvent, ...], Container[int]]:
    """Return the facts of a row of either format, and the numbers of those that were refused."""
    match entry:
        case FactsReported():
            return entry.facts, entry.refused.keys()
        case FactReported():
            return (entry.fact,), ()
        case FactRefused():
            return (entry.fact,), (entry.fact.seq,)
        case _:
            assert_never(entry)


def _records_planned(
    open_rollouts: _Open,
    hosts: Mapping[HostKey, StoredHost],
    action: OpenRollout | QueueDispatch | WithdrawDispatch,
    logged: LoggedEntry,
) -> Iterator[tuple[HostKey, HostRolloutState]]:
    loaded = open_rollouts.get(action.rollout_id)
    if loaded is None:
        return
    match action:
        case OpenRollout():
            for hostname in loaded.terms.targets:
                if (action.rollout_id, hostname) not in hosts:
                    yield (action.rollout_id, hostname), opened_record(loaded.terms, hostname)
        case QueueDispatch():
            key = action.rollout_id, action.host
            before = _earlier(open_rollouts, hosts, key, logged.seq)
            if before is not None:
                yield key, queued_record(before.record, logged.at, action.soak_due_at)
        case WithdrawDispatch():
            pass
        case _:
            assert_never(action)


def _records_moved(
    open_rollouts: _Open,
    hosts: Mapping[HostKey, StoredHost],
    misfits: dict[HostKey, TransitionError],
    event: RolloutEvent,
    logged: LoggedEntry,
) -> Iterator[tuple[HostKey, HostRolloutState]]:
    rollout_id = subject_of(event)
    loaded = open_rollouts.get(rollout_id)
    if loaded is None:
        return
    if isinstance(event, RetryOrdered):
        for hostname in event.hosts:
            before = _earlier(open_rollouts, hosts, (rollout_id, hostname), logged.seq)
            if before is not None:
                yield (rollout_id, hostname), retried_record(before.record)
    elif isinstance(event, MembersChanged):
        for hostname in loaded.terms.targets.keys() & set(event.joined):
            stored = hosts.get((rollout_id, hostname))
            if stored is None or stored.event_log_seq < logged.seq:
                misfits.pop((rollout_id, hostname), None)
                yield (rollout_id, hostname), opened_record(loaded.terms, hostname)


def _load_views(state: State, snapshot: Snapshot) -> Iterator[str]:
    """Yield what is left out, since its rollout does not have the host, or is not there."""
    for channel, closure in snapshot.quarantines:
        closures = state.quarantines.get(channel, frozenset[str]())
        state.quarantines.set(channel, closures | {closure})
    for quarantine, at in zip(snapshot.quarantines, snapshot.quarantined_at, strict=False):
        state.quarantined_at.set(quarantine, at)
    for budget, began_at in snapshot.beginnings:
        state.view.note_beginning(budget, began_at)
    for hold in snapshot.holds:
        state.load_hold(hold)
    for warrant in snapshot.warrants:
        state.load_warrant(warrant)
    for refusal in snapshot.refused:
        known = KnownRefusal(refusal.reason, refusal.counts)
        state.load_refusal((refusal.rollout_id, refusal.hostname), refusal.seq, known)
    for used in snapshot.used_nonces:
        state.identities.put_used_nonce(used)
    state.identities.put_stored(snapshot.enrolled, snapshot.revoked)
    for revocation in snapshot.revoked:
        state.hold_if_revoked(revocation.hostname)
    for stored in snapshot.dispatches:
        dispatch = stored.dispatch
        key = RolloutId(dispatch.rollout_id), dispatch.hostname
        if state.view.host(*key) is None:
            yield f"the dispatch of {key[1]} in {key[0]} is left out: {_why_unknown(state, *key)}"
        else:
            state.put_dispatch(key, dispatch, stored.queued_at)
    since_of = chain(snapshot.deferred_since, repeat(None))
    for deferral, since in zip(snapshot.deferrals, since_of, strict=False):
        # Hosts that are held are planned anew, and have their reason again.
        if state.view.host(deferral.rollout_id, deferral.host) is not None:
            state.load_deferral(deferral, since)
    outstanding: dict[HostKey, dict[Control, int]] = {}
    for failure in snapshot.failures:
        control = Control(failure.probe_name, failure.control_id, failure.framework)
        host_controls = outstanding.setdefault((failure.rollout_id, failure.host_id), {})
        host_controls[control] = failure.event_log_seq
    for key, controls in outstanding.items():
        if state.view.host(*key) is not None:
            state.put_outstanding(key, FrozenMap(controls))


def _why_unknown(state: State, rollout_id: RolloutId, hostname: str) -> str:
    if rollout_id in state.lost:
        return state.lost[rollout_id]
    if rollout_id not in state.view.rollouts:
        return f"the database has no rollout {rollout_id}"
    return f"{rollout_id} does not name {hostname}"
