"""One rollout's hosts as the view keeps them: records, queue, and counts.

Only `FleetView` modifies a book, because it knows what else a modification affects.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.deadlines import (
    Due,
    due_of,
    has_dues,
    unfollowed_deadline_of,
)
from nixfleet_state_machine.planner.index.tally import NOBODY, Tally, tally_of
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_state_machine.undo import UndoableDict, UndoLog


class HostGroup(NamedTuple):
    """Hosts of a rollout that are shown together. wave: `None`: those in no wave."""

    wave: int | None
    state: HostState
    standing: Standing


class HostCounts(NamedTuple):
    """The properties of a host that decisions about it or about other hosts depend on, and those it is shown by.

    state: `None` while it has no record. is_waiting: it needs a dispatch, and none is queued. is_late: it is served
    and takes slots after its rollout is Terminal too.
    is_awaited: hosts at the far ends of its edges wait for it. is_under_way: it is in flight, and not down.
    has_converged: it is Converged, whatever its standing.
    """

    tally: Tally
    is_waiting: bool
    is_handed_out: bool
    is_in_flight: bool
    is_late: bool
    is_awaited: bool
    is_under_way: bool = False
    has_converged: bool = False
    state: HostState | None = None
    standing: Standing = Standing.COUNTED


class RolloutBook:
    """Records by host name; queue, with the time since when; counts by wave (`None`: in no wave) and by budget name.

    late_in_flight: the same for hosts that take slots after the rollout is Terminal too. under_way, converged: by the
    names of budgets that have a ramp. due: by host, when its time comes. overdue: by host, when its stage ends, if
    nothing follows from that. groups: how many hosts have a record, by wave, state and standing.
    """

    __slots__ = (
        "converged",
        "due",
        "failing",
        "groups",
        "has_dues",
        "hosts",
        "in_flight",
        "late_in_flight",
        "overdue",
        "queued",
        "tallies",
        "terms",
        "under_way",
    )

    def __init__(self, terms: RolloutTerms, record: RolloutRecord, undo: UndoLog) -> None:
        self.terms: RolloutTerms = terms
        self.has_dues: bool = has_dues(terms)
        self.hosts: UndoableDict[str, HostRolloutState] = UndoableDict[str, HostRolloutState](undo)
        self.queued: UndoableDict[str, datetime | None] = UndoableDict[str, datetime | None](undo)
        self.failing: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.in_flight: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.late_in_flight: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.under_way: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.converged: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.tallies: UndoableDict[int | None, Tally] = UndoableDict[int | None, Tally](undo)
        self.due: UndoableDict[str, datetime] = UndoableDict[str, datetime](undo)
        self.overdue: UndoableDict[str, datetime] = UndoableDict[str, datetime](undo)
        self.groups: UndoableDict[HostGroup, int] = UndoableDict[HostGroup, int](undo)
        unheard_of = Counter(
            (terms.wave_of.get(host), record.standing_of(host)) for host in terms.targets
        )
        for (wave, standing), count in unheard_of.items():
            one = _unheard(standing)
            tally = self.tallies.get(wave, NOBODY)
            self.tallies.set(
                wave, Tally(*(old + count * new for old, new in zip(tally, one, strict=True)))
            )

    def counts(self, hostname: str, rollout: RolloutRecord) -> HostCounts:
        """Return how `hostname` counts now."""
        record, attempt = self.hosts.get(hostname), rollout.attempt_of(hostname)
        return _counts(
            None if record is None else record.state,
            record is not None and needs_dispatch(record, attempt),
            attempt > 1,
            record is not None and record.declared_probes is not None,
            record is not None and record.has_failed,
            hostname in self.queued,
            hostname in self.terms.targets,
            self.terms.is_tolerant_of(hostname),
            rollout.standing_of(hostname),
            self.failing.get(hostname, 0),
        )

    def due_of(self, hostname: str, rollout: RolloutRecord) -> Due | None:
        """Return what becomes due for `hostname` if nothing happens to it before."""
        record = self.hosts.get(hostname)
        if record is None or not self.has_dues or not rollout.state.is_served:
            return None
        return due_of(self.terms, rollout, record, self._awaited_since(record, rollout))

    def overdue_from(self, hostname: str, rollout: RolloutRecord) -> datetime | None:
        """Return from when `hostname` is overdue, if nothing happens to it before and nothing follows from it."""
        record = self.hosts.get(hostname)
        if record is None or not self.has_dues or not rollout.state.is_live:
            return None
        since = self._awaited_since(record, rollout)
        return unfollowed_deadline_of(self.terms, rollout, record, since)

    def _awaited_since(self, record: HostRolloutState, rollout: RolloutRecord) -> datetime | None:
        """Return since when the acknowledgement of a queued dispatch is awaited; `None`: it is not."""
        is_asked = needs_dispatch(record, rollout.attempt_of(record.hostname))
        return self.queued.get(record.hostname) if is_asked else None

    def recount_wave(self, hostname: str, before: Tally, after: Tally) -> tuple[Tally, Tally]:
        """Count the host in its wave as `after` instead of `before`; return the wave's tally, old and new."""
        wave = self.terms.wave_of.get(hostname)
        old = self.tallies.get(wave, NOBODY)
        new = old.replaced(before, after)
        self.tallies.set(wave, new)
        return old, new

    def regroup(self, hostname: str, before: HostCounts, after: HostCounts) -> None:
        """Count the host by its state and standing in `after` instead of those in `before`."""
        wave = self.terms.wave_of.get(hostname)
        for counts, by in ((before, -1), (after, 1)):
            if counts.state is not None:
                group = HostGroup(wave, counts.state, counts.standing)
                self.groups.set(group, self.groups.get(group, 0) + by)

    def recount_in_flight(
        self, hostname: str, is_late: bool, by: int, note: Callable[[str, int], object]
    ) -> None:
        """Count one host more or less in flight, and `note` it for each of its budgets."""
        in_flight = self.late_in_flight if is_late else self.in_flight
        for name in self.terms.budget_names_of(hostname):
            in_flight.set(name, in_flight.get(name, 0) + by)
            note(name, by)

    def recount_ramp(self, budget: str, before: HostCounts, after: HostCounts) -> None:
        """Count the host under way and converged as `after` instead of `before`, for one of its budgets."""
        under_way = after.is_under_way - before.is_under_way
        self.under_way.set(budget, self.under_way.get(budget, 0) + under_way)
        converged = after.has_converged - before.has_converged
        self.converged.set(budget, self.converged.get(budget, 0) + converged)


