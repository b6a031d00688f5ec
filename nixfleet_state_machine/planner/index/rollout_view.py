"""One rollout's hosts as the view keeps them: records, queue, and counts.

Only `FleetView` modifies a book, because it knows what else a modification affects.
"""

from collections import Counter
from collections.abc import Callable, Set
from functools import lru_cache
from typing import NamedTuple

from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.index.tally import NOBODY, Tally, absent, tally_of
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.undo import UndoableDict, UndoableSet, UndoLog


class HostCounts(NamedTuple):
    """The properties of a host that decisions about it or about other hosts depend on.

    is_awaited: hosts at the far ends of its edges wait for it.
    """

    tally: Tally
    is_unacknowledged: bool
    is_handed_out: bool
    is_in_flight: bool
    is_awaited: bool


class RolloutBook:
    """Records by host name; queue; counts by wave (`None`: in no wave) and by budget name."""

    __slots__ = ("failing", "hosts", "in_flight", "queued", "tallies", "terms")

    def __init__(self, terms: RolloutTerms, excused: Set[str], undo: UndoLog) -> None:
        self.terms: RolloutTerms = terms
        self.hosts: UndoableDict[str, HostRolloutState] = UndoableDict[str, HostRolloutState](undo)
        self.queued: UndoableSet[str] = UndoableSet[str](undo)
        self.failing: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.in_flight: UndoableDict[str, int] = UndoableDict[str, int](undo)
        self.tallies: UndoableDict[int | None, Tally] = UndoableDict[int | None, Tally](undo)
        counted = Counter(terms.wave_of.get(host) for host in terms.targets if host not in excused)
        for wave, count in counted.items():
            self.tallies.set(wave, absent(count))

    def is_waiting(self, hostname: str) -> bool:
        """Whether the host is Pending, unacknowledged and not queued."""
        return _is_unacknowledged(self.hosts.get(hostname)) and hostname not in self.queued

    def is_handed_out(self, hostname: str) -> bool:
        """Whether the host has a dispatch in the queue that it has not acknowledged."""
        return _is_unacknowledged(self.hosts.get(hostname)) and hostname in self.queued

    def figures(self, hostname: str, excused: Set[str]) -> HostCounts:
        """Return how `hostname` counts now."""
        record = self.hosts.get(hostname)
        return _figures(
            None if record is None else record.state,
            record is not None and record.dispatch_acked_at is not None,
            record is not None and record.declared_probes is not None,
            hostname in self.queued,
            hostname in self.terms.targets,
            hostname in excused,
            self.failing.get(hostname, 0),
        )

    def recount_wave(self, hostname: str, before: Tally, after: Tally) -> tuple[Tally, Tally]:
        """Count the host in its wave as `after` instead of `before`; return the wave's tally, old and new."""
        wave = self.terms.wave_of.get(hostname)
        old = self.tallies.get(wave, NOBODY)
        new = old.replaced(before, after)
        self.tallies.set(wave, new)
        return old, new

    def recount_in_flight(self, hostname: str, by: int, note: Callable[[str, int], object]) -> None:
        """Count one host more or less in flight, and `note` it for each of its budgets."""
        for name in self.terms.budget_names_of(hostname):
            self.in_flight.set(name, self.in_flight.get(name, 0) + by)
            note(name, by)


def _counted(
    state: HostState | None,
    is_acknowledged: bool,
    is_declared: bool,
    is_queued: bool,
    is_target: bool,
    is_excused: bool,
    failing: int,
) -> HostCounts:
    """Return how a host with these properties counts; `state` is `None` while it has no record."""
    is_counted = is_target and not is_excused
    tally = tally_of(state, is_declared, failing) if is_counted else NOBODY
    if state is None:
        return HostCounts(tally, False, False, False, not is_excused)
    is_unacknowledged = state is HostState.PENDING and not is_acknowledged
    is_handed_out = is_unacknowledged and is_queued
    return HostCounts(
        tally=tally,
        is_unacknowledged=is_unacknowledged,
        is_handed_out=is_handed_out,
        is_in_flight=is_handed_out or state.is_in_flight,
        is_awaited=not (is_excused or state.is_ordering_eligible),
    )


# Called twice for each host that changes, with few different arguments: so results are cached.
_figures = lru_cache(maxsize=1024)(_counted)


def counts_alike(before: HostRolloutState, after: HostRolloutState) -> bool:
    """Whether two records of one host have the same `HostCounts`."""
    return (
        before.state is after.state
        and (before.declared_probes is None) is (after.declared_probes is None)
        and (before.dispatch_acked_at is None) is (after.dispatch_acked_at is None)
    )


def _is_unacknowledged(record: HostRolloutState | None) -> bool:
    if record is None:
        return False
    return record.state is HostState.PENDING and record.dispatch_acked_at is None
