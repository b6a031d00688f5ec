"""How rollouts stand: everything that a screen shows of one, from the counts that are kept. O(waves), never O(hosts).

Source: docs/spec/overview.md.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from nixfleet_control_plane.engine.guard_verdicts import guarded_rollout
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.overview.comes_next import coming_edges
from nixfleet_control_plane.overview.guards import listed_guards
from nixfleet_control_plane.overview.headline import Progress, course_of, headline_of
from nixfleet_control_plane.overview.needs import (
    Asked,
    lost_need,
    overdue_by_rollout,
    rollout_needs,
)
from nixfleet_control_plane.overview.risk import risk_of
from nixfleet_control_plane.overview.tallies import done_hosts, grouped_in_all, in_flight
from nixfleet_control_plane.overview.waits import GROUPS_MAX, waiting_hosts
from nixfleet_control_plane.overview.waves import overview_waves
from nixfleet_control_plane.overview.words import percent_of
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.overview import Course, RolloutOverview
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.rollout_status import wave_statuses
from nixfleet_state_machine.rollout.state import RolloutRecord

_NOTHING: Final = FrozenMap[str, int]()


def rollout_overviews(
    state: State,
    zones: Zones,
    now: datetime,
    stale_at: Mapping[RolloutId, datetime],
    rollout_id: RolloutId | None = None,
) -> tuple[RolloutOverview, ...]:
    """Return how the rollouts stand that are served, or lost, by id; or the one with this id, if it is not pruned.

    stale_at: until when hosts accept each that is in force.
    """
    asked = Asked(now, stale_at, overdue_by_rollout(state, now))
    view = state.view
    if rollout_id is None:
        wanted = sorted({*view.served_rollouts(), *state.lost})
    else:
        wanted = [it for it in (rollout_id,) if it in view.open_rollouts or it in state.lost]
    return tuple(
        _lost(view.rollout(each), state.lost[each])
        if each in state.lost
        else _rollout(state, zones, each, asked)
        for each in wanted
    )


def _rollout(state: State, zones: Zones, rollout_id: RolloutId, asked: Asked) -> RolloutOverview:
    view = state.view
    record, terms = view.rollout(rollout_id), view.terms(rollout_id)
    manifest, statuses = state.manifests[rollout_id].manifest, wave_statuses(view, rollout_id)
    total = sum(wave.total for wave in statuses)
    failed = sum(wave.failed for wave in statuses)
    converged = sum(wave.converged for wave in statuses)
    groups = waiting_hosts(state, rollout_id)
    waiting, shown = sum(group.hosts for group in groups), groups[:GROUPS_MAX]
    progress = Progress(
        rollout_id,
        record.state,
        total,
        converged,
        failed,
        in_flight(view, rollout_id),
        waiting,
        groups,
        listed_guards(guarded_rollout(state, rollout_id)),
        is_tolerated=all(wave.failed <= wave.allowed for wave in statuses),
    )
    course, parts = course_of(progress), grouped_in_all(view, rollout_id)
    waves = overview_waves(state, rollout_id, statuses, asked.now)
    offered = view.offers.get(record.channel)
    stale_at = asked.stale_at.get(rollout_id)
    return RolloutOverview(
        rollout_id=rollout_id,
        channel=record.channel,
        channel_ref=record.target_ref,
        headline=headline_of(progress, course),
        course=course,
        state=record.state,
        is_in_force=offered is not None and offered.rollout_id == rollout_id,
        opened_at=record.opened_at,
        percent=percent_of(done_hosts(statuses), total),
        hosts=len(terms.targets),
        total=total,
        converged=converged,
        failed=failed,
        waiting=waiting,
        more_waiting=waiting - sum(group.hosts for group in shown),
        current_wave=record.current_wave,
        closures=len(terms.closures),
        states=parts.states,
        standings=parts.standings,
        waves=waves,
        needs_you=rollout_needs(state, rollout_id, statuses, manifest.meta.signed_at, asked),
        waits=shown,
        next=coming_edges(state, zones, rollout_id, waves, stale_at, asked.now),
        risk=risk_of(state, rollout_id, statuses),
        on_failure=manifest.rollout_policy.on_health_failure,
        author=manifest.meta.author,
        ci_commit=manifest.meta.ci_commit,
        signed_at=manifest.meta.signed_at,
        stale_at=stale_at,
        terminal_at=record.terminal_at,
        closure=next(iter(terms.closures)) if len(terms.closures) == 1 else None,
    )


def _lost(record: RolloutRecord, why: str) -> RolloutOverview:
    """A rollout whose manifest the store does not have: its record is all that is known."""
    return RolloutOverview(
        rollout_id=record.rollout_id,
        channel=record.channel,
        channel_ref=record.target_ref,
        headline=f"{record.rollout_id} is {Course.LOST}: {why}.",
        course=Course.LOST,
        state=record.state,
        is_in_force=False,
        opened_at=record.opened_at,
        percent=0,
        hosts=0,
        total=0,
        converged=0,
        failed=0,
        waiting=0,
        more_waiting=0,
        current_wave=record.current_wave,
        closures=0,
        states=_NOTHING,
        standings=_NOTHING,
        waves=(),
        needs_you=(lost_need(record.rollout_id, why),),
        waits=(),
        next=(),
    )
