"""As `planted`: bugs that only a world with drift, amended manifests, times of waves or held clocks shows."""

from datetime import datetime

from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import DeferDispatch, Gate, PlanAction, QueueDispatch
from nixfleet_state_machine.planner.drift import drift_change
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.members import members_change
from nixfleet_state_machine.planner.passing_time import due_by_time
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    HostsLapsed,
    MembersChanged,
    RetryOrdered,
    RolloutEvent,
    Stage,
)
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_testing.course.reducer_set import LastHeard, Plan, ReducerSet
from nixfleet_testing.explore.bounds import DISPATCHED_AT


def drift_has_no_end() -> ReducerSet:
    """A host that runs its target again has drifted for good."""

    def planted(
        view: FleetView, rollout_id: RolloutId, hostname: str, running: str, now: datetime
    ) -> HostDrifted | DriftEnded | None:
        change = drift_change(view, rollout_id, hostname, running, now)
        return None if isinstance(change, DriftEnded) else change

    return ReducerSet(drift_change=planted)


def acting_host_goes_on_drifting() -> ReducerSet:
    """A drift does not end when the host is given its target back."""
    return ReducerSet(drift_ended=lambda view, rollout_id, hostname, running, now: None)


def drift_lets_a_host_count_for_nothing() -> ReducerSet:
    """What a host runs changes how it counts."""

    def planted(
        record: RolloutRecord, event: RolloutEvent, now: datetime
    ) -> tuple[RolloutRecord, tuple[RolloutEffect, ...]]:
        after, effects = step_rollout(record, event, now)
        if isinstance(event, HostDrifted):
            after = after.with_standings([event.host_id], Standing.LATE)
        return after, effects

    return ReducerSet(step_rollout=planted)


def reported_drift_is_restored() -> ReducerSet:
    """Another attempt is ordered of every host that drifted, whatever the fleet says."""

    def planted(view: FleetView, now: datetime, heard: LastHeard) -> tuple[RolloutEvent, ...]:
        ordered = (
            RetryOrdered(rollout_id, (host,), record.attempt_of(host) + 1, "it drifted", now)
            for rollout_id, record in view.rollouts.items()
            for host in record.drifted
        )
        return (*due_by_time(view, now, heard), *ordered)

    return ReducerSet(due_by_time=planted)


def who_left_counts_on() -> ReducerSet:
    """A host that an amended manifest does not name any more is counted as before."""

    def planted(
        before: RolloutTerms, after: RolloutTerms, record: RolloutRecord, now: datetime
    ) -> MembersChanged | None:
        event = members_change(before, after, record, now)
        return None if event is None else evolve(event, left=())

    return ReducerSet(members_change=planted)


def joiner_reopens_its_wave() -> ReducerSet:
    """A host that joins a wave which is done counts in it."""

    def planted(
        before: RolloutTerms, after: RolloutTerms, record: RolloutRecord, now: datetime
    ) -> MembersChanged | None:
        event = members_change(before, after, record, now)
        return None if event is None else evolve(event, late=())

    return ReducerSet(members_change=planted)


def who_left_keeps_its_attempts() -> ReducerSet:
    """Attempts that were ordered of a machine are ordered of the next one under its name."""

    def planted(
        record: RolloutRecord, event: RolloutEvent, now: datetime
    ) -> tuple[RolloutRecord, tuple[RolloutEffect, ...]]:
        after, effects = step_rollout(record, event, now)
        if isinstance(event, MembersChanged):
            after = evolve(after, attempts=record.attempts)
        return after, effects

    return ReducerSet(step_rollout=planted)


def waves_begin_before_their_time() -> ReducerSet:
    """A wave that was reached begins at once."""

    def planted(plan: Plan) -> Plan:
        def early(
            view: FleetView, quarantines: Quarantines, now: datetime
        ) -> tuple[PlanAction, ...]:
            return tuple(_begun(view, each) for each in plan(view, quarantines, now))

        return early

    return ReducerSet(plan=planted(plan_next), replan=planted(replan))


def _begun(view: FleetView, action: PlanAction) -> PlanAction:
    if not isinstance(action, DeferDispatch) or action.gate is not Gate.WAVE_PROMOTION:
        return action
    terms = view.terms(action.rollout_id)
    if terms.wave_of[action.host] > view.rollouts[action.rollout_id].current_wave:
        return action
    closure = terms.targets[action.host]
    return QueueDispatch(action.host, action.rollout_id, closure, DISPATCHED_AT)


def clock_runs_while_a_channel_is_paused() -> ReducerSet:
    """A host that is not dispatched, since its channel is paused, is taken for one that does not answer."""

    def planted(view: FleetView, now: datetime, heard: LastHeard) -> tuple[RolloutEvent, ...]:
        lapsed = (
            HostsLapsed(rollout_id, (host.hostname,), Stage.ACK, Standing.AWAY, now)
            for rollout_id in view.served_rollouts()
            for host in view.hosts_of(rollout_id)
            if view.holds and view.is_waiting(rollout_id, host.hostname)
        )
        return (*due_by_time(view, now, heard), *lapsed)

    return ReducerSet(due_by_time=planted)
