"""A small fleet: offered rollouts open, gates hold or pass, hosts report, operators pause and clear.

The machine is the simplest engine: it carries out a plan at once, and applies host transitions to their rollouts.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import assert_never

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.blame import blames_closure
from nixfleet_state_machine.host.effect import HostEffect, RemoteInsertQuarantine
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import (
    HostJoined,
    HostStateChanged,
    OperatorClearance,
    RolloutEvent,
    RolloutOpened,
    subject_of,
)
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.machines.script import ScriptedMachine
from nixfleet_testing.strategies import fleets, legal_facts, policies, terms, times


@st.composite
def _offers(draw: st.DrawFn) -> tuple[RolloutTerms, ...]:
    fleet = draw(fleets())
    return tuple(draw(terms(fleet, channel)) for channel in sorted(fleet.channels))


class SmallFleetMachine(ScriptedMachine):
    """Runs one rollout a channel by the production planner and reducers. Override the `check_…` methods.

    view: the fleet as it is now. quarantines: barred closures by channel.
    """

    view: FleetView
    policy: RolloutPolicy
    quarantines: dict[str, frozenset[str]]

    def begin(self, offers: tuple[RolloutTerms, ...], policy: RolloutPolicy) -> None:
        """Start with one rollout offered for each channel."""
        self.keep_call("begin", offers, policy)
        self.view, self.policy, self.quarantines = FleetView(UndoLog()), policy, {}
        for offered in offers:
            self.view.offer(offered)
        self.check_fleet(self.view)

    def plan(self, now: datetime) -> None:
        """Plan, and carry it out."""
        self.keep_call("plan", now)
        actions = plan_next(self.view, self.quarantines, now)
        self.check_plan(self.view, actions)
        for action in actions:
            self._carry_out(action, now)
        self.check_fleet(self.view)

    def report(self, rollout_id: RolloutId, hostname: str, fact: AgentEvent, now: datetime) -> None:
        """Report `fact` of a host, and advance its rollout as far as possible."""
        self.keep_call("report", rollout_id, hostname, fact, now)
        before = self.view.host(rollout_id, hostname)
        assert before is not None, (rollout_id, hostname)
        after, effects = step(before, Remote(fact), now, self.policy)
        self.view.set_host(after)
        if before.state is HostState.PENDING:
            self.view.set_queued(rollout_id, hostname, False)
        if blames_closure(after):
            self._quarantine(effects)
        is_counted = hostname not in self.view.rollouts[rollout_id].excused_hosts
        if is_counted and after.state is not before.state:
            self._tell(HostStateChanged(rollout_id, hostname, before.state, after.state, now), now)
        self._go_on(rollout_id, now)
        self.check_report(before, fact, after, effects)
        self.check_fleet(self.view)

    def clear(self, rollout_id: RolloutId, now: datetime) -> None:
        """Clear a halted rollout as an operator; hosts that failed are excused."""
        self.keep_call("clear", rollout_id, now)
        ended = (HostState.FAILED, HostState.REVERTED)
        hosts = self.view.hosts_of(rollout_id)
        excused = frozenset(host.hostname for host in hosts if host.state in ended)
        self._tell(OperatorClearance(rollout_id, "alice", "disk replaced", excused, now), now)
        self._go_on(rollout_id, now)
        self.check_fleet(self.view)

    def pause(self, scope: str) -> None:
        """Pause a channel or a rollout as an operator, or resume it if it is paused."""
        self.keep_call("pause", scope)
        (self.view.release if scope in self.view.holds else self.view.hold)(scope)
        self.check_fleet(self.view)

    # --- checks: override, and call `super` ----------------------------------------------------------

    def check_fleet(self, view: FleetView) -> None:
        """Called with the current view of the fleet."""

    def check_plan(self, view: FleetView, actions: tuple[PlanAction, ...]) -> None:
        """Called when `actions` were planned for `view`; they are not carried out yet."""
        for action in actions:
            if isinstance(action, QueueDispatch | DeferDispatch):
                assert view.is_waiting(action.rollout_id, action.host), action

    def check_report(
        self,
        before: HostRolloutState,
        fact: AgentEvent,
        after: HostRolloutState,
        effects: tuple[HostEffect, ...],
    ) -> None:
        """Called when a host has reported `fact` and its rollout has been updated."""
        assert after.target_closure == before.target_closure

    # --- carrying out --------------------------------------------------------------------------------

    def _carry_out(self, action: PlanAction, now: datetime) -> None:
        match action:
            case OpenRollout():
                self._open(self.view.offers[action.channel], now)
            case QueueDispatch():
                self._queue(action, now)
            case WithdrawDispatch():
                self.view.set_queued(action.rollout_id, action.host, False)
                self._note_dispatch(action.rollout_id, action.host, None, None)
            case DeferDispatch():
                pass
            case _:
                assert_never(action)

    def _open(self, offered: RolloutTerms, now: datetime) -> None:
        opened = RolloutOpened(offered.rollout_id, offered.channel, offered.target_ref, now)
        self.view.open(open_rollout(opened, 1, self.view.rollouts_of(offered.channel)), offered)
        for name, target in offered.targets.items():
            self.view.set_host(
                HostRolloutState.pending(
                    offered.rollout_id, name, offered.channel, target, None, None
                )
            )

    def _queue(self, action: QueueDispatch, now: datetime) -> None:
        self._note_dispatch(action.rollout_id, action.host, now, action.soak_due_at)
        self.view.set_queued(action.rollout_id, action.host, True)
        wave = self.view.terms(action.rollout_id).wave_of[action.host]
        self._tell(HostJoined(action.rollout_id, action.host, wave, now), now)

    def _note_dispatch(
        self, rollout_id: RolloutId, host: str, at: datetime | None, soak_due_at: datetime | None
    ) -> None:
        record = self.view.host(rollout_id, host)
        assert record is not None, (rollout_id, host)
        self.view.set_host(record.dispatched(at, soak_due_at))

    def _quarantine(self, effects: Iterable[HostEffect]) -> None:
        for effect in effects:
            if isinstance(effect, RemoteInsertQuarantine):
                known = self.quarantines.get(effect.channel, frozenset())
                self.quarantines[effect.channel] = known | {effect.closure}
                self.view.quarantine_changed(effect.channel, effect.closure)

    def _tell(self, event: RolloutEvent, now: datetime) -> None:
        record = self.view.rollouts[subject_of(event)]
        self.view.set_rollout(step_rollout(record, event, now)[0])

    def _go_on(self, rollout_id: RolloutId, now: datetime) -> None:
        for event in due_rollout_events(self.view, rollout_id, now):
            self._tell(event, now)

    # --- rules ---------------------------------------------------------------------------------------

    @initialize(offers=_offers(), policy=policies())
    def _begin(self, offers: tuple[RolloutTerms, ...], policy: RolloutPolicy) -> None:
        self.begin(offers, policy)

    @rule(now=times())
    def _plan(self, now: datetime) -> None:
        self.plan(now)

    @precondition(lambda self: any(self._reporting()))
    @rule(data=st.data(), now=times())
    def _report(self, data: st.DataObject, now: datetime) -> None:
        host = data.draw(st.sampled_from(list(self._reporting())))
        fact = data.draw(legal_facts(host))
        self.report(host.rollout_id, host.hostname, fact, now)

    @precondition(lambda self: any(self._halted()))
    @rule(data=st.data(), now=times())
    def _clear(self, data: st.DataObject, now: datetime) -> None:
        self.clear(data.draw(st.sampled_from(list(self._halted()))), now)

    @rule(data=st.data())
    def _pause(self, data: st.DataObject) -> None:
        self.pause(data.draw(st.sampled_from([*self.view.offers, *sorted(self.view.rollouts)])))

    def _reporting(self) -> Iterator[HostRolloutState]:
        """The hosts that have something to say: a dispatch to acknowledge, or a life that goes on."""
        for rollout_id in sorted(self.view.rollouts):
            for host in self.view.hosts_of(rollout_id):
                if host.state in _GOING_ON or self.view.is_handed_out(rollout_id, host.hostname):
                    yield host

    def _halted(self) -> Iterator[RolloutId]:
        for rollout_id, record in sorted(self.view.rollouts.items()):
            if record.state.is_halted:
                yield rollout_id


_GOING_ON = (HostState.ACTIVATING, HostState.DEFERRED, HostState.SOAKING, HostState.FAILED)
