"""A fresh view of what the control plane knows, as after a start: made of records alone, with no history."""

from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.rollout.state import Standing
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.course.course import outstanding
from nixfleet_testing.explore.bounds import CHANNEL, DISPATCHED_AT, Bounds
from nixfleet_testing.explore.world import ControlPlane
from nixfleet_testing.pauses import pause


def view_of(bounds: Bounds, control_plane: ControlPlane, undo: UndoLog) -> FleetView:
    """Return the view, whose changes `undo` can take back."""
    view = FleetView(undo)
    if control_plane.rollouts:
        view.offer(bounds.terms[len(control_plane.rollouts) - 1])
    for release, record in enumerate(control_plane.rollouts):
        seats = [
            (name, of[release])
            for name, of in zip(bounds.hostnames, control_plane.seats, strict=True)
        ]
        standings = {n: seat.standing for n, seat in seats if seat.standing is not Standing.COUNTED}
        attempts = {name: seat.attempt for name, seat in seats if seat.attempt > 1}
        known = evolve(record, standings=FrozenMap(standings), attempts=FrozenMap(attempts))
        view.open(known, bounds.terms[release])
        for name, seat in seats:
            _take_seat(view, evolve(seat.record, hostname=name), seat.is_queued)
    if control_plane.is_paused:
        pause(view, CHANNEL)
    return view


def _take_seat(view: FleetView, record: HostRolloutState, is_queued: bool) -> None:
    view.set_host(record)
    failing = outstanding(record)
    if failing:
        view.set_outstanding(record.rollout_id, record.hostname, failing)
    if is_queued:
        view.set_queued(record.rollout_id, record.hostname, True, DISPATCHED_AT)
