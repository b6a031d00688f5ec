"""The fleet as it was at a row of its log: the log replayed up to it, and shown as the control plane shows it.

Source: docs/spec/studies.md, The fleet of the past.
"""

from datetime import datetime

from nixfleet_control_plane.engine.in_force import in_force, stale_at
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.entry_codec import time_of
from nixfleet_control_plane.overview.host_map import columns, shown_map
from nixfleet_control_plane.overview.needs import FleetNotices, fleet_needs
from nixfleet_control_plane.overview.rollouts import rollout_overviews
from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_forecast.studies.refusal import StudyRefused
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http.host_pages import HostMap
from nixfleet_runtime.http.overview import Asker, FleetCounts, Overview
from nixfleet_runtime.http.studies import Past
from nixfleet_state_machine.planner.holds.calendar import Zones

SOMEBODY = Asker("", OperatorRole.READ)
"""Who asks is not known here: the control plane says so."""


def past_at(log: StoredLog, seq: int, zones: Zones) -> Past:
    """Return the fleet as of row `seq`. Raises: StudyRefused, DamagedRow."""
    start, head = log.ask(lambda it: it.log_start()), log.ask(lambda it: it.head())
    if not start.first_seq <= seq <= head:
        raise StudyRefused(f"expected a row from {start.first_seq} to {head}, found {seq}")
    replay, at = Replay(start), None
    for row in log.rows(start.first_seq - 1):
        for _ in replay.take(row):
            pass
        if row.seq == seq:
            at = time_of(row.ts)
            break
    assert at is not None, f"the log has no row {seq}, but a last row {head}"
    state = replay.state
    return Past(seq, at, head, _overview(state, zones, seq, at), tuple(_maps(state, seq)))


def _overview(state: State, zones: Zones, seq: int, at: datetime) -> Overview:
    # The freshness limit of the control plane's configuration is not in its log.
    accepted = {it.rollout_id: stale_at(it, None) for it in in_force(state)}
    return Overview(
        head=seq,
        now=at,
        you=SOMEBODY,
        fleet=FleetCounts(
            enrolled=len(state.identities.ring.enrolled), silent=0, refusing=0, knocking=0
        ),
        needs_you=fleet_needs(state, FleetNotices(), at),
        rollouts=rollout_overviews(state, zones, at, accepted),
        head_at=at,
    )


def _maps(state: State, seq: int) -> list[HostMap]:
    served = (it for it in sorted(state.view.served_rollouts()) if it in state.manifests)
    return [
        shown_map(
            state.manifests[it], seq, *columns(state.view, it, state.view.terms(it).hosts_in_order)
        )
        for it in served
    ]
