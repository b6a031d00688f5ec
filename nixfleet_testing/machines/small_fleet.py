"""A small fleet: offered rollouts open, gates hold or pass, hosts report or are silent, operators act.

The machine is the simplest engine: it carries out a plan at once, and applies what follows to the rollouts.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import ClassVar, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import DeferDispatch, PlanAction, QueueDispatch
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.course.amended import without_host
from nixfleet_testing.course.course import Course
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.machines.script import ScriptedMachine
from nixfleet_testing.pauses import is_paused, pause, resume
from nixfleet_testing.strategies import (
    fleets,
    legal_facts,
    next_facts,
    policies,
    terms,
    times,
)

_Command: TypeAlias = tuple[Callable[..., None], tuple[object, ...]]
"""A method of the machine, and its arguments but the time."""

BY_HAND = "changed-by-hand"
"""What a host runs that somebody changed."""


@st.composite
def _offers(draw: st.DrawFn) -> tuple[RolloutTerms, ...]:
    fleet = draw(fleets())
    return tuple(draw(terms(fleet, channel)) for channel in sorted(fleet.channels))


class SmallFleetMachine(ScriptedMachine):
    """Runs one rollout a channel by the production planner and reducers. Override the `check_…` methods.

    view: the fleet as it is now. quarantines: barred closures by channel.
    reducers: the decisions; a subclass may have others.
    """

    reducers: ClassVar[ReducerSet] = ReducerSet()
    view: FleetView
    policy: RolloutPolicy
    quarantines: dict[str, frozenset[str]]

    def begin(self, offers: tuple[RolloutTerms, ...], policy: RolloutPolicy) -> None:
        """Start with one rollout offered for each channel."""
        self.keep_call("begin", offers, policy)
        self.view, self.policy, self.quarantines = FleetView(UndoLog()), policy, {}
        self._course = Course(
            self.view, policy, self.reducers, self.quarantines, on_event=self.check_event
        )
        self._declared = offers
        self._last_heard: dict[str, datetime] = {}
        for offered in offers:
            self.view.offer(offered)
        self.check_fleet(self.view)

    def plan(self, now: datetime) -> None:
        """Plan, and carry it out."""
        self.keep_call("plan", now)
        actions = self.reducers.plan(self.view, self.quarantines, now)
        self.check_plan(self.view, actions)
        for action in actions:
            self._course.carry_out(action, now)
        self.check_fleet(self.view)

    def report(self, rollout_id: RolloutId, hostname: str, fact: AgentEvent, now: datetime) -> None:
        """Report `fact` of a host, and advance its rollout as far as possible."""
        self.keep_call("report", rollout_id, hostname, fact, now)
        before = self._course.host(rollout_id, hostname)
        after, effects = self._course.take_fact(rollout_id, hostname, fact, now)
        self._last_heard[hostname] = now
        self.check_report(before, fact, after, effects)
        self.check_fleet(self.view)

    def beat(self, hostname: str, running: str, now: datetime) -> None:
        """Send two heartbeats of a host, which show that it runs `running`. One alone is no drift."""
        self.keep_call("beat", hostname, running, now)
        self._last_heard[hostname] = now
        self._course.hear_of(hostname, now)
        self._course.see_running(hostname, running, now)
        self.check_fleet(self.view)

    def pass_time(self, now: datetime) -> None:
        """Apply what the time has made due: deadlines, and attempts whose back-off is over."""
        self.keep_call("pass_time", now)
        self._course.pass_time(now, self._last_heard.get)
        again = self.reducers.due_by_time(self.view, now, self._last_heard.get)
        assert not again, f"due again: {again}"
        self.check_fleet(self.view)

    def clear(self, rollout_id: RolloutId, now: datetime) -> None:
        """Clear a halted rollout as an operator; hosts that failed, lapsed or do not come are excused."""
        self.keep_call("clear", rollout_id, now)
        self._course.clear(rollout_id, now)
        self.check_fleet(self.view)

    def pause(self, scope: str) -> None:
        """Pause a channel or a rollout as an operator, or resume it if it is paused."""
        self.keep_call("pause", scope)
        (resume if is_paused(self.view, scope) else pause)(self.view, scope)
        self.check_fleet(self.view)

    def excuse(self, rollout_id: RolloutId, hostname: str, now: datetime) -> None:
        """Excuse a host of a live rollout as an operator."""
        self.keep_call("excuse", rollout_id, hostname, now)
        self._course.stand(rollout_id, (hostname,), Standing.EXCUSED, now)
        self.check_fleet(self.view)

    def skip(self, rollout_id: RolloutId, hostname: str, now: datetime) -> None:
        """Skip a host of a live rollout as an operator: it is off, and counts for nothing until it is heard of."""
        self.keep_call("skip", rollout_id, hostname, now)
        self._course.stand(rollout_id, (hostname,), Standing.AWAY, now)
        self.check_fleet(self.view)

    def retry(self, rollout_id: RolloutId, hostname: str, now: datetime) -> None:
        """Order one attempt more of a host that failed, as an operator."""
        self.keep_call("retry", rollout_id, hostname, now)
        self._course.retry(rollout_id, hostname, now)
        self.check_fleet(self.view)

    def amend(self, amended: RolloutTerms, now: datetime) -> None:
        """Put a manifest of an open rollout in force that differs in its hosts alone."""
        self.keep_call("amend", amended, now)
        self._course.amend(amended, now)
        self.check_fleet(self.view)

    # --- checks: override, and call `super` ----------------------------------------------------------

    def check_fleet(self, view: FleetView) -> None:
        """Called with the current view of the fleet."""
        for declared in self._declared:
            if declared.rollout_id in view.open_rollouts:
                self._check_members(view, declared)

    def _check_members(self, view: FleetView, declared: RolloutTerms) -> None:
        """Each host that was declared has a record, or left."""
        rollout, present = view.rollouts[declared.rollout_id], view.terms(declared.rollout_id)
        for name in declared.targets:
            has_left = rollout.standing_of(name) is Standing.LEFT
            assert (name in present.targets) is not has_left, f"members: {name} {has_left}"
            assert (view.host(declared.rollout_id, name) is None) is has_left, (name, has_left)

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

    def check_event(self, before: RolloutRecord, event: RolloutEvent, after: RolloutRecord) -> None:
        """Called when a rollout took `event`: a host lapsed, drifted or tries again, a wave is done, …"""
        assert after.current_wave >= before.current_wave
        assert all(number >= before.attempt_of(host) for host, number in after.attempts.items()), (
            event
        )

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

    @precondition(lambda self: any(self._at_work()))
    @rule(data=st.data(), fails=st.booleans(), now=times())
    def _work(self, data: st.DataObject, fails: bool, now: datetime) -> None:
        """A host goes straight to the end of its attempt. By single facts the end of a rollout is rarely reached."""
        first = data.draw(st.sampled_from(list(self._at_work())))
        key = first.rollout_id, first.hostname
        while self._is_at_work(host := self._course.host(*key)):
            self.report(*key, data.draw(next_facts(host, fails=fails)), now)

    @precondition(lambda self: any(self._beats()))
    @rule(data=st.data(), now=times())
    def _beat(self, data: st.DataObject, now: datetime) -> None:
        hostname, running = data.draw(st.sampled_from(list(self._beats())))
        self.beat(hostname, running, now)

    @precondition(lambda self: self.view.next_due() is not None)
    @rule(seconds=st.integers(0, 600))
    def _pass_time(self, seconds: int) -> None:
        due_at = self.view.next_due()
        assert due_at is not None
        self.pass_time(due_at + timedelta(seconds=seconds))

    # One rule for all that people do: hosts, time and plans are to have most of the history.
    @precondition(lambda self: self.view.rollouts)
    @rule(data=st.data(), now=times())
    def _command(self, data: st.DataObject, now: datetime) -> None:
        kinds = (self._pauses, self._clearances, self._changes, self._retries, self._amendments)
        possible = [commands for kind in kinds if (commands := list(kind()))]
        method, arguments = data.draw(st.sampled_from(data.draw(st.sampled_from(possible))))
        method(*arguments, *(() if method == self.pause else (now,)))

    # --- what is possible ----------------------------------------------------------------------------

    def _records(self) -> Iterator[HostRolloutState]:
        for rollout_id in sorted(self.view.open_rollouts):
            yield from self.view.hosts_of(rollout_id)

    def _reporting(self) -> Iterator[HostRolloutState]:
        """The hosts that have something to say: a dispatch to acknowledge, or a life that goes on."""
        for host in self._records():
            is_asked = self.view.is_handed_out(host.rollout_id, host.hostname)
            if host.state in _GOING_ON or is_asked:
                yield host

    def _at_work(self) -> Iterator[HostRolloutState]:
        return filter(self._is_at_work, self._records())

    def _is_at_work(self, host: HostRolloutState) -> bool:
        """Whether the host has a dispatch to acknowledge, or a switch, a soak or a rollback under way."""
        is_asked = self.view.is_handed_out(host.rollout_id, host.hostname)
        return is_asked or (host.state in _GOING_ON and not host.may_try_again)

    def _beats(self) -> Iterator[tuple[str, str]]:
        """Heartbeats: a host, and what it runs. Of most hosts they change nothing."""
        for host in self._records():
            yield host.hostname, host.target_closure
            yield host.hostname, BY_HAND

    def _pauses(self) -> Iterator[_Command]:
        for rollout_id in sorted(self.view.rollouts):
            yield self.pause, (rollout_id.channel,)
            yield self.pause, (rollout_id,)

    def _clearances(self) -> Iterator[_Command]:
        for rollout_id, record in sorted(self.view.rollouts.items()):
            if record.state.is_halted:
                yield self.clear, (rollout_id,)

    def _changes(self) -> Iterator[_Command]:
        """Of a live rollout hosts may be excused or skipped."""
        for host in self._records():
            if self.view.rollouts[host.rollout_id].state.is_live:
                yield self.excuse, (host.rollout_id, host.hostname)
                yield self.skip, (host.rollout_id, host.hostname)

    def _retries(self) -> Iterator[_Command]:
        for host in self._records():
            rollout = self.view.rollouts[host.rollout_id]
            is_ordered = rollout.attempt_of(host.hostname) > host.attempt
            is_ready = host.has_failed and host.may_try_again and not is_ordered
            # One that rolled back obeys no more attempts than were signed.
            allowed = self.view.terms(host.rollout_id).retry.attempts
            is_ready = is_ready and (host.state is HostState.FAILED or host.attempt < allowed)
            if is_ready and rollout.state.is_served:
                yield self.retry, (host.rollout_id, host.hostname)

    def _amendments(self) -> Iterator[_Command]:
        """A manifest may remove one host, of which another is in the wave, or bring back all that were removed."""
        for declared in self._declared:
            record = self.view.rollouts.get(declared.rollout_id)
            if record is None or not record.state.is_served:
                continue
            present = self.view.terms(declared.rollout_id)
            if present != declared:
                yield self.amend, (declared,)
            for host, wave in present.wave_of.items():
                if present.wave_sizes[wave] > 1:
                    yield self.amend, (without_host(present, host),)


_GOING_ON = (HostState.ACTIVATING, HostState.DEFERRED, HostState.SOAKING, HostState.FAILED)
