"""Defects planted in the pace of budgets; each returns the set of reducers that has it. As in `planted`."""

from datetime import datetime

from nixfleet_state_machine.planner.action import DeferDispatch, Gate, PlanAction, QueueDispatch
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_testing.course.reducer_set import Plan, ReducerSet
from nixfleet_testing.explore.bounds import DISPATCHED_AT


def budgets_hold_nobody() -> ReducerSet:
    """A host begins although no slot of its budget is free."""

    def going_ahead(plan: Plan) -> Plan:
        def planted(
            view: FleetView, quarantines: Quarantines, now: datetime
        ) -> tuple[PlanAction, ...]:
            return tuple(_as_if_free(view, each) for each in plan(view, quarantines, now))

        return planted

    return ReducerSet(plan=going_ahead(plan_next), replan=going_ahead(replan))


def minutes_give_nothing_back() -> ReducerSet:
    """A minute passes, and its slots stay taken."""
    return ReducerSet(slots_due=lambda view, now: ())


def _as_if_free(view: FleetView, action: PlanAction) -> PlanAction:
    if isinstance(action, DeferDispatch) and action.gate is Gate.DISRUPTION_BUDGET:
        closure = view.terms(action.rollout_id).targets[action.host]
        return QueueDispatch(action.host, action.rollout_id, closure, DISPATCHED_AT)
    return action
