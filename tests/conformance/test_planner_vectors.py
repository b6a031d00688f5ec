"""The planner decides as recorded, save where it decides otherwise on purpose; there it is sound."""

from collections.abc import Sequence
from datetime import datetime

import pytest
from attrs import evolve

from nixfleet_state_machine.planner.action import DeferDispatch, Gate, PlanAction, QueueDispatch
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_testing.conformance.planner import (
    Planner,
    check_plan,
    read_planner_vector,
)
from tests.conformance.recorded import differences, recorded


@pytest.mark.parametrize("planner", [plan_next, replan])
def test_planning_the_recorded_fleets_decides_as_recorded_or_soundly(planner: Planner) -> None:
    """Of 800 fleets, 433 give the recorded plan action by action; the other 367 give a sound one."""
    runs = [check_plan(each, planner) for each in recorded("planner_vectors", read_planner_vector)]

    assert differences(runs) == []
    assert len(runs) == 800
    assert sum(run.stopped_by is None for run in runs) == 433


def _forgets_a_host(
    view: FleetView, quarantines: Quarantines, now: datetime
) -> Sequence[PlanAction]:
    plan = plan_next(view, quarantines, now)
    return [action for action in plan if action != plan[-1]]


def _ignores_quarantines(
    view: FleetView, quarantines: Quarantines, now: datetime
) -> Sequence[PlanAction]:
    return plan_next(view, {}, now)


def _lets_everybody_go(
    view: FleetView, quarantines: Quarantines, now: datetime
) -> Sequence[PlanAction]:
    def let_go(action: PlanAction) -> PlanAction:
        if not isinstance(action, DeferDispatch):
            return action
        closure = view.terms(action.rollout_id).targets[action.host]
        return QueueDispatch(action.host, action.rollout_id, closure, now)

    return [let_go(action) for action in plan_next(view, quarantines, now)]


def _blames_the_budget(
    view: FleetView, quarantines: Quarantines, now: datetime
) -> Sequence[PlanAction]:
    return [
        evolve(action, gate=Gate.DISRUPTION_BUDGET) if isinstance(action, DeferDispatch) else action
        for action in plan_next(view, quarantines, now)
    ]


@pytest.mark.parametrize(
    ("wrong_planner", "found"),
    [
        (_forgets_a_host, "answered"),
        (_ignores_quarantines, "is quarantined"),
        (_lets_everybody_go, "in flight ("),
        (_lets_everybody_go, "is not reached"),
        (_lets_everybody_go, "is not done"),
        (_lets_everybody_go, "controls of"),
        (_blames_the_budget, ".gate"),
    ],
)
def test_planning_wrongly_is_a_difference_that_names_what_is_wrong(
    wrong_planner: Planner, found: str
) -> None:
    """A planner with a defect is told apart, and the difference says which."""
    vectors = recorded("planner_vectors", read_planner_vector)[:200]
    told = differences(check_plan(vector, wrong_planner) for vector in vectors)

    assert any(found in f"{each.path} {each.found}" for each in told)
