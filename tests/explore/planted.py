"""Machines with one planted bug each. An exploration that does not find them proves nothing."""

from datetime import datetime

from attrs import evolve

from nixfleet_proto.agent_event import RollbackComplete
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import (
    HostEffect,
    LocalFireRollbackTo,
    LocalFireSwitch,
)
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
from nixfleet_state_machine.planner.passing_time import due_by_time
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_state_machine.planner.standings import reported_again
from nixfleet_state_machine.planner.verdict import wave_broken
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import (
    HostsLapsed,
    HostStateChanged,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    StandingChanged,
    WaveBroken,
)
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.course.reducer_set import LastHeard, Plan, ReducerSet
from nixfleet_testing.explore.bounds import DISPATCHED_AT

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
    return isinstance(action, QueueDispatch) and _is_of_later_wave(view, action)


def _is_of_later_wave(
    view: FleetView, action: QueueDispatch | WithdrawDispatch | DeferDispatch
) -> bool:
    return view.terms(action.rollout_id).wave_of[action.host] > 0


def _as_if_not_halted(view: FleetView, action: PlanAction) -> PlanAction:
    match action:
        case DeferDispatch(host, rollout_id, Gate.ROLLOUT_HALTED):
            closure = view.terms(rollout_id).targets[host]
            return QueueDispatch(host, rollout_id, closure, DISPATCHED_AT)
        case _:
            return action


def rollbacks_are_not_fired() -> ReducerSet:
    """A host that failed and is to roll back stays where it is."""

    def planted(
        state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> _Stepped:
        after, effects = step(state, event, now, policy)
        return after, tuple(each for each in effects if not isinstance(each, LocalFireRollbackTo))

    return ReducerSet(step=planted)


def hold_lets_others_go_ahead() -> ReducerSet:
    """An operator's hold dispatches the hosts of later waves, which have nobody to wait for any more."""

    def going_ahead(plan: Plan) -> Plan:
        def planted(
            view: FleetView, quarantines: Quarantines, now: datetime
        ) -> tuple[PlanAction, ...]:
            actions = plan(view, quarantines, now)
            return tuple(
                _as_if_not_held(view, action)
                for action in actions
                if not (isinstance(action, WithdrawDispatch) and _is_of_later_wave(view, action))
            )

        return planted

    return ReducerSet(plan=going_ahead(plan_next), replan=going_ahead(replan))


def tolerance_has_no_limit() -> ReducerSet:
    """No wave is ever broken, however many of its hosts fail."""
    return ReducerSet(wave_broken=lambda view, rollout_id, hostname, now: None)


def wave_without_success_goes_on() -> ReducerSet:
    """A wave in which nobody succeeded, since all who are left are off, is not broken."""

    def planted(
        view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
    ) -> WaveBroken | None:
        broken = wave_broken(view, rollout_id, hostname, now)
        return broken if broken is not None and broken.failed > broken.allowed else None

    return ReducerSet(wave_broken=planted)


def nobody_is_skipped() -> ReducerSet:
    """Who waits for a host that failed for good waits for ever."""
    return ReducerSet(skipped_with=lambda view, rollout_id, hostname, now: None)


def deadlines_pass_unnoticed() -> ReducerSet:
    """The time of a host that is silent passes, and nothing follows."""

    def planted(view: FleetView, now: datetime, heard: LastHeard) -> tuple[RolloutEvent, ...]:
        events = due_by_time(view, now, heard)
        return tuple(each for each in events if not isinstance(each, HostsLapsed))

    return ReducerSet(due_by_time=planted)


def heartbeats_give_nothing_back() -> ReducerSet:
    """A host that was off and is heard of is not served again."""
    return ReducerSet(heard_again=lambda view, rollout_id, hostname, now: None)


def facts_give_nothing_back() -> ReducerSet:
    """A host that was silent past a deadline and reports is away for good."""
    return ReducerSet(reported_again=lambda view, rollout_id, hostname, now: None)


def late_hosts_count_again() -> ReducerSet:
    """A host that comes after its wave was done counts in it, as if it had been there."""

    def planted(
        view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
    ) -> StandingChanged | None:
        event = reported_again(view, rollout_id, hostname, now)
        return None if event is None else evolve(event, standing=Standing.COUNTED)

    return ReducerSet(reported_again=planted)


def attempts_have_no_end() -> ReducerSet:
    """A host that failed tries again as often as it fails."""

    def planted(view: FleetView, now: datetime, heard: LastHeard) -> tuple[RolloutEvent, ...]:
        events = due_by_time(view, now, heard)
        return tuple(
            evolve(each, attempt=each.attempt + 1) if isinstance(each, RetryOrdered) else each
            for each in events
        )

    return ReducerSet(due_by_time=planted)


def aborts_end_nothing() -> ReducerSet:
    """An operator aborts a rollout, and it goes on."""

    def planted(
        record: RolloutRecord, event: RolloutEvent, now: datetime
    ) -> tuple[RolloutRecord, tuple[RolloutEffect, ...]]:
        if isinstance(event, RolloutAborted):
            return record, ()
        return step_rollout(record, event, now)

    return ReducerSet(step_rollout=planted)


def aborts_are_cleared_by_a_late_revert() -> ReducerSet:
    """A host of an aborted rollout rolls back, and the rollout is Reverted, which an operator may clear."""

    def planted(
        record: RolloutRecord, event: RolloutEvent, now: datetime
    ) -> tuple[RolloutRecord, tuple[RolloutEffect, ...]]:
        after, effects = step_rollout(record, event, now)
        is_aborted = record.state is RolloutState.ABORTED
        if is_aborted and isinstance(event, HostStateChanged) and event.to is HostState.REVERTED:
            after = evolve(after, state=RolloutState.REVERTED)
        return after, effects

    return ReducerSet(step_rollout=planted)


def first_revert_bars_its_closure() -> ReducerSet:
    """One host that may fail keeps the closure from all others."""
    return ReducerSet(bars_closure=lambda view, rollout_id, hostname: True)


def broken_wave_bars_nothing() -> ReducerSet:
    """What hosts reverted from before their wave broke goes on to others."""
    return ReducerSet(reverted_closures=lambda view, rollout_id: ())


def broken_wave_bars_what_never_ran() -> ReducerSet:
    """A wave that breaks bars the closures of hosts that could not switch."""

    def planted(view: FleetView, rollout_id: RolloutId) -> tuple[str, ...]:
        hosts = view.hosts_of(rollout_id)
        return tuple({each.target_closure for each in hosts if each.state is HostState.REVERTED})

    return ReducerSet(reverted_closures=planted)


def worst_case_forgets_who_is_under_way() -> ReducerSet:
    """The computed worst is what may fail, without those that fail while the rollout halts."""
    return ReducerSet(worst_failed=lambda terms, on_failure: terms.allowed_failures(0) + 1)


def worst_case_is_every_host() -> ReducerSet:
    """The computed worst is sure to be no less than what is reached, and says nothing."""
    return ReducerSet(worst_failed=lambda terms, on_failure: len(terms.targets))


def _as_if_not_held(view: FleetView, action: PlanAction) -> PlanAction:
    match action:
        case DeferDispatch(host, rollout_id, Gate.OPERATOR_HOLD) if _is_of_later_wave(view, action):
            closure = view.terms(rollout_id).targets[host]
            return QueueDispatch(host, rollout_id, closure, DISPATCHED_AT)
        case _:
            return action
