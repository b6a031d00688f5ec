"""Approvals keep every law too: given early or late or denied, with clearances, in small worlds of their own."""

from collections.abc import Iterator
from datetime import datetime

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.rollout.event import RolloutEvent, WaveAdvanced, WaveBroken
from nixfleet_testing.course.reducer_set import DueRolloutEvents, ReducerSet
from nixfleet_testing.explore import Bounds, explore
from nixfleet_testing.explore.laws import Law

WORLDS = {
    "approvals and denials": Bounds(hosts=2, waves=2, guarded=True, probe_runs=0),
    "denials that are cleared": Bounds(hosts=2, waves=2, guarded=True, clear=True, probe_runs=0),
    "approvals under a tolerance": Bounds(
        hosts=3, waves=2, guarded=True, tolerance=1, probe_runs=0, on_the_way=1
    ),
    "bakes": Bounds(hosts=2, waves=2, bakes=True, probe_runs=0),
    "bakes that are begun anew": Bounds(
        hosts=2, waves=2, bakes=True, clear=True, abort=True, probe_runs=0, on_the_way=1
    ),
    "checks": Bounds(hosts=2, waves=2, checked=True, probe_runs=0, on_the_way=1),
    "checks that are cleared, with a pause": Bounds(
        hosts=2, waves=2, checked=True, clear=True, pause=True, probe_runs=0, on_the_way=1
    ),
    "all guards": Bounds(
        hosts=2, waves=2, guarded=True, bakes=True, checked=True, probe_runs=0, on_the_way=1
    ),
    "approvals of two releases": Bounds(
        hosts=2, waves=2, guarded=True, releases=2, probe_runs=0, on_the_way=1
    ),
}


@pytest.mark.parametrize("policy", OnHealthFailure)
@pytest.mark.parametrize("world", WORLDS)
def test_every_guarded_world_keeps_every_law(world: str, policy: OnHealthFailure) -> None:
    """Whenever an operator approves or denies, waves begin by approval alone, and nothing wedges."""
    report = explore(evolve(WORLDS[world], policy=policy))
    assert report.finding is None, report.finding
    assert report.is_complete


def _denials_are_ignored(
    view: FleetView, rollout_id: RolloutId, now: datetime
) -> tuple[RolloutEvent, ...]:
    """A planted bug: no denial breaks a wave."""
    due = due_rollout_events(view, rollout_id, now)
    return tuple(event for event in due if not isinstance(event, WaveBroken))


def _guards_hold_nobody(
    view: FleetView, rollout_id: RolloutId, now: datetime
) -> tuple[RolloutEvent, ...]:
    """A planted bug: the first wave begins unasked."""

    def begun() -> Iterator[RolloutEvent]:
        if view.rollout(rollout_id).current_wave < 0:
            yield WaveAdvanced(rollout_id, -1, 0, now)

    return tuple(begun()) or due_rollout_events(view, rollout_id, now)


@pytest.mark.parametrize("planted", [_denials_are_ignored, _guards_hold_nobody])
def test_guards_that_do_not_hold_are_found(planted: DueRolloutEvents) -> None:
    """A wave that began unasked, or a rollout that goes on although it was denied."""
    reducers = ReducerSet(due_rollout_events=planted)
    finding = explore(WORLDS["approvals and denials"], reducers).finding

    assert finding is not None
    assert finding.law is Law.GUARDED
    assert len(finding.path) <= 2


def _bakes_are_over_at_once(
    view: FleetView, rollout_id: RolloutId, now: datetime
) -> tuple[RolloutEvent, ...]:
    """A planted bug: a wave that is asked for begins."""
    record = view.rollout(rollout_id)
    if record.guarded_since is not None and not record.state.is_halted:
        return (WaveAdvanced(rollout_id, record.current_wave, record.current_wave + 1, now),)
    return due_rollout_events(view, rollout_id, now)


@pytest.mark.parametrize(
    ("world", "planted"),
    [
        ("bakes", _bakes_are_over_at_once),
        ("checks", _bakes_are_over_at_once),
        ("checks", _denials_are_ignored),
    ],
)
def test_bakes_and_checks_that_do_not_hold_are_found(world: str, planted: DueRolloutEvents) -> None:
    """A wave that began too early, or a rollout that goes on although a check of it failed."""
    finding = explore(WORLDS[world], ReducerSet(due_rollout_events=planted)).finding

    assert finding is not None
    assert finding.law is Law.GUARDED
