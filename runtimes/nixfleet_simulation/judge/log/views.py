"""The derived views, from the writes to the store. Tables are dicts here; `view_differences` compares them."""

from collections.abc import Set
from datetime import datetime
from typing import assert_never

from nixfleet_control_plane.messages.writes import (
    CacheWrite,
    ClearProbeFailure,
    OpenProbeFailure,
    PutArtefact,
    PutBeginning,
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
    PutWarrant,
    RemoveArtefact,
    RemoveBeginning,
    RemoveBeginnings,
    RemoveDeferral,
    RemoveDispatch,
    RemoveHold,
    RemoveHostRecords,
    RemoveRefusedEvents,
    RemoveRevocations,
    RemoveUsedNonce,
    RemoveWarrants,
    RetireQuarantineRow,
    SetRecordsThrough,
    ViewWrite,
)
from nixfleet_simulation.judge.model.host_model import Control


class StoredViews:
    """The contents of the tables. Keys of host rows: (rollout id, host)."""

    def __init__(self) -> None:
        self.rollouts: dict[str, tuple[str, int, dict[str, str], dict[str, int]]] = {}
        self.dispatches: set[tuple[str, str]] = set()
        self.deferrals: dict[tuple[str, str], str] = {}
        self.quarantined: dict[str, set[str]] = {}
        self.beginnings: set[tuple[str, int, datetime]] = set()
        self.holds: set[tuple[str, str]] = set()
        self.warrants: dict[str, str] = {}
        self.failures: dict[tuple[int, Control], tuple[str, str]] = {}
        self._touched: set[str] = set()
        self.latest_seq = 0

    def apply(self, write: ViewWrite | CacheWrite) -> None:
        """Apply `write`."""
        self._touched.add(type(write).__name__)
        match write:
            case PutRollout():
                record = write.record
                self.rollouts[record.rollout_id] = (
                    record.state.value,
                    record.current_wave,
                    {host: standing.value for host, standing in record.standings.items()},
                    dict(record.attempts),
                )
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
            case PutBeginning():
                self.beginnings.add((write.budget, write.event_log_seq, write.began_at))
                self._came_from(write.event_log_seq)
            case RemoveBeginnings():
                self.beginnings = {
                    each
                    for each in self.beginnings
                    if each[0] != write.budget or each[2] > write.begun_by
                }
            case RemoveBeginning():
                at_once = [
                    it for it in self.beginnings if it[::2] == (write.budget, write.began_at)
                ]
                self.beginnings.discard(min(at_once))
            case PutHold():
                self.holds.add((str(write.hold.scope), str(write.hold.source)))
                self._came_from(write.event_log_seq)
            case RemoveHold():
                self.holds.discard((str(write.scope), str(write.source)))
            case PutWarrant():
                self.warrants[write.order_id] = write.rollout_id
                self._came_from(write.event_log_seq)
            case RemoveWarrants():
                kept = {k: v for k, v in self.warrants.items() if v != write.rollout_id}
                self.warrants = kept
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
        self.latest_seq = max(self.latest_seq, seq)

    def take_touched(self) -> Set[str]:
        """Return the names of the writes applied since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def failing(self) -> set[tuple[str, str, Control]]:
        """Return the failing controls of each host, from the stored rows."""
        return {(*host, control) for (_, control), host in self.failures.items()}
