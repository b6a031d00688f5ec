"""What follows from a fact, from the time, from an operator's word and from a plan, applied to a view.

In the order of the control plane's engine: a fact moves its host, the transition is applied to the rollout, and the
rollout advances as far as it can. All decisions are those of a `ReducerSet`; none is taken here.
Source: docs/spec/rollout-machine.md, Who emits rollout events; docs/spec/policy.md.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import Factory, define, evolve

from nixfleet_proto.agent_event import AgentEvent, DispatchAck, ProbeMode, ProbeStatus
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.blame import blames_closure
from nixfleet_state_machine.host.effect import (
    HostEffect,
    RecordTransition,
    RemoteInsertQuarantine,
)
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.planner.verdict import waves_without
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
    subject_of,
)
from nixfleet_state_machine.rollout.state import (
    BEFORE_FIRST_WAVE,
    RolloutRecord,
    RolloutState,
    Standing,
)
from nixfleet_testing.course.reducer_set import ReducerSet

OnEvent: TypeAlias = Callable[[RolloutRecord, RolloutEvent, RolloutRecord], None]
"""Called with a rollout's record before an event, the event, and the record after it."""


def _ignore(before: RolloutRecord, event: RolloutEvent, after: RolloutRecord) -> None:
    """Do nothing."""