def _counted(
    state: HostState | None,
    needs_dispatch: bool,
    is_tried_again: bool,
    is_declared: bool,
    has_failed: bool,
    is_queued: bool,
    is_target: bool,
    is_tolerant: bool,
    standing: Standing,
    failing: int,
) -> HostCounts:
    """Return how a host with these properties counts; `state` is `None` while it has no record.

    is_tried_again: a further attempt was ordered, made or not.
    """
    tally = NOBODY
    if is_target:
        tally = tally_of(state, is_declared, failing, has_failed, is_tolerant, standing)
    # Of a Terminal rollout one that counts is still at work only if it failed, or was told to try again.
    is_at_work = is_tried_again or (has_failed and is_tolerant)
    is_late = standing.is_served_late or (standing is Standing.COUNTED and is_at_work)
    is_out = standing is Standing.EXCUSED or standing is Standing.LEFT
    if state is None:
        return HostCounts(tally, False, False, False, is_late, not is_out, standing=standing)
    is_handed_out = needs_dispatch and is_queued
    # Where hosts may fail, one that did is down until it is back: it keeps its slot.
    is_down = is_tolerant and state is HostState.FAILED and not is_out
    is_under_way = (is_handed_out or state.is_in_flight) and not standing.is_silent
    return HostCounts(
        tally=tally,
        is_waiting=needs_dispatch
        and not is_queued
        and not standing.is_silent
        and standing is not Standing.LEFT,
        is_handed_out=is_handed_out,
        is_in_flight=is_under_way or (is_down and not standing.is_silent),
        is_late=is_late,
        is_awaited=not (is_out or state.is_ordering_eligible),
        is_under_way=is_under_way,
        has_converged=state is HostState.CONVERGED,
        state=state,
        standing=standing,
    )


# Called twice for each host that changes, with few different arguments: so results are cached.
_counts = lru_cache(maxsize=1024)(_counted)


def counts_alike(before: HostRolloutState, after: HostRolloutState) -> bool:
    """Whether two records of one host have the same `HostCounts` and the same due."""
    return (
        before.state is after.state
        and before.attempt == after.attempt
        and (before.declared_probes is None) is (after.declared_probes is None)
        and (before.dispatch_acked_at is None) is (after.dispatch_acked_at is None)
    )


def needs_dispatch(record: HostRolloutState, attempt: int) -> bool:
    """Return whether the host has not acknowledged the last attempt that it may make."""
    if record.state is HostState.PENDING:
        return record.dispatch_acked_at is None
    return attempt > record.attempt and record.may_try_again


def _unheard(standing: Standing) -> Tally:
    return tally_of(None, False, 0, False, False, standing)
