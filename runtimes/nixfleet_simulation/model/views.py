"""The derived views as the store was asked to keep them, to be compared with what the log says they must be.

Tables are dicts here. Only what a commit touched is compared after it.
"""

from collections.abc import Set
from typing import TYPE_CHECKING, assert_never

from nixfleet_control_plane.messages.writes import (
    CacheWrite,
    ClearProbeFailure,
    OpenProbeFailure,
    PutArtefact,
    PutDeferral,
    PutDispatch,
    PutEnrolledHost,
    PutHold,
    PutHostRecord,
    PutQuarantine,
    PutRefusedEvent,
    PutRevocation,
    PutRollout,
    PutUsedNonce,
    RemoveArtefact,
    RemoveDeferral,
    RemoveDispatch,
    RemoveHold,
    RemoveHostRecords,
    RemoveRefusedEvents,
    RemoveRevocations,
    RemoveUsedNonce,
    RetireQuarantineRow,
    SetRecordsThrough,
    ViewWrite,
)
from nixfleet_simulation.model.host_course import Control

if TYPE_CHECKING:
    from nixfleet_simulation.model.ledger import Ledger


class StoredViews:
    """What the tables hold. Keys of host rows: (rollout id, host)."""

    def __init__(self) -> None:
        self.rollouts: dict[str, tuple[str, int, frozenset[str]]] = {}
        self.dispatches: set[tuple[str, str]] = set()
        self.deferrals: dict[tuple[str, str], str] = {}
        self.quarantined: dict[str, set[str]] = {}
        self.holds: set[str] = set()
        self.failures: dict[tuple[int, Control], tuple[str, str]] = {}
        self._touched: set[str] = set()
        self._latest_seq = 0

    def apply(self, write: ViewWrite | CacheWrite) -> None:
        """Keep `write`."""
        self._touched.add(type(write).__name__)
        match write:
            case PutRollout():
                record = write.record
                place = record.state.value, record.current_wave, record.excused_hosts
                self.rollouts[record.rollout_id] = place
            case OpenProbeFailure():
                control = write.probe_name, write.control_id, write.framework
                self.failures[write.event_log_seq, control] = write.rollout_id, write.host_id
                self._came_from(write.event_log_seq)
            case ClearProbeFailure():
                control = write.probe_name, write.control_id, write.framework
                self.failures.pop((write.event_log_seq, control), None)
            case PutQuarantine():
                self.quarantined.setdefault(write.channel, set()).add(write.closure)
                self._came_from(write.triggering_event_log_seq)
            case RetireQuarantineRow():
                self.quarantined.setdefault(write.channel, set()).discard(write.closure)
            case PutDispatch():
                self.dispatches.add((write.dispatch.rollout_id, write.dispatch.hostname))
                self._came_from(write.event_log_seq)
            case RemoveDispatch():
                self.dispatches.discard((write.rollout_id, write.hostname))
            case PutDeferral():
                key = write.deferral.rollout_id, write.deferral.host
                self.deferrals[key] = write.deferral.gate.value
                self._came_from(write.event_log_seq)
            case RemoveDeferral():
                self.deferrals.pop((write.rollout_id, write.host), None)
            case PutHold():
                self.holds.add(write.scope)
                self._came_from(write.event_log_seq)
            case RemoveHold():
                self.holds.discard(write.scope)
            case PutArtefact() | RemoveArtefact():
                pass
            case PutRefusedEvent() | RemoveRefusedEvents():
                pass
            case (
                PutEnrolledHost()
                | PutUsedNonce()
                | RemoveUsedNonce()
                | PutRevocation()
                | RemoveRevocations()
            ):
                pass
            case PutHostRecord() | SetRecordsThrough() | RemoveHostRecords():
                pass
            case _:
                assert_never(write)

    def _came_from(self, seq: int) -> None:
        self._latest_seq = max(self._latest_seq, seq)

    def differing(self, ledger: "Ledger") -> str | None:
        """Return the first difference from what the log says, in the tables that were touched."""
        touched, self._touched = self._touched, set()
        if self._latest_seq > ledger.head:
            return f"a view came from row {self._latest_seq}, and the log ends at {ledger.head}"
        for rollout_id in self.rollouts if "PutRollout" in touched else ():
            problem = self._rollout_differs(ledger, rollout_id)
            if problem is not None:
                return problem
        if not touched.isdisjoint(_OF_DISPATCHES) and self.dispatches != _queued(ledger):
            return _difference("dispatch_queue", _queued(ledger), self.dispatches)
        if not touched.isdisjoint(_OF_DEFERRALS) and self.deferrals != ledger.deferred:
            expected, found = set(ledger.deferred.items()), set(self.deferrals.items())
            return _difference("deferrals", expected, found)
        if not touched.isdisjoint(_OF_FAILURES) and self.failing() != _failing(ledger):
            return _difference("probe_failures", _failing(ledger), self.failing())
        return self._scopes_differ(ledger)

    def _rollout_differs(self, ledger: "Ledger", rollout_id: str) -> str | None:
        course = ledger.rollouts.get(rollout_id)
        if course is None:
            return f"rollouts has {rollout_id}, which never opened"
        expected = course.due.state, course.due.wave, frozenset(course.excused)
        found = self.rollouts[rollout_id]
        if expected != found:
            return f"rollouts has {rollout_id} as {found}, and it is {expected}"
        return None

    def _scopes_differ(self, ledger: "Ledger") -> str | None:
        if self.holds != ledger.gates.holds:
            return _difference("operator_holds", ledger.gates.holds, self.holds)
        for channel, closures in ledger.gates.quarantined.items():
            stored = self.quarantined.get(channel, set())
            if stored != closures:
                return _difference(f"quarantined_closures of {channel}", closures, stored)
        return None

    def failing(self) -> set[tuple[str, str, Control]]:
        """Return who has which control failing, by the stored rows."""
        return {(*host, control) for (_, control), host in self.failures.items()}


_OF_DISPATCHES = frozenset({"PutDispatch", "RemoveDispatch"})
_OF_DEFERRALS = frozenset({"PutDeferral", "RemoveDeferral"})
_OF_FAILURES = frozenset({"OpenProbeFailure", "ClearProbeFailure"})


def _queued(ledger: "Ledger") -> set[tuple[str, str]]:
    return {
        (rollout_id, host)
        for rollout_id, rollout in ledger.rollouts.items()
        for host, course in rollout.hosts.items()
        if course.is_queued
    }


def _failing(ledger: "Ledger") -> set[tuple[str, str, Control]]:
    return {
        (rollout_id, host, control)
        for rollout_id, rollout in ledger.rollouts.items()
        for host, course in rollout.hosts.items()
        for control in course.failing
    }


def _difference(table: str, expected: Set[object], found: Set[object]) -> str:
    missing, extra = sorted(map(repr, expected - found)), sorted(map(repr, found - expected))
    return f"{table} lacks {missing} and has {extra} too many"
