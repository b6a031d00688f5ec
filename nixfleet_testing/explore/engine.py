"""The control plane of a bounded world at work: one input, and the control plane after it.

It calls reducers and planner in the order of the control plane's engine: a fact moves its host, the transition is
applied to the rollout, the rollout advances as far as it can, and then plans are carried out until a plan is empty.
Nothing is decided here.
Source: docs/spec/rollout-machine.md, Who emits rollout events; docs/spec/runtimes.md, Control plane.
"""

from collections.abc import Iterable, Mapping, Set
from typing import assert_never

from attrs import evolve, frozen

from nixfleet_proto.agent_event import DispatchAck
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
    HostsLapsed,
    HostStateChanged,
    OperatorClearance,
    RetryOrdered,
    RolloutEvent,
    RolloutOpened,
    StandingChanged,
    SuccessorOpened,
    WaveBroken,
    subject_of,
)
from nixfleet_state_machine.rollout.state import NO_ATTEMPTS, NO_STANDINGS, RolloutState, Standing
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.explore.bounds import (
    CHANNEL,
    DISPATCHED_AGAIN_AT,
    DISPATCHED_AT,
    LIVED_AT,
    PASSED_AT,
    Bounds,
)
from nixfleet_testing.explore.inputs import (
    Clear,
    Hear,
    HearOf,
    Input,
    PassTime,
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
            case PassTime():
                self._pass_time(self._bounds.hostnames[input.host], input.is_off)
            case HearOf():
                self._hear_of(self._bounds.hostnames[input.host])
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
                    record.standing_of(name),
                    record.attempt_of(name),
                )
                for record in records
            )
            for name in self._bounds.hostnames
        )
        return ControlPlane(
            seats=tuple(seats),
            rollouts=tuple(
                evolve(r, standings=NO_STANDINGS, attempts=NO_ATTEMPTS) for r in records
            ),
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
        before = self._host(rollout_id, name)
        record, effects = self._machine.step(
            before, Remote(heard.fact), LIVED_AT, self._bounds.rollout_policy
        )
        self._view.set_host(record)
        self._view.set_outstanding(rollout_id, name, outstanding(record))
        if before.dispatch_acked_at is None or isinstance(heard.fact, DispatchAck):
            # Whatever the host said first, it has its dispatch.
            self._view.set_queued(rollout_id, name, False)
        for effect in effects:
            if (
                isinstance(effect, RemoteInsertQuarantine)
                and blames_closure(record)
                and self._machine.bars_closure(self._view, rollout_id, name)
            ):
                self._quarantine(effect.closure)
        self._change(self._machine.reported_again(self._view, rollout_id, name, LIVED_AT))
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
        if isinstance(event, WaveBroken):
            for closure in self._machine.reverted_closures(self._view, after.rollout_id):
                self._quarantine(closure)

    def _join(self, rollout_id: RolloutId, name: str) -> None:
        if self._view.rollouts[rollout_id].state is RolloutState.OPENING:
            wave = self._view.terms(rollout_id).wave_of[name]
            self._move_rollout(HostJoined(rollout_id, name, wave, LIVED_AT))

    def _tell_rollout(self, moved: RecordTransition) -> None:
        self._did.append(f"{moved.host} goes from {moved.from_} to {moved.to}")
        rollout_id, host = moved.rollout_id, moved.host
        standing = self._view.rollouts[rollout_id].standing_of(host)
        # An excused host does not count: its rollback may end after the clearance, and would halt anew.
        if standing is not Standing.EXCUSED:
            is_tolerant = self._view.terms(rollout_id).is_tolerant_of(host)
            is_tolerant = is_tolerant or standing is not Standing.COUNTED
            self._move_rollout(
                HostStateChanged(rollout_id, host, moved.from_, moved.to, moved.at, is_tolerant)
            )
            if moved.to in (HostState.FAILED, HostState.REVERTED):
                self._judge(rollout_id, (host,))
        self._advance(rollout_id)

    def _judge(self, rollout_id: RolloutId, hosts: Iterable[str]) -> None:
        for host in hosts:
            broken = self._machine.wave_broken(self._view, rollout_id, host, LIVED_AT)
            if broken is not None:
                self._move_rollout(broken)
                return
        for host in hosts:
            skipped = self._machine.skipped_with(self._view, rollout_id, host, LIVED_AT)
            if skipped is not None:
                self._change(skipped)
                self._judge(rollout_id, skipped.hosts)

    def _change(self, event: StandingChanged | None) -> None:
        if event is not None:
            self._move_rollout(event)
            self._did.extend(f"{host} is {event.standing}: {event.reason}" for host in event.hosts)

    def _advance(self, rollout_id: RolloutId) -> None:
        while events := self._machine.due_rollout_events(self._view, rollout_id, LIVED_AT):
            for event in events:
                self._move_rollout(event)

    def _clear(self, rollout_id: RolloutId) -> None:
        excused = frozenset(self._holding(rollout_id))
        self._move_rollout(OperatorClearance(rollout_id, "ada", "seen to it", excused, LIVED_AT))
        for skipped in self._machine.skips_due(self._view, rollout_id, LIVED_AT):
            self._change(skipped)
        self._advance(rollout_id)

    def _holding(self, rollout_id: RolloutId) -> Iterable[str]:
        """Yield whom an operator excuses who names nobody: those for which the rollout would be halted still."""
        rollout, terms = self._view.rollouts[rollout_id], self._view.terms(rollout_id)
        for record in self._view.hosts_of(rollout_id):
            name = record.hostname
            is_fallen = record.state in (HostState.FAILED, HostState.REVERTED)
            is_absent = rollout.standing_of(name).is_absent
            if (
                (is_fallen and rollout.attempt_of(name) == record.attempt)
                or rollout.standing_of(name) is Standing.LAPSED
                or (is_absent and terms.wave_of[name] == rollout.current_wave)
            ):
                yield name

    # Time.

    def _pass_time(self, name: str, is_off: bool) -> None:
        """Apply what the time makes due for one host; that of another passes in a move of its own."""
        heard_at = None if is_off else PASSED_AT
        due = self._machine.due_by_time(self._view, PASSED_AT, lambda _: heard_at)
        for event in due:
            if isinstance(event, HostsLapsed) and name in event.hosts:
                self._lapse(evolve(event, hosts=(name,)))
            elif isinstance(event, RetryOrdered) and name in event.hosts:
                self._order(evolve(event, hosts=(name,)))

    def _lapse(self, event: HostsLapsed) -> None:
        self._move_rollout(event)
        for name in event.hosts:
            self._did.append(f"{name} is {event.standing}: it was silent past its {event.stage}")
            if event.withdraws:
                self._view.set_queued(event.rollout_id, name, False)
        self._judge(event.rollout_id, event.hosts)
        self._advance(event.rollout_id)

    def _order(self, event: RetryOrdered) -> None:
        self._move_rollout(event)
        for name in event.hosts:
            self._did.append(f"attempt {event.attempt} of {name} is ordered")
            record = self._host(event.rollout_id, name)
            if record.may_try_again:
                # The next attempt has times of its own.
                self._view.set_host(record.dispatched(None, None))

    def _hear_of(self, name: str) -> None:
        for rollout_id in self._view.served_rollouts():
            event = self._machine.heard_again(self._view, rollout_id, name, LIVED_AT)
            if event is not None:
                self._change(event)
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
            case QueueDispatch() if not self._view.rollouts[action.rollout_id].state.is_served:
                pass  # An earlier action of this plan opened the rollout's successor.
            case QueueDispatch():
                record = self._host(action.rollout_id, action.host)
                at = DISPATCHED_AT if record.dispatched_at is None else DISPATCHED_AGAIN_AT
                noted = self._machine.note_dispatch(record, at, action.soak_due_at)
                self._view.set_host(noted)
                self._view.set_queued(action.rollout_id, action.host, True, DISPATCHED_AT)
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
