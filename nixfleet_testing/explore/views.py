"""A fresh view of what the control plane knows, as after a start: made of records alone, with no history."""

from typing import Final

from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import RolloutScope
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import Drift, Standing
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.course.course import outstanding
from nixfleet_testing.explore.bounds import (
    BUDGET,
    BY_HAND,
    CHANNEL,
    DISPATCHED_AT,
    LIVED_AT,
    Bounds,
)
from nixfleet_testing.explore.world import ControlPlane
from nixfleet_testing.pauses import pause

_NOT_BEFORE: Final = HoldSource(HoldKind.NOT_BEFORE)


def view_of(bounds: Bounds, control_plane: ControlPlane, undo: UndoLog) -> FleetView:
    """Return the view, whose changes `undo` can take back."""
    view = FleetView(undo)
    if control_plane.rollouts:
        view.offer(terms_of(bounds, control_plane, len(control_plane.rollouts) - 1))
    for release, record in enumerate(control_plane.rollouts):
        seats = [
            (name, of[release])
            for name, of in zip(bounds.hostnames, control_plane.seats, strict=True)
        ]
        standings = {n: seat.standing for n, seat in seats if seat.standing is not Standing.COUNTED}
        attempts = {name: seat.attempt for name, seat in seats if seat.attempt > 1}
        drifted = {name: Drift(BY_HAND, LIVED_AT) for name, seat in seats if seat.has_drifted}
        known = evolve(
            record,
            standings=FrozenMap(standings),
            attempts=FrozenMap(attempts),
            drifted=FrozenMap(drifted),
        )
        terms = terms_of(bounds, control_plane, release)
        view.open(known, terms)
        for name, seat in seats:
            if name in terms.targets:
                _take_seat(view, evolve(seat.record, hostname=name), seat.is_queued)
    for _ in range(control_plane.in_minute):
        view.note_beginning(BUDGET, DISPATCHED_AT)
    if control_plane.is_paused:
        pause(view, CHANNEL)
    hold_waves(bounds, view, control_plane.begun)
    return view


def terms_of(bounds: Bounds, control_plane: ControlPlane, release: int) -> RolloutTerms:
    """Return the terms of a rollout as its manifest was signed last."""
    has_left = control_plane.seats[bounds.leaver_place][release].standing is Standing.LEFT
    return bounds.terms_without_leaver if has_left else bounds.terms[release]


def hold_waves(bounds: Bounds, view: FleetView, begun: int) -> None:
    """Hold the wave that a rollout has reached until its time comes, as an engine does before it plans."""
    for rollout_id, record in view.rollouts.items():
        scope = RolloutScope(rollout_id)
        is_early = bounds.timed and record.current_wave >= begun
        if is_early and view.held_not_before(rollout_id) is None:
            view.hold(Hold(scope, _NOT_BEFORE))
        if not is_early and view.held_not_before(rollout_id) is not None:
            view.release(scope, _NOT_BEFORE)


def _take_seat(view: FleetView, record: HostRolloutState, is_queued: bool) -> None:
    view.set_host(record)
    failing = outstanding(record)
    if failing:
        view.set_outstanding(record.rollout_id, record.hostname, failing)
    if is_queued:
        view.set_queued(record.rollout_id, record.hostname, True, DISPATCHED_AT)
