"""The control plane of a bounded world at work: one input, and the control plane after it.

It calls reducers and planner in the order of the control plane's engine: a fact moves its host, the transition is
applied to the rollout, the rollout advances as far as it can, and then plans are carried out until a plan is empty.
Nothing is decided here.
Source: docs/spec/rollout-machine.md, Who emits rollout events; docs/spec/runtimes.md, Control plane.
"""

from collections.abc import Mapping, Set
from typing import assert_never

from attrs import evolve, frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.blame import blames_closure
from nixfleet_state_machine.host.effect import RecordTransition, RemoteInsertQuarantine
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import (
    HostJoined,
    HostStateChanged,
    OperatorClearance,
    RolloutEvent,
    RolloutOpened,
    SuccessorOpened,
    subject_of,
)
from nixfleet_state_machine.rollout.state import NO_STANDINGS, RolloutState
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.explore.bounds import (
    CHANNEL,
    DISPATCHED_AGAIN_AT,
    DISPATCHED_AT,
    LIVED_AT,
    Bounds,
)
from nixfleet_testing.explore.inputs import (
    Clear,
    Hear,
    Input,
    Pause,
    Publish,
    Resume,
    Retire,
)
from nixfleet_testing.explore.machine import ReducerSet
from nixfleet_testing.explore.views import outstanding, view_of
from nixfleet_testing.explore.world import NAMELESS, ControlPlane, Seat

PLANS_MAX = 20
"""More than any input needs: a rollout opens, its hosts are dispatched, and that is all."""


class PlanEndless(Exception):
    """Plans were carried out many times, and the next plan was never empty."""


@frozen
class Turn:
    """The result of one input. did: what the control plane did, in words.

    disagreement: how the plan over the kept view differed from one over a fresh view, if it did.
    """

    after: ControlPlane
    did: tuple[str, ...]
    disagreement: str | None


