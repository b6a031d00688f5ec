"""Machines with one planted bug each. An exploration that does not find them proves nothing."""

from datetime import datetime

from attrs import evolve

from nixfleet_proto.agent_event import RollbackComplete
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.effect import HostEffect, LocalFireSwitch
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import HostStateChanged, RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_testing.explore.bounds import DISPATCHED_AT
from nixfleet_testing.explore.machine import Plan, ReducerSet

_Stepped = tuple[HostRolloutState, tuple[HostEffect, ...]]


def wave_moves_with_its_first_host() -> ReducerSet:
    """The wave cursor goes on when the first host of the wave converges, not the last."""

    def planted(
        record: RolloutRecord, event: RolloutEvent, now: datetime
    ) -> tuple[RolloutRecord, tuple[RolloutEffect, ...]]:
        after, effects = step_rollout(record, event, now)
        if isinstance(event, HostStateChanged) and event.to is HostState.CONVERGED:
            after = evolve(after, current_wave=1)
        return after, effects

    return ReducerSet(step_rollout=planted)


def failed_rollback_is_a_revert() -> ReducerSet:
    """A rollback with a non-zero exit code is taken for one that worked."""

    def planted(
        state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> _Stepped:
        fact = event.fact
        if isinstance(fact, RollbackComplete):
            fact = evolve(fact, exit_code=0)
        worked = Local(fact) if isinstance(event, Local) else Remote(fact)
        return step(state, worked, now, policy)

    return ReducerSet(step=planted)


def halt_is_not_honoured() -> ReducerSet:
    """The planner goes on with a rollout that was halted."""

    def ignoring_halts(plan: Plan) -> Plan:
        def planted(
            view: FleetView, quarantines: Quarantines, now: datetime
        ) -> tuple[PlanAction, ...]:
            actions = plan(view, quarantines, now)
            return tuple(
                _as_if_not_halted(view, action)
                for action in actions
                if not isinstance(action, WithdrawDispatch)
            )

        return planted

    return ReducerSet(plan=ignoring_halts(plan_next), replan=ignoring_halts(replan))


def repeated_facts_are_taken() -> ReducerSet:
    """The host machine does not look at a fact's number."""

    def planted(
        state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> _Stepped:
        unnumbered = evolve(state, last_event_seq=min(state.last_event_seq, event.fact.seq - 1))
        return step(unnumbered, event, now, policy)

    return ReducerSet(step=planted)


def switch_is_not_fired() -> ReducerSet:
    """An acknowledged dispatch has no consequence: the host waits for ever."""

    def planted(
        state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> _Stepped:
        after, effects = step(state, event, now, policy)
        return after, tuple(each for each in effects if not isinstance(each, LocalFireSwitch))

    return ReducerSet(step=planted)


def second_dispatch_has_new_times() -> ReducerSet:
    """A dispatch that was withdrawn and is made again moves the soak window of a host that has the first."""
    return ReducerSet(note_dispatch=HostRolloutState.dispatched)


def withdrawals_are_forgotten() -> ReducerSet:
    """The planner leaves dispatches in the queue whatever happens."""

    def forgetting(plan: Plan) -> Plan:
        def planted(
            view: FleetView, quarantines: Quarantines, now: datetime
        ) -> tuple[PlanAction, ...]:
            actions = plan(view, quarantines, now)
            return tuple(each for each in actions if not isinstance(each, WithdrawDispatch))

        return planted

    return ReducerSet(plan=forgetting(plan_next), replan=forgetting(replan))


def excused_hosts_hold_by_their_edges() -> ReducerSet:
    """A host that waits for another one waits on when that one is excused."""

    def waiting_on(plan: Plan) -> Plan:
        def planted(
            view: FleetView, quarantines: Quarantines, now: datetime
        ) -> tuple[PlanAction, ...]:
            actions = plan(view, quarantines, now)
            return tuple(each for each in actions if not _is_dispatch_past_edge(view, each))

        return planted

    return ReducerSet(plan=waiting_on(plan_next), replan=waiting_on(replan))


def kept_plan_forgets_later_waves() -> ReducerSet:
    """The plan over the kept view dispatches nobody beyond the first wave; one over a fresh view does."""

    def planted(view: FleetView, quarantines: Quarantines, now: datetime) -> tuple[PlanAction, ...]:
        actions = replan(view, quarantines, now)
        return tuple(each for each in actions if not _is_dispatch_of_later_wave(view, each))

    return ReducerSet(replan=planted)


def _is_dispatch_past_edge(view: FleetView, action: PlanAction) -> bool:
    if not isinstance(action, QueueDispatch):
        return False
    gating = view.terms(action.rollout_id).gating_hosts(action.host)
    records = (view.host(action.rollout_id, name) for name in gating)
    return any(each is None or not each.state.is_ordering_eligible for each in records)


def _is_dispatch_of_later_wave(view: FleetView, action: PlanAction) -> bool:
    if not isinstance(action, QueueDispatch):
        return False
    return view.terms(action.rollout_id).wave_of[action.host] > 0


def _as_if_not_halted(view: FleetView, action: PlanAction) -> PlanAction:
    match action:
        case DeferDispatch(host, rollout_id, Gate.ROLLOUT_HALTED):
            closure = view.terms(rollout_id).targets[host]
            return QueueDispatch(host, rollout_id, closure, DISPATCHED_AT)
        case _:
            return action
