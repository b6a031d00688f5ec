"""The planner's view of the fleet: records, offers, holds and queue, and the counts derived from them.

Modified only through the methods of `FleetView`. The cost of a modification is proportional to what it affects and
never a scan of the hosts. Each one is noted in the `UndoLog`, so that it can be rolled back, and adds the answers it
may alter to `Changes`, the only ones that `replan` evaluates again. Scans over all rollouts are allowed: there are few.
Source: docs/spec/planner.md, Cost.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Set
from datetime import datetime
from functools import partial
from typing import Final, assert_never

from nixfleet_proto.checked import at_least, require_arguments
from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.fleet import Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.deadlines import Due
from nixfleet_state_machine.planner.errors import AlreadyOpen, UnknownHost, UnknownRollout
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.index import HoldIndex
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)
from nixfleet_state_machine.planner.index.beginnings import Beginnings
from nixfleet_state_machine.planner.index.changes import Changes
from nixfleet_state_machine.planner.index.dues import DueHost
from nixfleet_state_machine.planner.index.lanes import LaneIndex
from nixfleet_state_machine.planner.index.rollout_view import (
    HostCounts,
    HostGroup,
    RolloutBook,
    counts_alike,
    needs_dispatch,
)
from nixfleet_state_machine.planner.index.tally import NOBODY, Tally, sum_of
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.scopes.selector import summary
from nixfleet_state_machine.shards.channel_seen import ChannelSeen
from nixfleet_state_machine.time_heap import TimeHeap
from nixfleet_state_machine.undo import NoUndo, UndoableDict, UndoLog

_FLEET: Final = str(FleetScope())
_NO_GROUPS: Final = FrozenMap[str, str]()


class FleetView:
    """The planner's input. Owns the host and rollout records; the engine reads them from here.

    undo: notes changes so that they can be rolled back; without one, changes are final. The attribute `lanes`, the
    waiting hosts in groups, is for `replan` only.
    Two views are equal if they hold the same records, terms, queue, counts of failing controls, offers, channels seen,
    holds and beginnings.
    Methods that take a rollout id raise UnknownRollout, where they do not say otherwise.
    """

    def __init__(self, undo: UndoLog | None = None) -> None:
        require_arguments("FleetView", undo=(undo, UndoLog | None))
        self._undo = undo = NoUndo() if undo is None else undo
        self._rollouts = UndoableDict[RolloutId, RolloutRecord](undo)
        self._books = UndoableDict[RolloutId, RolloutBook](undo)
        self._offers = UndoableDict[str, RolloutTerms](undo)
        self._seen = UndoableDict[str, ChannelSeen](undo)
        self._holds = HoldIndex(undo)
        self._groups = UndoableDict[str, Mapping[str, str]](undo)
        self._in_flight = UndoableDict[str, int](undo)
        self._beginnings = Beginnings(undo)
        self._changes = Changes()
        self._dues = TimeHeap[DueHost](undo, self._is_due)
        # Apart from the dues: nothing follows from these, so they stay, and `next_due` is to be ahead.
        self._overdue = TimeHeap[DueHost](undo, self._is_overdue)
        self.lanes: LaneIndex = LaneIndex(undo)

    # --- changes: offers and rollouts --------------------------------------------------------------

    def offer(self, terms: RolloutTerms) -> None:
        """Set the rollout that the verified manifest of `terms.channel` names, replacing any earlier one."""
        require_arguments("FleetView.offer", terms=(terms, RolloutTerms))
        known = self._offers.get(terms.channel)
        if known is not None and known.rollout_id != terms.rollout_id:
            self.retract(terms.channel)
        self._offers.set(terms.channel, terms)
        self._seen.discard(terms.channel)  # It is a channel of this log from now on.
        self._channel_changed(terms.channel)

    def retract(self, channel: str) -> None:
        """Remove the offer of `channel`: the fleet has no manifest for it any more."""
        require_arguments("FleetView.retract", channel=(channel, str))
        offered = self._offers.get(channel)
        self._offers.discard(channel)
        if offered is not None and offered.rollout_id not in self._books:
            self._rollouts.discard(offered.rollout_id)
        self._channel_changed(channel)

    def see(self, seen: ChannelSeen) -> None:
        """Set what the log of another shard says of a channel: the channels that wait for it go by that."""
        require_arguments("FleetView.see", seen=(seen, ChannelSeen))
        self._seen.set(seen.channel, seen)
        self._channel_changed(seen.channel)

    def open(self, record: RolloutRecord, terms: RolloutTerms) -> None:
        """Add a rollout, new or loaded, with its terms. Its hosts are added by `set_host`.

        Raises: AlreadyOpen. InvalidValue, for terms of another rollout.
        """
        require_arguments(
            "FleetView.open", record=(record, RolloutRecord), terms=(terms, RolloutTerms)
        )
        if record.rollout_id != terms.rollout_id:
            expected = f"the terms of {record.rollout_id}, as the record"
            problem = ValueProblem("terms", expected, f"those of {terms.rollout_id}")
            raise InvalidValue("FleetView.open", (problem,))
        if record.rollout_id in self._books:
            raise AlreadyOpen(record.rollout_id)
        self._books.set(terms.rollout_id, RolloutBook(terms, record, self._undo))
        self._rollouts.set(record.rollout_id, record)
        self._rollout_changed(record)

    def keep(self, record: RolloutRecord) -> None:
        """Add the record alone of a rollout that was pruned, or whose terms are lost: it dispatches no host, and is not
        opened again.

        Raises: AlreadyOpen.
        """
        require_arguments("FleetView.keep", record=(record, RolloutRecord))
        if record.rollout_id in self._rollouts:
            raise AlreadyOpen(record.rollout_id)
        self._rollouts.set(record.rollout_id, record)
        self._channel_changed(record.channel)

    def set_rollout(self, record: RolloutRecord) -> None:
        """Replace the record of an open rollout: state, wave, standings, attempts and drifts may differ."""
        require_arguments("FleetView.set_rollout", record=(record, RolloutRecord))
        before = self.rollout(record.rollout_id)
        book = self._books.get(record.rollout_id)
        self._rollouts.set(record.rollout_id, record)
        if book is None:
            return
        if before.state.is_live is not record.state.is_live:
            self._shift(book.in_flight, 1 if record.state.is_live else -1)
        if before.state.is_served is not record.state.is_served:
            self._shift(book.late_in_flight, 1 if record.state.is_served else -1)
        self._recheck_served(before, record, book)
        for hostname in _counted_otherwise(before, record):
            self._spread(record, book, hostname, book.counts(hostname, before))
        if _is_planned_otherwise(before, record):
            self._rollout_changed(record)

    def amend(self, terms: RolloutTerms) -> None:
        """Replace the terms of an open rollout: hosts were added or removed, and nothing else is different.

        The caller sets the standings of those that joined or left, and the records of those that joined.
        """
        require_arguments("FleetView.amend", terms=(terms, RolloutTerms))
        rollout_id, book = terms.rollout_id, self._book(terms.rollout_id)
        record = self._rollouts[rollout_id]
        amended = RolloutBook(terms, record, self._undo)
        if record.state.is_live:
            self._shift(book.in_flight, -1)
        if record.state.is_served:
            self._shift(book.late_in_flight, -1)
        self._books.set(rollout_id, amended)
        for hostname, failing in book.failing.items():
            if hostname in terms.targets:
                self._change(amended, hostname, partial(amended.failing.set, hostname, failing))
        for hostname, host in book.hosts.items():
            if hostname in terms.targets:
                self._change(amended, hostname, partial(amended.hosts.set, hostname, host))
                if hostname in book.queued:
                    since = book.queued[hostname]
                    self._change(amended, hostname, partial(amended.queued.set, hostname, since))
            else:
                # The next `replan` takes it out of its lane. Done here, it could not be undone.
                self.recheck_host(rollout_id, hostname)
        self._rollout_changed(record)

    def forget_rollout(self, rollout_id: RolloutId) -> None:
        """Drop a pruned rollout and its hosts.

        The bare record stays while the channel's manifest still names it, or it would be opened again.
        """
        record = self.rollout(rollout_id)
        book = self._books.get(rollout_id)
        if book is not None and record.state.is_live:
            self._shift(book.in_flight, -1)
        if book is not None and record.state.is_served:
            self._shift(book.late_in_flight, -1)
        self._books.discard(rollout_id)
        self.lanes.forget(rollout_id)
        for hold in self._holds.of_rollout(rollout_id):
            self._holds.discard(*hold.key)
        offered = self._offers.get(record.channel)
        if offered is None or offered.rollout_id != rollout_id:
            self._rollouts.discard(rollout_id)
        self._channel_changed(record.channel)

    # --- changes: hosts ----------------------------------------------------------------------------

    def set_host(self, record: HostRolloutState) -> None:
        """Add or replace the record of (rollout, host), as the terms of the open rollout name it.

        Raises: UnknownHost. InvalidValue, for a record with another closure than the terms.
        """
        if type(record) is not HostRolloutState:
            require_arguments("FleetView.set_host", record=(record, HostRolloutState))
        book = self._book(record.rollout_id)
        target = book.terms.targets.get(record.hostname)
        if target != record.target_closure:
            _refuse_target(book, record, target)
        before = book.hosts.get(record.hostname)
        if before is not None and counts_alike(before, record):
            # Most facts: a probe's result changes no count.
            book.hosts.set(record.hostname, record)
        else:
            self._change(book, record.hostname, lambda: book.hosts.set(record.hostname, record))

    def set_queued(
        self, rollout_id: RolloutId, hostname: str, queued: bool, since: datetime | None = None
    ) -> None:
        """Set whether a dispatch is in the queue for this host.

        since: from when its acknowledgement is awaited; `None`: no deadline runs.
        Raises: UnknownHost.
        """
        book = self._book(rollout_id)
        _require_host(book, hostname)
        if queued is not True and queued is not False:
            require_arguments("FleetView.set_queued", queued=(queued, bool))
        if since is not None:
            require_arguments("FleetView.set_queued", since=(since, datetime))
        if queued:
            self._change(book, hostname, lambda: book.queued.set(hostname, since))
        else:
            self._change(book, hostname, lambda: book.queued.discard(hostname))

    def set_outstanding(self, rollout_id: RolloutId, hostname: str, count: int) -> None:
        """Set how many enforce controls of this host fail by their latest result."""
        book = self._book(rollout_id)
        _require_host(book, hostname)
        require_arguments("FleetView.set_outstanding", count=(count, int))
        if problems := tuple(at_least("count", count, 0)):
            raise InvalidValue("FleetView.set_outstanding", problems)
        self._change(book, hostname, lambda: book.failing.set(hostname, count))

    # --- changes: beginnings under budgets ---------------------------------------------------------

    def note_beginning(self, budget: str, at: datetime) -> None:
        """A host was dispatched at `at` under a budget, given by name, that limits the beginnings in a minute."""
        require_arguments("FleetView.note_beginning", budget=(budget, str), at=(at, datetime))
        self._beginnings.add(budget, at)
        self._changes.budgets.add(budget)

    def return_slots(self, budget: str, begun_by: datetime) -> None:
        """The slots of the beginnings up to `begun_by` are free again."""
        require_arguments(
            "FleetView.return_slots", budget=(budget, str), begun_by=(begun_by, datetime)
        )
        if self._beginnings.remove(budget, begun_by):
            self._changes.budgets.add(budget)

    def give_slot_back(self, budget: str, at: datetime) -> bool:
        """A host that was dispatched at `at` did not begin. Return whether it still took a slot of the budget."""
        require_arguments("FleetView.give_slot_back", budget=(budget, str), at=(at, datetime))
        is_there = self._beginnings.remove_one(budget, at)
        if is_there:
            self._changes.budgets.add(budget)
        return is_there

    # --- changes: operators and quarantine ---------------------------------------------------------

    def hold(self, hold: Hold) -> None:
        """Begin a hold, in place of the one with its scope and source. Others stay."""
        require_arguments("FleetView.hold", hold=(hold, Hold))
        self._holds.put(hold)
        self._scope_changed(hold.scope)

    def release(self, scope: HoldScope, source: HoldSource) -> None:
        """End the hold of `source` on `scope`, if there is one. Others stay."""
        require_arguments(
            "FleetView.release", scope=(scope, HoldScope), source=(source, HoldSource)
        )
        self._holds.discard(scope, source)
        self._scope_changed(scope)

    def set_groups(self, channel: str, groups: Mapping[str, str]) -> None:
        """Set the group of each host of a channel, by which a calendar holds it; a host without one has none."""
        require_arguments("FleetView.set_groups", channel=(channel, str))
        before = self._groups.get(channel, _NO_GROUPS)
        if before == groups:
            return
        self._groups.set(channel, groups)
        moved = {host for host, _ in before.items() ^ groups.items()}
        for rollout_id, book in self._books.items():
            if book.terms.channel == channel:
                for hostname in moved & book.terms.targets.keys():
                    self.recheck_host(rollout_id, hostname)

    def quarantine_changed(self, channel: str, closure: str) -> None:
        """`closure` was quarantined on `channel`, or cleared: the next `replan` evaluates its hosts again."""
        require_arguments(
            "FleetView.quarantine_changed", channel=(channel, str), closure=(closure, str)
        )
        for rollout_id, book in self._books.items():
            if book.terms.channel == channel:
                for hostname in book.terms.hosts_of_closure(closure):
                    self.recheck_host(rollout_id, hostname)

    # --- reads -------------------------------------------------------------------------------------

    @property
    def rollouts(self) -> Mapping[RolloutId, RolloutRecord]:
        """The records by id, in no particular order."""
        return self._rollouts

    @property
    def open_rollouts(self) -> Collection[RolloutId]:
        """The rollouts that have terms and hosts: those that were opened and not pruned."""
        return self._books.keys()

    @property
    def offers(self) -> Mapping[str, RolloutTerms]:
        """The terms that the verified manifest of each channel names now, by channel."""
        return self._offers

    @property
    def seen(self) -> Mapping[str, ChannelSeen]:
        """What the logs of other shards say of their channels, by channel."""
        return self._seen

    @property
    def holds(self) -> HoldIndex:
        """The holds that are on."""
        return self._holds

    def group_of(self, channel: str, hostname: str) -> str | None:
        """Return the group of a host of `channel`; `None`: no calendar entry selects it, or all hosts alike."""
        return self._groups.get(channel, _NO_GROUPS).get(hostname)

    def holds_on(self, rollout_id: RolloutId, hostname: str) -> tuple[Hold, ...]:
        """Return the holds that keep a host from beginning: its own, then from the widest scope to the narrowest."""
        if not self._holds:
            return ()
        on, terms = self._holds.on, self.terms(rollout_id)
        wave, group = terms.wave_of.get(hostname), self.group_of(terms.channel, hostname)
        return (
            *self.holds_on_host(hostname),
            *on(_FLEET),
            *on(terms.channel),
            *(hold for hold in on(rollout_id) if hold.source.kind is not HoldKind.NOT_BEFORE),
            *(() if wave is None else on(str(WaveScope(rollout_id, wave)))),
            *(() if group is None else on(str(GroupScope(terms.channel, group)))),
        )

    def holds_on_host(self, hostname: str) -> tuple[Hold, ...]:
        """Return the holds whose scope is the host itself."""
        return self._holds.on(f"host:{hostname}") if self._holds else ()

    def held_not_before(self, rollout_id: RolloutId) -> Hold | None:
        """Return the hold on the waves that a rollout has reached, until the time at which they may begin."""
        holds = self._holds.on(rollout_id)
        return next((hold for hold in holds if hold.source.kind is HoldKind.NOT_BEFORE), None)

    def terms(self, rollout_id: RolloutId) -> RolloutTerms:
        """Return the terms of an open rollout."""
        return self._book(rollout_id).terms

    def rollout(self, rollout_id: RolloutId) -> RolloutRecord:
        """Return the record of a rollout."""
        try:
            return self._rollouts[rollout_id]
        except (KeyError, TypeError):
            raise UnknownRollout(rollout_id, self._rollouts) from None

    def rollouts_of(self, channel: str) -> tuple[RolloutRecord, ...]:
        """Return the records of one channel, by id."""
        found = (record for record in self._rollouts.values() if record.channel == channel)
        return tuple(sorted(found, key=lambda record: record.rollout_id))

    def lost_rollouts(self, channel: str) -> tuple[RolloutRecord, ...]:
        """Return the records of one channel that would be served, and have no terms any more: see `keep`."""
        records = self.rollouts_of(channel)
        return tuple(
            it for it in records if it.state.is_served and it.rollout_id not in self._books
        )

    def live_rollouts(self) -> list[RolloutId]:
        """Return the ids of the open rollouts that are live, in order."""
        return sorted(id_ for id_ in self._books if self._rollouts[id_].state.is_live)

    def served_rollouts(self) -> list[RolloutId]:
        """Return the ids of the open rollouts whose hosts are considered, in order: of a Terminal one the late ones."""
        return sorted(id_ for id_ in self._books if self._rollouts[id_].state.is_served)

    def host(self, rollout_id: RolloutId, hostname: str) -> HostRolloutState | None:
        """Return the record of a host; `None` when there is none, or no such rollout."""
        book = self._books.get(rollout_id)
        return None if book is None else book.hosts.get(hostname)

    def rollouts_with(self, hostname: str) -> list[RolloutId]:
        """Return the ids of the open rollouts that have a record of the host, in order. O(rollouts)."""
        return sorted(id_ for id_, book in self._books.items() if hostname in book.hosts)

    def hosts_of(self, rollout_id: RolloutId) -> Iterator[HostRolloutState]:
        """Yield the records of one rollout, by host name."""
        hosts = self._book(rollout_id).hosts
        return (hosts[name] for name in sorted(hosts))

    def is_waiting(self, rollout_id: RolloutId, hostname: str) -> bool:
        """Whether the host needs a dispatch and has none: its first one, or one for another attempt."""
        book = self._books.get(rollout_id)
        if book is None:
            return False
        record = self._rollouts[rollout_id]
        counts = book.counts(hostname, record)
        return counts.is_waiting and (record.state.is_live or counts.is_late)

    def is_served_late(self, rollout_id: RolloutId, hostname: str) -> bool:
        """Whether the host is served, and takes slots, after the rollout is Terminal too."""
        book = self._books.get(rollout_id)
        return book is not None and book.counts(hostname, self._rollouts[rollout_id]).is_late

    def is_idle(self, rollout_id: RolloutId, hostname: str) -> bool:
        """Whether the host needs a dispatch, queued or not: it is not acting."""
        book = self._books.get(rollout_id)
        if book is None:
            return False
        record = book.hosts.get(hostname)
        attempt = self._rollouts[rollout_id].attempt_of(hostname)
        return record is not None and needs_dispatch(record, attempt)

    def is_handed_out(self, rollout_id: RolloutId, hostname: str) -> bool:
        """Whether the host has a dispatch in the queue that it has not acknowledged."""
        book = self._books.get(rollout_id)
        return book is not None and (
            book.counts(hostname, self._rollouts[rollout_id]).is_handed_out
        )

    def is_queued(self, rollout_id: RolloutId, hostname: str) -> bool:
        """Whether a dispatch is in the queue for this host."""
        book = self._books.get(rollout_id)
        return book is not None and hostname in book.queued

    def queued_since(self, rollout_id: RolloutId, hostname: str) -> datetime | None:
        """Return from when the acknowledgement of a queued dispatch is awaited; `None`: from no time, or none is."""
        book = self._books.get(rollout_id)
        return None if book is None else book.queued.get(hostname)

    def unacknowledged_since(self, record: HostRolloutState) -> datetime | None:
        """Return since when the host has a dispatch in the queue that it has not acknowledged; `None`: it has none."""
        if not self.is_handed_out(record.rollout_id, record.hostname):
            return None
        return self.queued_since(record.rollout_id, record.hostname) or record.dispatched_at

    def queued_of(self, rollout_id: RolloutId) -> Iterator[str]:
        """Yield the hosts of one rollout that have a dispatch in the queue, by name."""
        book = self._books.get(rollout_id)
        return iter(()) if book is None else iter(sorted(book.queued))

    def require_host(self, hostname: str) -> None:
        """Return if an open rollout names the host. Raises: UnknownHost."""
        if not any(hostname in book.terms.targets for book in self._books.values()):
            known = {host for book in self._books.values() for host in book.terms.targets}
            raise UnknownHost(hostname, None, known)

    def in_flight(self, selector: Selector) -> int:
        """Return how many hosts are in flight under budgets with this selector, over live rollouts."""
        require_arguments("FleetView.in_flight", selector=(selector, Selector))
        return self.in_flight_of(summary(selector))

    def in_flight_of(self, budget: str) -> int:
        """As `in_flight`, by the budget's name."""
        return self._in_flight.get(budget, 0)

    def under_way_of(self, rollout_id: RolloutId, budget: str) -> int:
        """Return how many hosts of a rollout are in flight and not down, under a budget that has a ramp."""
        return self._book(rollout_id).under_way.get(budget, 0)

    def converged_of(self, rollout_id: RolloutId, budget: str) -> int:
        """Return how many hosts of a rollout are Converged, under a budget that has a ramp."""
        return self._book(rollout_id).converged.get(budget, 0)

    @property
    def beginnings(self) -> Beginnings:
        """The beginnings whose slots have not come back. Changed by `note_beginning` and `return_slots` alone."""
        return self._beginnings

    def counts_of(self, rollout_id: RolloutId, hostname: str) -> HostCounts:
        """Return how one host counts in the gates of an open rollout."""
        return self._book(rollout_id).counts(hostname, self._rollouts[rollout_id])

    def has_slots(self, rollout_id: RolloutId, hostname: str) -> bool:
        """Return whether the host takes slots of its budgets in an open rollout: it is in flight, or down."""
        book = self._book(rollout_id)
        record = book.hosts.get(hostname)
        if record is None or (record.state is HostState.PENDING and hostname not in book.queued):
            return False  # Nearly every host that a first plan looks at.
        return book.counts(hostname, self._rollouts[rollout_id]).is_in_flight

    def tally(self, rollout_id: RolloutId, wave: int | None = None) -> Tally:
        """Return the counts of one wave; `None`: of the whole rollout."""
        tallies = self._book(rollout_id).tallies
        return sum_of(tallies.values()) if wave is None else tallies.get(wave, NOBODY)

    def tally_of_wave(self, rollout_id: RolloutId, wave: int | None) -> Tally:
        """Return the counts of one wave; `None`: of the hosts that are in no wave."""
        return self._book(rollout_id).tallies.get(wave, NOBODY)

    def groups_of(self, rollout_id: RolloutId) -> Mapping[HostGroup, int]:
        """Return how many hosts of an open rollout have each state and standing, by wave. Counted as they change."""
        return self._book(rollout_id).groups

    def queue_length(self, rollout_id: RolloutId) -> int:
        """Return how many hosts of an open rollout have a dispatch in the queue."""
        return len(self._book(rollout_id).queued)

    def waves_of(self, rollout_id: RolloutId) -> Collection[int | None]:
        """Return the waves that have hosts; `None` among them, if hosts are in no wave."""
        return self._book(rollout_id).tallies.keys()

    def next_due(self) -> datetime | None:
        """Return when the time of a host comes next; `None`: no host has any."""
        return self._dues.first()

    def next_due_host(self) -> tuple[RolloutId, str, Due] | None:
        """As `next_due`, with whose time it is and what becomes due."""
        first = self._dues.first_entry()
        if first is None:
            return None
        rollout_id, hostname = first.rollout_id, first.hostname
        due = self._books[rollout_id].due_of(hostname, self._rollouts[rollout_id])
        return None if due is None else (rollout_id, hostname, due)

    def dues(self, now: datetime) -> Iterator[tuple[RolloutId, str, Due]]:
        """Yield the hosts whose time has come, with what is due for each."""
        for _, rollout_id, hostname in self._dues.until(now):
            due = self._books[rollout_id].due_of(hostname, self._rollouts[rollout_id])
            if due is not None and due.at <= now:
                yield rollout_id, hostname, due

    def overdue(self, now: datetime) -> Iterator[HostRolloutState]:
        """Yield the records of hosts that count and are past a deadline of which nothing follows. O(those hosts)."""
        for _, rollout_id, hostname in self._overdue.until(now):
            yield self._books[rollout_id].hosts[hostname]

    def tally_before(self, rollout_id: RolloutId, wave: int) -> Tally:
        """Return the counts of all waves before `wave`."""
        tallies = self._book(rollout_id).tallies
        return sum_of(tallies.get(earlier, NOBODY) for earlier in range(wave))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FleetView):
            return NotImplemented
        return self._data() == other._data()

    def _data(self) -> tuple[object, ...]:
        """The data of a view. Counts, lanes and changes are derived from it."""
        books = {
            rollout_id: (book.terms, book.hosts, set(book.queued), _without_zeros(book.failing))
            for rollout_id, book in self._books.items()
        }
        return (
            self._rollouts,
            books,
            self._offers,
            self._seen,
            self._holds,
            self._groups,
            self._beginnings.by_budget(),
        )

    def _book(self, rollout_id: RolloutId) -> RolloutBook:
        try:
            return self._books[rollout_id]
        except (KeyError, TypeError):
            raise UnknownRollout(rollout_id, self._books) from None

    # --- for `replan` ------------------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Whether anything changed since the last `take_changes`."""
        return self._changes.is_anything

    def take_changes(self) -> Changes:
        """Return the changes since the last call."""
        taken, self._changes = self._changes, Changes()
        self._undo.note(self._add_again, taken)
        return taken

    def _add_again(self, taken: Changes) -> None:
        self._changes.add_all(taken)

    def recheck_host(self, rollout_id: RolloutId, hostname: str) -> None:
        """Make the next `replan` evaluate this host again."""
        self._changes.add_host(rollout_id, hostname)

    def recheck_wave_gates(self, rollout_id: RolloutId) -> None:
        """Make the next `replan` evaluate the gates that depend on earlier waves again."""
        self._changes.earlier_waves.add(rollout_id)

    # --- how changes spread ------------------------------------------------------------------------

    def _change(self, book: RolloutBook, hostname: str, change: Callable[[], object]) -> None:
        record = self._rollouts[book.terms.rollout_id]
        before = book.counts(hostname, record)
        change()
        self._spread(record, book, hostname, before)

    def _spread(
        self, record: RolloutRecord, book: RolloutBook, hostname: str, before: HostCounts
    ) -> None:
        """Update counts and changes for a host that counted as `before`."""
        after = book.counts(hostname, record)
        if book.has_dues:
            self._set_due(record, book, hostname)
        if after == before:
            return
        rollout_id = record.rollout_id
        if after.state is not before.state or after.standing is not before.standing:
            book.regroup(hostname, before, after)
        if after.tally != before.tally:
            old, new = book.recount_wave(hostname, before.tally, after.tally)
            if _gates_otherwise(old, new) and book.terms.is_before_others(hostname):
                self.recheck_wave_gates(rollout_id)
        if (after.is_in_flight, after.is_late) != (before.is_in_flight, before.is_late):
            self._recount_in_flight(record, book, hostname, before, -1)
            self._recount_in_flight(record, book, hostname, after, 1)
        if book.terms.ramped:
            self._recount_ramps(book, hostname, before, after)
        if after.is_awaited is not before.is_awaited:
            for gated in book.terms.gated_hosts(hostname):
                self.recheck_host(rollout_id, gated)
        if _is_asked_otherwise(before, after):
            self.recheck_host(rollout_id, hostname)

    def _recount_in_flight(
        self,
        record: RolloutRecord,
        book: RolloutBook,
        hostname: str,
        counts: HostCounts,
        by: int,
    ) -> None:
        if counts.is_in_flight:
            takes = record.state.is_served if counts.is_late else record.state.is_live
            note = self._count_in_flight if takes else _ignore
            book.recount_in_flight(hostname, counts.is_late, by, note)

    def _recount_ramps(
        self, book: RolloutBook, hostname: str, before: HostCounts, after: HostCounts
    ) -> None:
        if (before.is_under_way, before.has_converged) == (after.is_under_way, after.has_converged):
            return
        for budget in book.terms.ramped_names_of(hostname):
            book.recount_ramp(budget, before, after)
            self._changes.budgets.add(budget)

    def _set_due(self, record: RolloutRecord, book: RolloutBook, hostname: str) -> None:
        due = book.due_of(hostname, record)
        host = record.rollout_id, hostname
        _set_time(book.due, self._dues, None if due is None else due.at, host)
        _set_time(book.overdue, self._overdue, book.overdue_from(hostname, record), host)

    def _is_due(self, due: DueHost) -> bool:
        book = self._books.get(due.rollout_id)
        return (
            book is not None
            and book.due.get(due.hostname) == due.at
            and self._rollouts[due.rollout_id].state.is_served
        )

    def _is_overdue(self, due: DueHost) -> bool:
        book = self._books.get(due.rollout_id)
        return (
            book is not None
            and book.overdue.get(due.hostname) == due.at
            and self._rollouts[due.rollout_id].state.is_live
        )

    def _recheck_served(
        self, before: RolloutRecord, after: RolloutRecord, book: RolloutBook
    ) -> None:
        """Evaluate hosts again if others are served now: after the end of a rollout only those that are late."""
        was_served = before.state.is_live, before.state.is_served
        if was_served == (after.state.is_live, after.state.is_served):
            return
        # The lanes have all that waited; of a rollout that is served again they have nobody.
        is_more = after.state.is_served and not before.state.is_live
        for hostname in book.hosts if is_more else self.lanes.hosts_of(after.rollout_id):
            self.recheck_host(after.rollout_id, hostname)

    def _shift(self, in_flight: Mapping[str, int], sign: int) -> None:
        for budget, count in in_flight.items():
            self._count_in_flight(budget, sign * count)

    def _count_in_flight(self, budget: str, by: int) -> None:
        self._in_flight.set(budget, self.in_flight_of(budget) + by)
        self._changes.budgets.add(budget)

    def _rollout_changed(self, record: RolloutRecord) -> None:
        self._changes.rollouts.add(record.rollout_id)
        self._channel_changed(record.channel)

    def _channel_changed(self, channel: str) -> None:
        """Note that the manifest or rollout of `channel` changed: rollouts may open, and waiting channels proceed."""
        self._changes.channels.add(channel)
        for rollout_id, book in self._books.items():
            if channel in book.terms.predecessors:
                self._changes.rollouts.add(rollout_id)

    def _scope_changed(self, scope: HoldScope) -> None:
        match scope:
            case FleetScope():
                self._changes.rollouts.update(self._books)
            case ChannelScope() | GroupScope():
                for rollout_id, book in self._books.items():
                    if book.terms.channel == scope.channel:
                        self._changes.rollouts.add(rollout_id)
            case RolloutScope() | WaveScope():
                if scope.rollout_id in self._books:
                    self._changes.rollouts.add(scope.rollout_id)
            case HostScope():
                for rollout_id, book in self._books.items():
                    if scope.hostname in book.terms.targets:
                        self.recheck_host(rollout_id, scope.hostname)
            case _:
                assert_never(scope)