@define
class Course:
    """A view, and what happens to it. quarantines: barred closures by channel. policy: what hosts do when they fail.

    did: what was done, in words. on_event: called for every event of a rollout.
    """

    view: FleetView
    policy: RolloutPolicy
    reducers: ReducerSet = Factory(ReducerSet)
    quarantines: dict[str, frozenset[str]] = Factory(dict[str, frozenset[str]])
    on_event: OnEvent = _ignore
    did: list[str] = Factory(list[str])

    # --- facts -------------------------------------------------------------------------------------

    def take_fact(
        self, rollout_id: RolloutId, host: str, fact: AgentEvent, now: datetime
    ) -> tuple[HostRolloutState, tuple[HostEffect, ...]]:
        """Apply a fact; return the record after it, and its effects. Raises: TransitionError."""
        before = self.host(rollout_id, host)
        record, effects = self.reducers.step(before, Remote(fact), now, self.policy)
        self.view.set_host(record)
        self.view.set_outstanding(rollout_id, host, outstanding(record))
        if before.dispatch_acked_at is None or isinstance(fact, DispatchAck):
            # Whatever the host said first, it has its dispatch.
            self.view.set_queued(rollout_id, host, False)
        for effect in effects:
            if (
                isinstance(effect, RemoteInsertQuarantine)
                and blames_closure(record)
                and self.reducers.bars_closure(self.view, rollout_id, host)
            ):
                self._quarantine(effect.channel, effect.closure)
        self._change(self.reducers.reported_again(self.view, rollout_id, host, now), now)
        self._join(rollout_id, host, now)
        for effect in effects:
            if isinstance(effect, RecordTransition):
                self._notify(effect, now)
        return record, effects

    def host(self, rollout_id: RolloutId, host: str) -> HostRolloutState:
        """Return the record of a host that the rollout has."""
        record = self.view.host(rollout_id, host)
        assert record is not None, (rollout_id, host)
        return record

    def _quarantine(self, channel: str, closure: str) -> None:
        known = self.quarantines.get(channel, frozenset())
        if closure not in known:
            self.quarantines[channel] = known | {closure}
            self.view.quarantine_changed(channel, closure)
            self.did.append(f"{closure} is quarantined")

    # --- rollouts ----------------------------------------------------------------------------------

    def _move(self, event: RolloutEvent, now: datetime) -> None:
        before = self.view.rollouts[subject_of(event)]
        after, _ = self.reducers.step_rollout(before, event, now)
        self.view.set_rollout(after)
        if after.state is not before.state:
            self.did.append(f"{after.rollout_id} goes from {before.state} to {after.state}")
        if after.current_wave != before.current_wave:
            self.did.append(f"{after.rollout_id} goes on to wave {after.current_wave}")
        self._follow_up(event)
        self.on_event(before, event, after)

    def _follow_up(self, event: RolloutEvent) -> None:
        match event:
            case HostsLapsed():
                since = f"it was silent past its {event.stage}"
                self.did.extend(f"{host} is {event.standing}: {since}" for host in event.hosts)
                if event.withdraws:
                    self._withdraw(event.rollout_id, event.hosts)
            case StandingChanged():
                self.did.extend(f"{h} is {event.standing}: {event.reason}" for h in event.hosts)
                if event.standing.is_silent:
                    self._withdraw(event.rollout_id, event.hosts)
            case RetryOrdered():
                for host in event.hosts:
                    self.did.append(f"attempt {event.attempt} of {host} is ordered")
                    record = self.host(event.rollout_id, host)
                    if record.may_try_again:
                        # The next attempt has times of its own.
                        self.view.set_host(record.dispatched(None, None))
            case WaveBroken():
                channel = event.rollout_id.channel
                for closure in self.reducers.reverted_closures(self.view, event.rollout_id):
                    self._quarantine(channel, closure)
            case HostDrifted():
                self.did.append(f"{event.host_id} has drifted: it runs {event.running}")
            case RolloutAborted():
                self.did.append(f"{event.rollout_id} is aborted")
            case DriftEnded():
                self.did.append(f"the drift of {event.host_id} has ended")
            case GuardsOpened():
                self.did.append(f"the guards of wave {event.wave} are asked")
            case Verdict():
                self.did.append(f"{event.judge} says {event.outcome} of {event.guard}")
            case (
                RolloutOpened()
                | HostJoined()
                | HostStateChanged()
                | WaveAdvanced()
                | RolloutTerminal()
                | SuccessorOpened()
                | RetentionExpired()
                | OperatorClearance()
                | MembersChanged()
            ):
                pass
            case _:
                assert_never(event)

    def _withdraw(self, rollout_id: RolloutId, hosts: Iterable[str]) -> None:
        for host in hosts:
            self.view.set_queued(rollout_id, host, False)

    def _join(self, rollout_id: RolloutId, host: str, now: datetime) -> None:
        if self.view.rollouts[rollout_id].state is RolloutState.OPENING:
            wave = self.view.terms(rollout_id).wave_of.get(host, 0)
            self._move(HostJoined(rollout_id, host, wave, now), now)
            self._judge(rollout_id, self._skip_in_vain(rollout_id, now), now)

    def _notify(self, moved: RecordTransition, now: datetime) -> None:
        """Tell a rollout of a host's transition, and go on with it."""
        self.did.append(f"{moved.host} goes from {moved.from_} to {moved.to}")
        rollout_id, host = moved.rollout_id, moved.host
        ended = self.reducers.drift_ended(self.view, rollout_id, host, None, now)
        if ended is not None:
            self._move(ended, now)
        standing = self.view.rollouts[rollout_id].standing_of(host)
        # An excused host does not count: its rollback may end after the clearance, and would halt anew.
        if standing is not Standing.EXCUSED and standing is not Standing.LEFT:
            is_tolerant = self.view.terms(rollout_id).is_tolerant_of(host)
            is_tolerant = is_tolerant or standing is not Standing.COUNTED
            self._move(
                HostStateChanged(rollout_id, host, moved.from_, moved.to, moved.at, is_tolerant),
                now,
            )
            if moved.to.is_failure:
                self._judge(rollout_id, (host,), now)
        self._advance(rollout_id, now)

    def _judge(self, rollout_id: RolloutId, hosts: Iterable[str], now: datetime) -> None:
        """Halt the rollout if `hosts`, which count for less now, broke a wave; skip who waits for them if not."""
        for host in hosts:
            broken = self.reducers.wave_broken(self.view, rollout_id, host, now)
            if broken is not None:
                self._move(broken, now)
                return
        for host in hosts:
            skipped = self.reducers.skipped_with(self.view, rollout_id, host, now)
            if skipped is not None:
                self._move(skipped, now)
                self._judge(rollout_id, skipped.hosts, now)

    def _change(self, event: StandingChanged | None, now: datetime) -> None:
        if event is not None:
            self._move(event, now)

    def _advance(self, rollout_id: RolloutId, now: datetime) -> None:
        while events := self.reducers.due_rollout_events(self.view, rollout_id, now):
            for event in events:
                self._move(event, now)

    # --- operators ---------------------------------------------------------------------------------

    def clear(self, rollout_id: RolloutId, now: datetime) -> None:
        """Clear a halted rollout, excusing the hosts for which it would be halted still."""
        excused = frozenset(self._holding(rollout_id))
        waves = waves_without(self.view, rollout_id, excused)
        clearance = OperatorClearance(rollout_id, "ada", "seen to it", excused, now, waves)
        self._move(clearance, now)
        hosts = self._skip_in_vain(rollout_id, now)
        self._advance(rollout_id, now)
        self._judge(rollout_id, hosts, now)

    def _skip_in_vain(self, rollout_id: RolloutId, now: datetime) -> list[str]:
        """Skip who waits for hosts that stopped coming while the rollout was not under way, and return them."""
        hosts: list[str] = []
        for skipped in self.reducers.skips_due(self.view, rollout_id, now):
            self._move(skipped, now)
            hosts += skipped.hosts
        return hosts

    def abort(self, rollout_id: RolloutId, now: datetime) -> None:
        """End a rollout by an operator's order."""
        self._move(RolloutAborted(rollout_id, "ada", "it eats disks", now), now)

    def _holding(self, rollout_id: RolloutId) -> Iterator[str]:
        rollout = self.view.rollouts[rollout_id]
        for record in self.view.hosts_of(rollout_id):
            name = record.hostname
            is_last_attempt = rollout.attempt_of(name) == record.attempt
            if (record.state.is_failure and is_last_attempt) or (
                rollout.standing_of(name) is Standing.LAPSED
            ):
                yield name

    def stand(
        self, rollout_id: RolloutId, hosts: tuple[str, ...], standing: Standing, now: datetime
    ) -> None:
        """Give hosts of a live rollout another standing: `excused` as `excuse` does, `away` as `skip` does."""
        self._move(StandingChanged(rollout_id, hosts, standing, "ada: in repair", now), now)
        self._judge(rollout_id, hosts, now)
        self._advance(rollout_id, now)

    def retry(self, rollout_id: RolloutId, host: str, now: datetime) -> None:
        """Order one attempt more of a host that failed and may try again."""
        attempt = self.host(rollout_id, host).attempt + 1
        self._move(RetryOrdered(rollout_id, (host,), attempt, "ada: disk replaced", now), now)

    def amend(self, terms: RolloutTerms, now: datetime) -> None:
        """Put a manifest in force that adds or removes hosts of an open rollout, and nothing else."""
        rollout_id, before = terms.rollout_id, self.view.terms(terms.rollout_id)
        self.view.offer(terms)
        record = self.view.rollouts[rollout_id]
        event = self.reducers.members_change(before, terms, record, now)
        if event is None:
            return
        self._withdraw(rollout_id, event.left)
        self._move(event, now)
        self.view.amend(terms)
        for host in event.joined:
            self._open_record(terms, host)
        self.did.extend(f"{host} leaves {rollout_id}" for host in event.left)
        self.did.extend(f"{host} joins {rollout_id}" for host in event.joined)
        # A wave may be broken without those that left, of which only they succeeded. Any host of it stands for it.
        waves = {before.wave_of.get(host) for host in event.left}
        stand_in = {wave: host for host, wave in terms.wave_of.items() if wave in waves}
        self._judge(rollout_id, tuple(stand_in.values()), now)
        self._advance(rollout_id, now)

    # --- time and heartbeats -----------------------------------------------------------------------

    def pass_time(
        self,
        now: datetime,
        last_heard: Callable[[str], datetime | None],
        hosts: Set[str] | None = None,
    ) -> None:
        """Apply what the time has made due. hosts: only for these, as if the time of the others stood."""
        if hosts is None:
            self.return_slots(now)
        for event in self.reducers.due_by_time(self.view, now, last_heard):
            match event:
                case HostsLapsed() | RetryOrdered():
                    concerned = event.hosts if hosts is None else _only(event.hosts, hosts)
                    if concerned:
                        self._make_due(evolve(event, hosts=concerned), now)
                case Verdict() if hosts is None:
                    self.take_verdict(event, now)
                case Verdict():
                    pass  # The time of rollouts stands.
                case _:
                    self._move(event, now)

    def end_bakes(self, now: datetime) -> None:
        """Say of each bake that its time is over by `now`."""
        for event in self.reducers.due_by_time(self.view, now, lambda _: now):
            if isinstance(event, Verdict):
                self.take_verdict(event, now)

    def return_slots(self, now: datetime) -> None:
        """Give the slots of beginnings back whose minute is over."""
        for event in self.reducers.slots_due(self.view, now):
            self.view.return_slots(event.budget, event.begun_by)
            self.did.append(f"{event.count} slots of {event.budget} are free again")

    def _make_due(self, event: HostsLapsed | RetryOrdered, now: datetime) -> None:
        self._move(event, now)
        if isinstance(event, HostsLapsed):
            self._judge(event.rollout_id, event.hosts, now)
            self._advance(event.rollout_id, now)

    def hear_of(self, host: str, now: datetime) -> None:
        """Count a host again that was off, in every rollout, since it was heard of."""
        for rollout_id in self.view.served_rollouts():
            if self.view.host(rollout_id, host) is not None:
                event = self.reducers.heard_again(self.view, rollout_id, host, now)
                if event is not None:
                    self._move(event, now)
                    self._advance(rollout_id, now)

    def see_running(self, host: str, running: str, now: datetime) -> None:
        """Note that two heartbeats in a row showed a host to run `running`."""
        for rollout_id in self.view.served_rollouts():
            if self.view.host(rollout_id, host) is not None:
                event = self.reducers.drift_change(self.view, rollout_id, host, running, now)
                if event is not None:
                    self._move(event, now)

    # --- plans -------------------------------------------------------------------------------------

    def carry_out(self, action: PlanAction, now: datetime) -> None:
        """Carry one action of a plan out. Raises: SupersessionExpected."""
        match action:
            case OpenRollout():
                self._open(action, now)
            case QueueDispatch() if not self.view.rollouts[action.rollout_id].state.is_served:
                pass  # An earlier action of this plan opened the rollout's successor.
            case QueueDispatch() if self.view.rollouts[action.rollout_id].state.is_halted:
                pass  # An earlier action of this plan was its first, after a wave had been denied.
            case QueueDispatch():
                record = self.host(action.rollout_id, action.host)
                self.view.set_host(self.reducers.note_dispatch(record, now, action.soak_due_at))
                self.view.set_queued(action.rollout_id, action.host, True, now)
                for budget in sorted(
                    self.view.terms(action.rollout_id).minute_names_of(action.host)
                ):
                    self.view.note_beginning(budget, now)
                self.did.append(f"{action.host} is dispatched")
                self._join(action.rollout_id, action.host, now)
            case WithdrawDispatch():
                self.view.set_queued(action.rollout_id, action.host, False)
                self.did.append(f"the dispatch of {action.host} is withdrawn: {action.gate}")
            case DeferDispatch():
                pass
            case _:
                assert_never(action)

    def _open(self, action: OpenRollout, now: datetime) -> None:
        for older in self.view.rollouts_of(action.channel):
            if older.state not in (RolloutState.SUPERSEDED, RolloutState.PRUNED):
                self._move(SuccessorOpened(older.rollout_id, action.rollout_id, now), now)
        opened = RolloutOpened(action.rollout_id, action.channel, action.target_ref, now)
        others = self.view.rollouts_of(action.channel)
        terms = self.view.offers[action.channel]
        record = self.reducers.open_rollout(opened, 1, others)
        if terms.guards_of(0).is_declared:
            record = evolve(record, current_wave=BEFORE_FIRST_WAVE)
        self.view.open(record, terms)
        self.did.append(f"{action.rollout_id} opens")
        for host in terms.targets:
            self._open_record(terms, host)
        self._advance(action.rollout_id, now)

    def take_verdict(self, verdict: Verdict, now: datetime) -> None:
        """Let a judge say something of a guard, and go on with the rollout."""
        self._move(verdict, now)
        self._advance(verdict.rollout_id, now)

    def _open_record(self, terms: RolloutTerms, host: str) -> None:
        closure = terms.targets[host]
        self.view.set_host(
            HostRolloutState.pending(terms.rollout_id, host, terms.channel, closure, None, None)
        )


def outstanding(record: HostRolloutState) -> int:
    """Return how many enforce controls of the host fail by their latest result."""
    return sum(
        probe.mode is ProbeMode.ENFORCE and probe.status is ProbeStatus.FAIL
        for probe in record.probes.values()
    )


def _only(hosts: tuple[str, ...], some: Set[str]) -> tuple[str, ...]:
    return tuple(host for host in hosts if host in some)