class Engine:
    """The control plane at one moment. Each turn is taken back when it was read: the next starts from there too."""

    def __init__(self, bounds: Bounds, machine: ReducerSet, before: ControlPlane) -> None:
        self._bounds = bounds
        self._machine = machine
        self._before = before
        self._undo = UndoLog()
        self._view = view_of(bounds, before, self._undo)
        self._begin()
        # Everything in a fresh view counts as changed; its answers were given before.
        machine.replan(self._view, self._quarantines, DISPATCHED_AT)

    def turn(self, input: Input) -> Turn:
        """Return the commit for `input`.

        Raises: TransitionError, RolloutTransitionError, SupersessionExpected, when a reducer refuses; PlanEndless.
        """
        mark = self._undo.mark()
        self._begin()
        try:
            self._handle(input)
            self._plan()
            return Turn(self._after(), tuple(self._did), self._disagreement)
        finally:
            self._undo.undo_to(mark)

    def _begin(self) -> None:
        self._did: list[str] = []
        self._disagreement: str | None = None
        self._quarantined = set(self._before.quarantined)
        self._is_paused = self._before.is_paused

    def _handle(self, input: Input) -> None:
        """Take `input` in."""
        match input:
            case Hear():
                self._hear(input)
            case Publish():
                self._view.offer(self._bounds.terms[len(self._view.rollouts)])
            case Pause():
                self._is_paused = True
                self._view.hold(CHANNEL)
            case Resume():
                self._is_paused = False
                self._view.release(CHANNEL)
            case Clear():
                self._clear(self._bounds.terms[input.release].rollout_id)
            case Retire():
                self._quarantined.discard(input.closure)
                self._view.quarantine_changed(CHANNEL, input.closure)
            case _:
                assert_never(input)

    def _plan(self) -> None:
        """Follow the plan until it says nothing new. Raises: PlanEndless."""
        for _ in range(PLANS_MAX):
            actions = self._machine.replan(self._view, self._quarantines, DISPATCHED_AT)
            if not actions:
                return
            self._compare(actions)
            for action in actions:
                self._follow(action)
        raise PlanEndless(self._did)

    def _after(self) -> ControlPlane:
        """Return what the control plane knows now."""
        view = self._view
        records = [view.rollouts[terms.rollout_id] for terms in self._opened]
        seats = (
            tuple(
                Seat(
                    evolve(self._host(record.rollout_id, name), hostname=NAMELESS),
                    view.is_queued(record.rollout_id, name),
                    name in record.excused_hosts,
                )
                for record in records
            )
            for name in self._bounds.hostnames
        )
        return ControlPlane(
            seats=tuple(seats),
            rollouts=tuple(evolve(record, standings=NO_STANDINGS) for record in records),
            quarantined=frozenset(self._quarantined),
            is_paused=self._is_paused,
        )

    @property
    def _opened(self) -> tuple[RolloutTerms, ...]:
        return tuple(t for t in self._bounds.terms if t.rollout_id in self._view.rollouts)

    @property
    def _quarantines(self) -> Mapping[str, Set[str]]:
        return {CHANNEL: self._quarantined}

    def _host(self, rollout_id: RolloutId, name: str) -> HostRolloutState:
        record = self._view.host(rollout_id, name)
        assert record is not None, (rollout_id, name)
        return record

    # Facts.

    def _hear(self, heard: Hear) -> None:
        rollout_id = self._bounds.terms[heard.release].rollout_id
        name = self._bounds.hostnames[heard.host]
        record, effects = self._machine.step(
            self._host(rollout_id, name), Remote(heard.fact), LIVED_AT, self._bounds.rollout_policy
        )
        self._view.set_host(record)
        self._view.set_outstanding(rollout_id, name, outstanding(record))
        # Whatever the host said first, it has its dispatch.
        self._view.set_queued(rollout_id, name, False)
        for effect in effects:
            if isinstance(effect, RemoteInsertQuarantine) and blames_closure(record):
                self._quarantine(effect.closure)
        self._join(rollout_id, name)
        for effect in effects:
            if isinstance(effect, RecordTransition):
                self._tell_rollout(effect)

    def _quarantine(self, closure: str) -> None:
        if closure not in self._quarantined:
            self._quarantined.add(closure)
            self._view.quarantine_changed(CHANNEL, closure)
            self._did.append(f"{closure} is quarantined")

    # Rollouts.

    def _move_rollout(self, event: RolloutEvent) -> None:
        before = self._view.rollouts[subject_of(event)]
        after, _ = self._machine.step_rollout(before, event, LIVED_AT)
        self._view.set_rollout(after)
        if after.state is not before.state:
            self._did.append(f"{after.rollout_id} goes from {before.state} to {after.state}")
        if after.current_wave != before.current_wave:
            self._did.append(f"{after.rollout_id} goes on to wave {after.current_wave}")

    def _join(self, rollout_id: RolloutId, name: str) -> None:
        if self._view.rollouts[rollout_id].state is RolloutState.OPENING:
            wave = self._view.terms(rollout_id).wave_of[name]
            self._move_rollout(HostJoined(rollout_id, name, wave, LIVED_AT))

    def _tell_rollout(self, moved: RecordTransition) -> None:
        self._did.append(f"{moved.host} goes from {moved.from_} to {moved.to}")
        # An excused host does not count: its rollback may end after the clearance, and would halt anew.
        if moved.host not in self._view.rollouts[moved.rollout_id].excused_hosts:
            self._move_rollout(
                HostStateChanged(moved.rollout_id, moved.host, moved.from_, moved.to, moved.at)
            )
        self._advance(moved.rollout_id)

    def _advance(self, rollout_id: RolloutId) -> None:
        while events := self._machine.due_rollout_events(self._view, rollout_id, LIVED_AT):
            for event in events:
                self._move_rollout(event)

    def _clear(self, rollout_id: RolloutId) -> None:
        failed = (
            record.hostname
            for record in self._view.hosts_of(rollout_id)
            if record.state in (HostState.FAILED, HostState.REVERTED)
        )
        self._move_rollout(
            OperatorClearance(rollout_id, "ada", "seen to it", frozenset(failed), LIVED_AT)
        )
        self._advance(rollout_id)

    # The plan.

    def _compare(self, actions: tuple[PlanAction, ...]) -> None:
        fresh = view_of(self._bounds, self._after(), UndoLog())
        for terms in self._view.offers.values():
            fresh.offer(terms)
        planned = self._machine.plan(fresh, self._quarantines, DISPATCHED_AT)
        if _due(planned) != _due(actions) or not set(actions) <= set(planned):
            self._disagreement = f"a fresh plan says {planned}, the kept one {actions}"

    def _follow(self, action: PlanAction) -> None:
        match action:
            case OpenRollout():
                self._open(action)
            case QueueDispatch():
                record = self._host(action.rollout_id, action.host)
                at = DISPATCHED_AT if record.dispatched_at is None else DISPATCHED_AGAIN_AT
                noted = self._machine.note_dispatch(record, at, action.soak_due_at)
                self._view.set_host(noted)
                self._view.set_queued(action.rollout_id, action.host, True)
                self._did.append(f"{action.host} is dispatched")
                self._join(action.rollout_id, action.host)
            case WithdrawDispatch():
                self._view.set_queued(action.rollout_id, action.host, False)
                self._did.append(f"the dispatch of {action.host} is withdrawn: {action.gate}")
            case DeferDispatch():
                pass
            case _:
                assert_never(action)

    def _open(self, action: OpenRollout) -> None:
        for older in self._view.rollouts_of(action.channel):
            if older.state not in (RolloutState.SUPERSEDED, RolloutState.PRUNED):
                self._move_rollout(
                    SuccessorOpened(older.rollout_id, action.rollout_id, DISPATCHED_AT)
                )
        opened = RolloutOpened(action.rollout_id, action.channel, action.target_ref, DISPATCHED_AT)
        others = self._view.rollouts_of(action.channel)
        terms = self._view.offers[action.channel]
        self._view.open(self._machine.open_rollout(opened, 1, others), terms)
        self._did.append(f"{action.rollout_id} opens")
        for name, closure in terms.targets.items():
            self._view.set_host(
                HostRolloutState.pending(
                    action.rollout_id, name, action.channel, closure, None, None
                )
            )


def unsettled(bounds: Bounds, machine: ReducerSet, control_plane: ControlPlane) -> str | None:
    """Return what a fresh plan would still have the control plane do; `None`: nothing, all was done."""
    fresh = view_of(bounds, control_plane, UndoLog())
    quarantines = {CHANNEL: control_plane.quarantined}
    due = _due(machine.plan(fresh, quarantines, DISPATCHED_AT))
    return f"a fresh plan says {due}, the kept one nothing" if due else None


def _due(actions: tuple[PlanAction, ...]) -> tuple[PlanAction, ...]:
    """The decisions that change something. The plan over a kept view leaves out deferrals that were reported before."""
    return tuple(action for action in actions if not isinstance(action, DeferDispatch))