def _is_asked_otherwise(before: HostCounts, after: HostCounts) -> bool:
    """Whether the host started or stopped waiting, or having a dispatch that can be withdrawn."""
    return (
        before.is_waiting is not after.is_waiting
        or before.is_handed_out is not after.is_handed_out
        or before.is_late is not after.is_late
    )


def _counted_otherwise(before: RolloutRecord, after: RolloutRecord) -> Set[str]:
    """Return the hosts whose standing, number of attempts or drift differs."""
    hosts = set[str]()
    if before.standings is not after.standings:
        hosts.update(host for host, _ in before.standings.items() ^ after.standings.items())
    if before.attempts is not after.attempts:
        hosts.update(host for host, _ in before.attempts.items() ^ after.attempts.items())
    if before.drifted is not after.drifted:
        hosts.update(host for host, _ in before.drifted.items() ^ after.drifted.items())
    return hosts


def _is_planned_otherwise(before: RolloutRecord, after: RolloutRecord) -> bool:
    # From when guards are asked decides nothing; that they are asked is in the reason of the hosts of the next wave.
    return (before.state, before.current_wave, before.guarded_since is None) != (
        after.state,
        after.current_wave,
        after.guarded_since is None,
    )


def _gates_otherwise(before: Tally, after: Tally) -> bool:
    """Whether the result of a gate that depends on earlier waves may differ."""
    return (before.failing > 0) is not (after.failing > 0) or (
        (before.undeclared > 0) is not (after.undeclared > 0)
    )


def _require_host(book: RolloutBook, hostname: str) -> None:
    require_arguments("FleetView", hostname=(hostname, str))
    if hostname not in book.terms.targets:
        raise UnknownHost(hostname, book.terms.rollout_id, book.terms.targets)


def _refuse_target(book: RolloutBook, record: HostRolloutState, target: str | None) -> None:
    _require_host(book, record.hostname)
    problem = ValueProblem(
        "record.target_closure",
        f"{target!r}, as the terms of {record.rollout_id} have it",
        repr(record.target_closure),
    )
    raise InvalidValue("FleetView.set_host", (problem,))


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _set_time(
    times: UndoableDict[str, datetime],
    heap: TimeHeap[DueHost],
    at: datetime | None,
    host: tuple[RolloutId, str],
) -> None:
    rollout_id, hostname = host
    if at is None:
        times.discard(hostname)
    elif times.get(hostname) != at:
        times.set(hostname, at)
        heap.add(DueHost(at, rollout_id, hostname))


def _ignore(budget: str, by: int) -> None:
    """Do nothing: a rollout that is not live takes no slots."""
