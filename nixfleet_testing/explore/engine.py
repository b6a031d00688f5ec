"""The control plane of a bounded world at work: one input, and the control plane after it.

It calls reducers and planner in the order of the control plane's engine: a fact moves its host, the transition is
applied to the rollout, the rollout advances as far as it can, and then plans are carried out until a plan is empty.
Nothing is decided here.
Source: docs/spec/rollout-machine.md, Who emits rollout events; docs/spec/runtimes.md, Control plane.
"""

from typing import assert_never

from attrs import evolve, frozen

from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    PlanAction,
    QueueDispatch,
)
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import Verdict
from nixfleet_state_machine.rollout.state import NO_ATTEMPTS, NO_DRIFTS, NO_STANDINGS
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.course.course import Course
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore.bounds import (
    BUDGET,
    CHANNEL,
    CHECK,
    DISPATCHED_AGAIN_AT,
    DISPATCHED_AT,
    LIVED_AT,
    PASSED_AT,
    Bounds,
)
from nixfleet_testing.explore.inputs import (
    Abort,
    Amend,
    Answer,
    BakeEnds,
    Clear,
    Hear,
    HearOf,
    Input,
    Judge,
    MinutePasses,
    PassTime,
    Pause,
    Publish,
    Resume,
    Retire,
    Show,
    WaveTimeComes,
)
from nixfleet_testing.explore.views import hold_waves, view_of
from nixfleet_testing.explore.world import NAMELESS, ControlPlane, Seat
from nixfleet_testing.pauses import pause, resume

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
        machine.replan(self._view, self._course.quarantines, DISPATCHED_AT)

    def turn(self, input: Input) -> Turn:
        """Return the commit for `input`.

        Raises: TransitionError, RolloutTransitionError, SupersessionExpected, when a reducer refuses; PlanEndless.
        """
        mark = self._undo.mark()
        self._begin()
        try:
            self._handle(input)
            self._plan()
            return Turn(self._after(), tuple(self._course.did), self._disagreement)
        finally:
            self._undo.undo_to(mark)

    def _begin(self) -> None:
        self._disagreement: str | None = None
        self._course = Course(
            self._view,
            self._bounds.rollout_policy,
            self._machine,
            {CHANNEL: self._before.quarantined},
        )
        self._is_paused = self._before.is_paused
        self._begun = self._before.begun

    def _handle(self, input: Input) -> None:
        """Take `input` in."""
        match input:
            case Hear():
                rollout_id = self._bounds.terms[input.release].rollout_id
                name = self._bounds.hostnames[input.host]
                self._course.take_fact(rollout_id, name, input.fact, LIVED_AT)
            case Publish():
                self._view.offer(self._bounds.terms[len(self._view.rollouts)])
            case Pause():
                self._is_paused = True
                pause(self._view, CHANNEL)
            case Resume():
                self._is_paused = False
                resume(self._view, CHANNEL)
            case Clear():
                self._course.clear(self._bounds.terms[input.release].rollout_id, LIVED_AT)
            case Abort():
                self._course.abort(self._bounds.terms[input.release].rollout_id, LIVED_AT)
            case Retire():
                self._course.quarantines[CHANNEL] -= {input.closure}
                self._view.quarantine_changed(CHANNEL, input.closure)
            case PassTime():
                # That of another host passes in a move of its own.
                heard_at = None if input.is_off else PASSED_AT
                name = self._bounds.hostnames[input.host]
                self._course.pass_time(PASSED_AT, lambda _: heard_at, {name})
            case MinutePasses():
                self._course.return_slots(PASSED_AT)
            case HearOf():
                self._course.hear_of(self._bounds.hostnames[input.host], LIVED_AT)
            case Show():
                name = self._bounds.hostnames[input.host]
                self._course.see_running(name, input.running, LIVED_AT)
            case Amend():
                bounds = self._bounds
                terms = bounds.terms[0] if input.joins else bounds.terms_without_leaver
                self._course.amend(terms, LIVED_AT)
            case Judge():
                rollout_id = self._bounds.terms[input.release].rollout_id
                wave = self._view.rollouts[rollout_id].current_wave + 1
                verdict = Verdict(
                    rollout_id, wave, APPROVALS, "ada", input.outcome, "as seen", LIVED_AT
                )
                self._course.take_verdict(verdict, LIVED_AT)
            case BakeEnds():
                self._course.end_bakes(PASSED_AT)
            case Answer():
                rollout_id = self._bounds.terms[input.release].rollout_id
                wave = self._view.rollouts[rollout_id].current_wave + 1
                said = Verdict(
                    rollout_id, wave, CHECK.name, CHECK.judge, input.outcome, "as asked", LIVED_AT
                )
                self._course.take_verdict(said, LIVED_AT)
            case WaveTimeComes():
                self._begun += 1
            case _:
                assert_never(input)

    def _plan(self) -> None:
        """Follow the plan until it says nothing new. Raises: PlanEndless."""
        for _ in range(PLANS_MAX):
            hold_waves(self._bounds, self._view, self._begun)
            actions = self._machine.replan(self._view, self._course.quarantines, DISPATCHED_AT)
            if not actions:
                return
            self._compare(actions)
            for action in actions:
                self._follow(action)
        raise PlanEndless(self._course.did)

    def _after(self) -> ControlPlane:
        """Return what the control plane knows now."""
        view = self._view
        records = [view.rollouts[terms.rollout_id] for terms in self._opened]
        seats = (
            tuple(
                Seat(
                    self._nameless(terms, name),
                    view.is_queued(record.rollout_id, name),
                    record.standing_of(name),
                    record.attempt_of(name),
                    name in record.drifted,
                )
                for terms, record in zip(self._opened, records, strict=True)
            )
            for name in self._bounds.hostnames
        )
        return ControlPlane(
            seats=tuple(seats),
            rollouts=tuple(
                evolve(r, standings=NO_STANDINGS, attempts=NO_ATTEMPTS, drifted=NO_DRIFTS)
                for r in records
            ),
            quarantined=self._course.quarantines[CHANNEL],
            is_paused=self._is_paused,
            begun=self._begun,
            in_minute=view.beginnings.count(BUDGET),
        )

    def _nameless(self, terms: RolloutTerms, name: str) -> HostRolloutState:
        """Return a host's record; of one that left, a new one."""
        record = self._view.host(terms.rollout_id, name) or HostRolloutState.pending(
            terms.rollout_id, name, terms.channel, terms.targets[name], None, None
        )
        return evolve(record, hostname=NAMELESS)

    @property
    def _opened(self) -> tuple[RolloutTerms, ...]:
        return tuple(t for t in self._bounds.terms if t.rollout_id in self._view.rollouts)

    # The plan.

    def _compare(self, actions: tuple[PlanAction, ...]) -> None:
        fresh = view_of(self._bounds, self._after(), UndoLog())
        for terms in self._view.offers.values():
            fresh.offer(terms)
        planned = self._machine.plan(fresh, self._course.quarantines, DISPATCHED_AT)
        if _due(planned) != _due(actions) or not set(actions) <= set(planned):
            self._disagreement = f"a fresh plan says {planned}, the kept one {actions}"

    def _follow(self, action: PlanAction) -> None:
        at = DISPATCHED_AT
        if isinstance(action, QueueDispatch):
            record = self._course.host(action.rollout_id, action.host)
            at = DISPATCHED_AT if record.dispatched_at is None else DISPATCHED_AGAIN_AT
        self._course.carry_out(action, at)


def unsettled(bounds: Bounds, machine: ReducerSet, control_plane: ControlPlane) -> str | None:
    """Return what a fresh plan would still have the control plane do; `None`: nothing, all was done."""
    fresh = view_of(bounds, control_plane, UndoLog())
    quarantines = {CHANNEL: control_plane.quarantined}
    due = _due(machine.plan(fresh, quarantines, DISPATCHED_AT))
    return f"a fresh plan says {due}, the kept one nothing" if due else None


def _due(actions: tuple[PlanAction, ...]) -> tuple[PlanAction, ...]:
    """The decisions that change something. The plan over a kept view leaves out deferrals that were reported before."""
    return tuple(action for action in actions if not isinstance(action, DeferDispatch))
