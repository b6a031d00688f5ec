"""Histories for the planner's laws: a kept view and a plain world that go through the same changes.

Universes are small, so that hosts, budgets and closures meet. Most changes are a rollout's daily business;
the others are all that a view allows, sensible or not.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

from attrs import define, evolve
from hypothesis import strategies as st

from nixfleet_proto.fleet import Edge, Ramp, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Tolerance
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.pauses import pause, resume
from tests.planner.builders import host_of, rollout_of
from tests.planner.naive_planner import minute_names
from tests.planner.world import NOW, HostKey, World

T = TypeVar("T")

# "ops-eu" sorts before "ops" as a rollout id, and after it as a channel.
CHANNELS = ("app", "ops", "ops-eu")
ELSEWHERE = "db"
"""A channel of another shard."""
HOSTS_PER_CHANNEL = 5
HOSTS = {
    channel: tuple(f"{channel}-{number}" for number in range(HOSTS_PER_CHANNEL))
    for channel in CHANNELS
}
EVERYBODY = tuple(host for hosts in HOSTS.values() for host in hosts)
CLOSURES = ("red", "green", "blue")
SELECTORS = (
    Selector(all=True),
    Selector(tags=("db", "eu")),
    Selector(tags=("eu", "db")),  # the same as the one before
    Selector(hosts=("app-1", "ops-1")),
)

# Most policies say nothing of failures.
TOLERANCES = (
    *[Tolerance()] * 3,
    *[Tolerance(number) for number in (0, 1, 2)],
    *[Tolerance(None, share) for share in (20, 40, 100)],
    Tolerance(1, 40),
)

# Made once: hypothesis checks every strategy that is new to it.
_budgets = st.builds(
    BudgetTerms,
    selector=st.sampled_from(SELECTORS),
    hosts=st.frozensets(st.sampled_from(EVERYBODY), max_size=4).map(
        frozenset(EVERYBODY).difference
    ),
    limit=st.integers(1, 4),
    ramp=st.none() | st.builds(Ramp, st.integers(1, 2), st.integers(1, 3)),
    max_per_minute=st.sampled_from((None, None, 1, 2, 3)),
)
_budget_lists = st.lists(_budgets, min_size=1, max_size=2)
_closures = st.tuples(*[st.sampled_from(CLOSURES)] * HOSTS_PER_CHANNEL)
# By number of waves; the wave after the last is none.
_waves = {
    waves: st.tuples(*[st.sampled_from((*[*range(waves)] * 3, waves))] * HOSTS_PER_CHANNEL)
    for waves in (1, 2, 3)
}
_tolerances = {waves: st.tuples(*[st.sampled_from(TOLERANCES)] * waves) for waves in (1, 2, 3)}
_standings = st.sampled_from(tuple(Standing))
_edges = {
    channel: st.lists(
        st.builds(Edge, st.sampled_from(HOSTS[channel]), st.sampled_from(HOSTS[channel])),
        max_size=2,
    )
    for channel in CHANNELS
}


@st.composite
def rollout_terms(draw: st.DrawFn, channel: str) -> RolloutTerms:
    """Draw the terms of a rollout of `channel`."""
    hosts = HOSTS[channel]
    waves = draw(st.sampled_from((1, 2, 3)))
    wave_of = zip(hosts, draw(_waves[waves]), strict=True)
    rollout_id = RolloutId.of(channel, draw(st.sampled_from(("a1", "b2"))))
    others = [(other,) for other in CHANNELS if other != channel]
    return RolloutTerms(
        rollout_id=rollout_id,
        channel=channel,
        target_ref=rollout_id.channel_ref,
        targets=FrozenMap(zip(hosts, draw(_closures), strict=True)),
        wave_of=FrozenMap({host: wave for host, wave in wave_of if wave < waves}),
        wave_soak_minutes=tuple(range(waves)),
        budgets=tuple(draw(_budget_lists)),
        host_edges=tuple(draw(_edges[channel])),
        predecessors=draw(st.sampled_from(((), (), (), *others, (ELSEWHERE,)))),
        wave_tolerances=draw(st.one_of(st.just(()), _tolerances[waves])),
    )


@define
class History:
    """What happens is drawn from `data`, done to `world`, and done to `view`."""

    data: st.DataObject
    undo: UndoLog
    view: FleetView
    world: World

    @classmethod
    def begun(cls, data: st.DataObject) -> "History":
        """Return a history in which every channel has a rollout, at some wave."""
        undo = UndoLog()
        history = cls(data, undo, FleetView(undo), World.empty())
        for channel in CHANNELS:
            history._offer(channel)
            terms = history.world.offers[channel]
            history._open(terms)
            wave = history._one_of(range(terms.last_wave + 1))
            history._put_rollout(rollout_of(terms, wave=wave))
        return history

    def happen(self) -> None:
        """Let a few things happen, of which nobody plans before the last."""
        for _ in range(self.data.draw(st.integers(1, 3))):
            self._one_of(_CHANGES)(self)

    def carry_out(self, actions: Iterable[PlanAction]) -> None:
        """Do what was planned."""
        for action in actions:
            match action:
                case OpenRollout():
                    self._open(self.world.offers[action.channel])
                case QueueDispatch():
                    self._begin((action.rollout_id, action.host))
                    self._set_queued((action.rollout_id, action.host), True)
                case WithdrawDispatch():
                    self._set_queued((action.rollout_id, action.host), False)
                case DeferDispatch():
                    pass

    # A rollout's daily business.

    def return_slots(self) -> None:
        """The minute of the first beginning under a budget is over, or of all of them."""
        budget = self._any_of(sorted(self.world.begun))
        if budget is not None:
            times = self.world.begun[budget]
            begun_by = self._one_of((times[0], times[-1]))
            left = [at for at in times if at > begun_by]
            if left:
                self.world.begun[budget] = left
            else:
                del self.world.begun[budget]
            self.view.return_slots(budget, begun_by)

    def acknowledge(self) -> None:
        """A host that has a dispatch in its queue takes it."""
        key = self._any_of(sorted(self.world.queued))
        if key is not None:
            host, ordered = self.world.hosts[key], self.world.rollouts[key[0]].attempt_of(key[1])
            attempt = host.attempt if host.state is HostState.PENDING else ordered
            activating = HostState.ACTIVATING
            self._put(evolve(host, state=activating, dispatch_acked_at=NOW, attempt=attempt))
            self._set_queued(key, False)

    def run_on(self) -> None:
        """A host that is under way goes on."""
        running = [key for key, host in self.world.hosts.items() if host.state.is_in_flight]
        key = self._any_of(sorted(running))
        if key is not None:
            states = (
                HostState.SOAKING,
                HostState.CONVERGED,
                HostState.CONVERGED,
                HostState.DEFERRED,
            )
            state = self._one_of(states)
            failed_at = self.world.hosts[key].failed_at
            if state is HostState.CONVERGED:
                failed_at = None
            self._put(evolve(self.world.hosts[key], state=state, failed_at=failed_at))

    def declare(self) -> None:
        """A running host that has not declared its probes does; if there is none, one has yet to again."""
        running = [key for key, host in self.world.hosts.items() if _runs(host)]
        silent = [key for key in running if self.world.hosts[key].declared_probes is None]
        key = self._any_of(sorted(silent or running))
        if key is not None:
            self._put(evolve(self.world.hosts[key], declared_probes=() if silent else None))

    def fail_controls(self) -> None:
        """Controls that fail pass; if there are none, some fail."""
        failing = [key for key, count in self.world.outstanding.items() if count]
        key = self._any_of(sorted(failing or self.world.hosts))
        if key is not None:
            count = self._one_of((0, 0, 1) if failing else (1, 2))
            self.world.outstanding[key] = count
            self.view.set_outstanding(*key, count)

    def promote(self) -> None:
        """A rollout runs, at a later wave. What runs has not ended."""
        terms = self._any_rollout()
        if terms is not None:
            record = self.world.rollouts[terms.rollout_id]
            wave = min(record.current_wave + 1, terms.last_wave)
            active = evolve(record, state=RolloutState.ACTIVE, terminal_at=None)
            self._put_rollout(evolve(active, current_wave=wave))

    def end(self) -> None:
        """A rollout is Terminal; who is late, or tries again, is served."""
        terms = self._any_rollout()
        if terms is not None:
            record = self.world.rollouts[terms.rollout_id]
            self._put_rollout(evolve(record, state=RolloutState.TERMINAL, terminal_at=NOW))

    def fail(self) -> None:
        """A host that is under way fails, or one that failed goes back."""
        key = self._any_of(sorted(k for k, host in self.world.hosts.items() if _may_fail(host)))
        if key is not None:
            host = self.world.hosts[key]
            states = (HostState.FAILED, HostState.REVERTED)
            state = states[host.state is HostState.FAILED]
            self._put(evolve(host, state=state, failed_at=host.failed_at or NOW))

    def order_retry(self) -> None:
        """A host that failed, or any other, is to make its next attempt."""
        failed = [key for key, host in self.world.hosts.items() if host.failed_at is not None]
        key = self._any_of(sorted(failed or self.world.hosts))
        if key is not None:
            record, attempt = self.world.rollouts[key[0]], self.world.hosts[key].attempt + 1
            attempts = record.attempts.with_item(key[1], attempt)
            self._put_rollout(evolve(record, attempts=attempts))

    def change_standing(self) -> None:
        """A host counts otherwise."""
        key = self._any_of(sorted(self.world.hosts))
        if key is not None:
            record = self.world.rollouts[key[0]]
            self._put_rollout(record.with_standings([key[1]], self._one_of(tuple(Standing))))

    # What an operator or a release may do.

    def hold(self) -> None:
        held_hosts = (f"host:{host}" for host in EVERYBODY)
        scope = self._one_of((*CHANNELS, *self.open_rollouts(), *held_hosts))
        self.world.holds[scope] = self._one_of(("", "ann: power cut"))
        pause(self.view, scope, self.world.holds[scope])

    def release(self) -> None:
        scope = self._any_of(sorted(self.world.holds))
        if scope is not None:
            del self.world.holds[scope]
            resume(self.view, scope)

    def toggle_quarantine(self) -> None:
        channel, closure = self._one_of(CHANNELS), self._one_of(CLOSURES)
        known = self.world.quarantines.get(channel, frozenset())
        self.world.quarantines[channel] = known ^ {closure}
        self.view.quarantine_changed(channel, closure)

    def offer(self) -> None:
        self._offer(self._one_of(CHANNELS))

    def see(self) -> None:
        """Another shard says something of a channel: of one that is its own, or that was moved there."""
        channel = self._one_of((ELSEWHERE, ELSEWHERE, CHANNELS[0]))
        offered = self._one_of((None, RolloutId.of(channel, "a1"), RolloutId.of(channel, "b2")))
        done = offered is not None and self._one_of((False, True))
        release = None if offered is None else "r1"
        seen = ChannelSeen(channel, offered, release, done, AsOf("far", 1, "0" * 64))
        self.world.seen[channel] = seen
        self.view.see(seen)

    def retract(self) -> None:
        channel = self._one_of(CHANNELS)
        self._drop_forgotten(channel, None)
        self.world.offers.pop(channel, None)
        self.view.retract(channel)

    def prune(self) -> None:
        """A rollout is forgotten; while the manifest names it, its record stays."""
        terms = self._any_rollout()
        if terms is None:
            return
        id_ = terms.rollout_id
        record = evolve(self.world.rollouts[id_], state=RolloutState.PRUNED)
        if self._one_of((True, False)):
            self.view.set_rollout(record)
            self.world.rollouts[id_] = record
        self.view.forget_rollout(id_)
        self.world.forget(id_)

    # Whatever a view allows.

    def set_rollout(self) -> None:
        terms = self._any_rollout()
        if terms is not None:
            wave = self._one_of(range(terms.last_wave + 1))
            hosts = st.sampled_from(sorted(terms.targets))
            standings = self.data.draw(st.dictionaries(hosts, _standings, max_size=3))
            attempts = self.data.draw(st.dictionaries(hosts, st.integers(2, 3), max_size=2))
            state = self._one_of(tuple(RolloutState))
            self._put_rollout(
                rollout_of(terms, state, wave=wave, standings=standings, attempts=attempts)
            )

    def set_host(self) -> None:
        key = self._any_of(sorted(self.world.hosts))
        if key is not None:
            state = self._one_of(tuple(HostState))
            at = None if state is HostState.PENDING else NOW
            host = self.world.hosts[key]
            # `failed_at` changes with the attempt alone: so it is with facts.
            self._put(evolve(host, state=state, dispatch_acked_at=at))

    def set_queued(self) -> None:
        key = self._any_of(sorted(self.world.hosts))
        if key is not None:
            self._set_queued(key, self._one_of((True, False)))

    # How it is done to both.

    def _offer(self, channel: str) -> None:
        drawn = self.data.draw(rollout_terms(channel))
        self._drop_forgotten(channel, drawn.rollout_id)
        # A rollout keeps the terms it was opened under.
        terms = self.world.terms.get(drawn.rollout_id, drawn)
        self.world.offers[channel] = terms
        self.world.seen.pop(channel, None)
        self.view.offer(terms)

    def _drop_forgotten(self, channel: str, successor: RolloutId | None) -> None:
        offered = self.world.offers.get(channel)
        if offered is not None and offered.rollout_id != successor:
            self.world.drop_forgotten(offered.rollout_id)

    def _open(self, terms: RolloutTerms) -> None:
        record = rollout_of(terms)
        self.world.terms[terms.rollout_id] = terms
        self.world.rollouts[terms.rollout_id] = record
        self.view.open(record, terms)
        for name in terms.targets:
            self._put(host_of(terms, name))

    def _put_rollout(self, record: RolloutRecord) -> None:
        self.world.rollouts[record.rollout_id] = record
        self.view.set_rollout(record)

    def _put(self, record: HostRolloutState) -> None:
        self.world.hosts[record.rollout_id, record.hostname] = record
        self.view.set_host(record)

    def _begin(self, key: HostKey) -> None:
        """Note a beginning, two at a time at the same moment."""
        for budget in sorted(minute_names(self.world, key)):
            times = self.world.begun.setdefault(budget, [])
            step = timedelta(seconds=len(times) % 2)
            times.append(times[-1] + step if times else NOW)
            self.view.note_beginning(budget, times[-1])

    def _set_queued(self, key: HostKey, queued: bool) -> None:
        (self.world.queued.add if queued else self.world.queued.discard)(key)
        self.view.set_queued(*key, queued)

    def _one_of(self, choices: Sequence[T]) -> T:
        return self.data.draw(st.sampled_from(choices))

    def _any_of(self, choices: Sequence[T]) -> T | None:
        return self._one_of(choices) if choices else None

    def open_rollouts(self) -> list[RolloutId]:
        """Return the rollouts that have hosts, by id."""
        return sorted(self.world.terms.keys() - self.world.forgotten)

    def _any_rollout(self) -> RolloutTerms | None:
        rollout_id = self._any_of(self.open_rollouts())
        return None if rollout_id is None else self.world.terms[rollout_id]


def _may_fail(host: HostRolloutState) -> bool:
    return host.state.is_in_flight or host.state is HostState.FAILED


def _runs(host: HostRolloutState) -> bool:
    return host.state is HostState.SOAKING or host.state is HostState.CONVERGED


# Some more often than others, so that rollouts come to something.
_CHANGES: Sequence[Callable[[History], None]] = (
    *[History.acknowledge, History.run_on] * 8,
    *[History.promote, History.declare, History.fail_controls] * 4,
    *[History.set_host, History.set_queued, History.release] * 2,
    *[History.fail, History.order_retry, History.change_standing] * 4,
    *[History.end, History.return_slots] * 2,
    History.set_rollout,
    History.hold,
    History.toggle_quarantine,
    History.offer,
    History.retract,
    *[History.see] * 2,
    History.prune,
)
