"""Every decision of a control plane: the functions of production, or in a test one with a planted bug."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol, TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host import reducer as host_reducer
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.host.event import Event
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner import (
    blast_radius,
    drift,
    members,
    passing_time,
    progress,
    quarantining,
    standings,
    verdict,
)
from nixfleet_state_machine.planner import plan as planner
from nixfleet_state_machine.planner.action import PlanAction
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout import opening
from nixfleet_state_machine.rollout import reducer as rollout_reducer
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    MembersChanged,
    RolloutEvent,
    RolloutOpened,
    StandingChanged,
    WaveBroken,
)
from nixfleet_state_machine.rollout.state import RolloutRecord

StepRollout: TypeAlias = Callable[
    [RolloutRecord, RolloutEvent, datetime], tuple[RolloutRecord, tuple[RolloutEffect, ...]]
]
OpenRollout: TypeAlias = Callable[[RolloutOpened, int, Iterable[RolloutRecord]], RolloutRecord]
DueRolloutEvents: TypeAlias = Callable[[FleetView, RolloutId, datetime], tuple[RolloutEvent, ...]]
Plan: TypeAlias = Callable[[FleetView, Quarantines, datetime], tuple[PlanAction, ...]]
HostsBreak: TypeAlias = Callable[[FleetView, RolloutId, str, datetime], WaveBroken | None]
HostsStand: TypeAlias = Callable[[FleetView, RolloutId, str, datetime], StandingChanged | None]
RolloutsSkip: TypeAlias = Callable[[FleetView, RolloutId, datetime], Iterable[StandingChanged]]
LastHeard: TypeAlias = Callable[[str], datetime | None]
DueByTime: TypeAlias = Callable[[FleetView, datetime, LastHeard], tuple[RolloutEvent, ...]]
BarsClosure: TypeAlias = Callable[[FleetView, RolloutId, str], bool]
RevertedClosures: TypeAlias = Callable[[FleetView, RolloutId], tuple[str, ...]]
WorstFailed: TypeAlias = Callable[[RolloutTerms, OnHealthFailure], int]
DriftChange: TypeAlias = Callable[
    [FleetView, RolloutId, str, str, datetime], HostDrifted | DriftEnded | None
]
DriftEnd: TypeAlias = Callable[[FleetView, RolloutId, str, str | None, datetime], DriftEnded | None]
MembersChange: TypeAlias = Callable[
    [RolloutTerms, RolloutTerms, RolloutRecord, datetime], MembersChanged | None
]
SlotsDue: TypeAlias = Callable[[FleetView, datetime], tuple[SlotsReturned, ...]]
NoteDispatch: TypeAlias = Callable[[HostRolloutState, datetime, datetime], HostRolloutState]


class Step(Protocol):
    """What `step` is to who has events of both sides."""

    def __call__(
        self, state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> tuple[HostRolloutState, tuple[HostEffect, ...]]: ...


def first_dispatch(
    record: HostRolloutState, at: datetime, soak_due_at: datetime
) -> HostRolloutState:
    """Note a dispatch in a Pending record. One that was withdrawn and is made again keeps its first times.

    For an acknowledgement of the first may be on its way, and the host soaks by that.
    """
    return record if record.dispatched_at is not None else record.dispatched(at, soak_due_at)


@frozen
class ReducerSet:
    """Every decision of a control plane. plan: over a fresh view; replan: over the one that is kept."""

    step: Step = host_reducer.step
    step_rollout: StepRollout = rollout_reducer.step_rollout
    open_rollout: OpenRollout = opening.open_rollout
    due_rollout_events: DueRolloutEvents = progress.due_rollout_events
    plan: Plan = planner.plan_next
    replan: Plan = planner.replan
    note_dispatch: NoteDispatch = first_dispatch
    wave_broken: HostsBreak = verdict.wave_broken
    skipped_with: HostsStand = standings.skipped_with
    skips_due: RolloutsSkip = standings.skips_due
    reported_again: HostsStand = standings.reported_again
    heard_again: HostsStand = standings.heard_again
    due_by_time: DueByTime = passing_time.due_by_time
    slots_due: SlotsDue = passing_time.slots_due
    bars_closure: BarsClosure = quarantining.bars_closure
    reverted_closures: RevertedClosures = quarantining.reverted_closures
    drift_change: DriftChange = drift.drift_change
    drift_ended: DriftEnd = drift.drift_ended
    members_change: MembersChange = members.members_change
    worst_failed: WorstFailed = blast_radius.worst_failed
