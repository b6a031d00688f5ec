"""The gates, in the order of evaluation. Each is a pure predicate: does it hold a host, and why.

A reason names the cause of the wait and no progress: each change of a reason is a row in the log. Progress is in the
detail of the block.
Source: docs/spec/planner.md, Gates.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import TypeAlias

from attrs import Factory, evolve, frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.holds.blocks import block_of
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.budget_use import BudgetUse, budget_use
from nixfleet_state_machine.planner.pace.words import pace_words
from nixfleet_state_machine.planner.terms import BudgetTerms
from nixfleet_state_machine.rollout.state import (
    BEFORE_FIRST_WAVE,
    RolloutRecord,
    RolloutState,
    Standing,
)
from nixfleet_state_machine.shards.channel_seen import ChannelSeen

Quarantines: TypeAlias = Mapping[str, Set[str]]


@frozen
class Planning:
    """The input of the gates during one plan. quarantines: closures by channel.

    dispatched: how many hosts this plan has dispatched so far, by budget name. ramped: the same by rollout and name,
    of budgets that have a ramp. begun: the same by name, of budgets that limit the beginnings in a minute.
    """

    view: FleetView
    quarantines: Quarantines
    dispatched: Counter[str] = Factory(Counter[str])
    ramped: Counter[tuple[RolloutId, str]] = Factory(Counter[tuple[RolloutId, str]])
    begun: Counter[str] = Factory(Counter[str])

    def note_dispatch(self, rollout_id: RolloutId, host: str) -> None:
        """Count the host as dispatched by this plan."""
        terms = self.view.terms(rollout_id)
        if not self.view.has_slots(rollout_id, host):
            self.dispatched.update(terms.budget_names_of(host))
        if terms.ramped:
            self.ramped.update([(rollout_id, name) for name in terms.ramped_names_of(host)])
        if terms.per_minute:
            self.begun.update(terms.minute_names_of(host))

    def taken(self, budget: BudgetTerms) -> int:
        """Return how many slots of the budget are taken by hosts in flight or dispatched by this plan."""
        return self.view.in_flight_of(budget.name) + self.dispatched[budget.name]

    def use_of(self, rollout_id: RolloutId, budget: BudgetTerms, *, has_slots: bool) -> BudgetUse:
        """Return how full the budget is for hosts of a rollout, with what this plan has dispatched.

        has_slots: for a host that is down and keeps its slot: the others count.
        """
        name, taken = budget.name, self.taken(budget) - has_slots
        use = budget_use(self.view, rollout_id, budget)
        return evolve(
            use,
            in_flight=taken,
            under_way=use.under_way + self.ramped[rollout_id, name],
            begun=use.begun + self.begun[name],
        )

    def is_full(self, rollout_id: RolloutId, budget: BudgetTerms, *, has_slots: bool) -> bool:
        """Return whether no host of the rollout may begin under the budget. has_slots: as for `use_of`."""
        if self.taken(budget) - has_slots >= budget.limit:
            return True
        return budget.has_pace and self.use_of(rollout_id, budget, has_slots=has_slots).is_full

    def is_just_full(self, rollout_id: RolloutId, budget: BudgetTerms, *, has_slots: bool) -> bool:
        """Return whether the last dispatch may have taken the last slot of the budget, for hosts of the rollout.

        has_slots: as for `use_of`.
        """
        if self.taken(budget) - has_slots == budget.limit:
            return True
        return budget.has_pace and self.use_of(rollout_id, budget, has_slots=has_slots).is_just_full


GateFunction: TypeAlias = Callable[[Planning, RolloutId, str], GateBlock | None]


def first_block(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Return the block of the first gate that holds `host`; `None`: it may be dispatched."""
    return next(all_blocks(planning, rollout_id, host), None)


def all_blocks(planning: Planning, rollout_id: RolloutId, host: str) -> Iterator[GateBlock]:
    """Yield the blocks of all gates that hold `host`, in order."""
    return _blocks(GATES, planning, rollout_id, host)


def withdrawing_block(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Return the block for which a queued dispatch is withdrawn; `None`: it stays in the queue."""
    return next(_blocks(WITHDRAWING, planning, rollout_id, host), None)


def gate_quarantine(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold the host while its target closure is quarantined on the channel."""
    terms = planning.view.terms(rollout_id)
    closure = terms.targets[host]
    if closure not in planning.quarantines.get(terms.channel, ()):
        return None
    return GateBlock(Gate.QUARANTINE, quarantine_reason(terms.channel, closure))


def quarantine_reason(channel: str, closure: str) -> str:
    """Return why the hosts of `closure` wait on a channel on which it is quarantined."""
    return f"closure {closure} is quarantined on channel {channel}; release another one"


def gate_rollout_halted(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold all hosts of a rollout that was halted and not cleared, that was aborted, or that is no longer live.

    Of a Terminal one, hosts that come late or try again are served.
    """
    state = planning.view.rollouts[rollout_id].state
    if state is RolloutState.ABORTED:
        reason = f"rollout {rollout_id} was aborted; release another ref to go on"
        return GateBlock(Gate.ROLLOUT_HALTED, reason)
    if state.is_halted:
        return GateBlock(
            Gate.ROLLOUT_HALTED,
            f"rollout {rollout_id} is halted until an operator clears it",
            f"it is {state}",
        )
    if state is RolloutState.TERMINAL and planning.view.is_served_late(rollout_id, host):
        return None
    if not state.is_live:
        return GateBlock(Gate.ROLLOUT_HALTED, f"rollout {rollout_id} is {state}")
    return None


def gate_operator_hold(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold the host while any hold is on it, its group, its wave, its rollout, its channel or the fleet.

    The name on the wire is from when there were pauses alone.
    """
    return block_of(planning.view.holds_on(rollout_id, host))


def host_hold_block(planning: Planning, host: str) -> GateBlock | None:
    """Return the block of a host that is held itself, `None` if it is not."""
    return block_of(planning.view.holds_on_host(host))


def gate_channel_edges(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold all hosts of a channel while a predecessor has a manifest whose rollout is not done."""
    view = planning.view
    terms = view.terms(rollout_id)
    for predecessor in terms.predecessors:
        seen = view.seen.get(predecessor)
        detail = _not_done(view, predecessor) if seen is None else _not_seen_done(seen)
        if detail is not None:
            return GateBlock(
                Gate.CHANNEL_EDGES,
                f"channel {terms.channel} waits for channel {predecessor}",
                detail,
            )
    return None


def gate_wave_promotion(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold the host until the rollout reaches its wave, and its time has come; permanently, if it is in no wave.

    The gate reads no clock: who calls the planner holds the rollout, as NOT_BEFORE, while a wave's time is to come.
    """
    terms = planning.view.terms(rollout_id)
    wave = terms.wave_of.get(host)
    if wave is None:
        return GateBlock(
            Gate.WAVE_PROMOTION_HOST_UNSTAGED,
            f"this host is in no wave of channel {terms.channel}; declare one that selects it",
        )
    rollout = planning.view.rollouts[rollout_id]
    current = rollout.current_wave
    if wave <= current:
        early = planning.view.held_not_before(rollout_id)
        if early is None:
            return None
        return GateBlock(Gate.WAVE_PROMOTION, early.reason, until=early.until)
    # All guards of the wave, and not those that are open yet: each change of a reason is a row for each host.
    is_guarded = wave == 0 or (wave == current + 1 and rollout.guarded_since is not None)
    guards = ", ".join(terms.guards_of(wave).names)
    before = f"its guards: {guards}" if is_guarded else f"wave {wave - 1}"
    if current == BEFORE_FIRST_WAVE:
        return GateBlock(
            Gate.WAVE_PROMOTION, f"wave {wave} waits for {before}", "no wave has begun"
        )
    tally = planning.view.tally(rollout_id, current)
    return GateBlock(
        Gate.WAVE_PROMOTION,
        f"wave {wave} waits for {before}",
        f"in wave {current}, {tally.eligible} of {tally.total} hosts are done",
    )


def gate_host_edge(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold the host until each host that gates it is Converged or Deferred in this rollout, excused or left.

    Hosts that are excused or left may never converge, and nobody waits for them.
    """
    view = planning.view
    for gating in view.terms(rollout_id).gating_hosts(host):
        standing = view.rollouts[rollout_id].standing_of(gating)
        if standing is Standing.EXCUSED or standing is Standing.LEFT:
            continue
        record = view.host(rollout_id, gating)
        if record is None or not record.state.is_ordering_eligible:
            state = "not part of this rollout" if record is None else record.state
            return GateBlock(
                Gate.HOST_EDGE,
                f"waits for host {gating} to be {HostState.CONVERGED}",
                f"{gating} is {state}",
            )
    return None


def gate_disruption_budget(
    planning: Planning, rollout_id: RolloutId, host: str
) -> GateBlock | None:
    """Hold the host when as many hosts as one of its budgets allows are in flight, or begin too fast.

    In flight: over all live rollouts with the budget, including the hosts dispatched by this plan. A host that is down
    keeps its slot, and begins its next attempt in it.
    """
    terms = planning.view.terms(rollout_id)
    budgets = [terms.budgets[place] for place in terms.budgets_of(host)]
    has_slots = planning.view.has_slots(rollout_id, host)
    full = [each for each in budgets if planning.is_full(rollout_id, each, has_slots=has_slots)]
    if not full:
        return None
    uses = [planning.use_of(rollout_id, budget, has_slots=has_slots) for budget in full]
    counts = "; ".join(use.shortage() for use in uses)
    return GateBlock(
        Gate.DISRUPTION_BUDGET, _budget_reason(budgets), counts, until=_changes_at(uses)
    )


def gate_compliance_wave(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold the host while enforce probes, or controls that they report, fail on hosts of earlier waves."""
    wave = planning.view.terms(rollout_id).wave_of.get(host, 0)
    failing = planning.view.tally_before(rollout_id, wave).failing if wave else 0
    if not failing:
        return None
    return GateBlock(
        Gate.COMPLIANCE_WAVE,
        f"enforce probes or their controls fail on hosts of waves before {wave}",
        f"{failing} of them fail",
    )


def gate_probe_topology(planning: Planning, rollout_id: RolloutId, host: str) -> GateBlock | None:
    """Hold the host while a running host of an earlier wave has not declared its probes."""
    wave = planning.view.terms(rollout_id).wave_of.get(host, 0)
    undeclared = planning.view.tally_before(rollout_id, wave).undeclared if wave else 0
    if not undeclared:
        return None
    return GateBlock(
        Gate.PROBE_TOPOLOGY,
        f"awaiting probe topology of hosts of waves before {wave}",
        f"{undeclared} of them have not declared their probes",
    )


GATES: tuple[GateFunction, ...] = (
    gate_quarantine,
    gate_rollout_halted,
    gate_operator_hold,
    gate_channel_edges,
    gate_wave_promotion,
    gate_host_edge,
    gate_disruption_budget,
    gate_compliance_wave,
    gate_probe_topology,
)

# The gates that withdraw a queued dispatch. The others only prevent one from being queued.
WITHDRAWING: tuple[GateFunction, ...] = (gate_quarantine, gate_rollout_halted, gate_operator_hold)


def _blocks(
    gates: Iterable[GateFunction], planning: Planning, rollout_id: RolloutId, host: str
) -> Iterator[GateBlock]:
    for gate in gates:
        block = gate(planning, rollout_id, host)
        if block is not None:
            yield block


def channel_said(view: FleetView, channel: str) -> tuple[RolloutId | None, bool]:
    """Return what a log of its own tells another shard of `channel`: the rollout that others wait for, and whether it
    is done. `None`: nothing is in force.

    It is the word of the same rule that holds channels inside a shard.
    """
    awaited = tuple(_awaited_of(view, channel))
    for rollout_id in awaited:
        record = view.rollouts.get(rollout_id)
        if record is None or not _is_done(record):
            return rollout_id, False
    return (awaited[0], True) if awaited else (None, False)


def _not_done(view: FleetView, channel: str) -> str | None:
    rollout_id, is_done = channel_said(view, channel)
    if rollout_id is None or is_done:
        return None
    record = view.rollouts.get(rollout_id)
    return f"rollout {rollout_id} is {'not open yet' if record is None else record.state}"


def _not_seen_done(seen: ChannelSeen) -> str | None:
    if seen.offered_rollout_id is None or seen.done:
        return None
    return f"rollout {seen.offered_rollout_id} is not done, as of {seen.as_of}"


def _awaited_of(view: FleetView, channel: str) -> Iterator[RolloutId]:
    """Yield the rollouts of `channel` that others wait for: the one in force, or those whose manifest was lost."""
    offered = view.offers.get(channel)
    if offered is not None:
        yield offered.rollout_id
    else:
        yield from (record.rollout_id for record in view.lost_rollouts(channel))


def _budget_reason(budgets: Sequence[BudgetTerms]) -> str:
    # Does not name the one that is full: that changes whenever a host is dispatched or finishes.
    # Nor how many slots a ramp gives now.
    if len(budgets) == 1 and not budgets[0].has_pace:
        return f"all {budgets[0].limit} slots are taken ({budgets[0].name})"
    names = ", ".join(f"{budget.name}: {_most(budget)}" for budget in budgets)
    if len(budgets) == 1:
        return f"no further host may begin yet ({names})"
    if any(budget.has_pace for budget in budgets):
        return f"one of its budgets lets no further host begin yet ({names})"
    return f"all slots of one of its budgets are taken ({names})"


def _changes_at(full: Iterable[BudgetUse]) -> datetime | None:
    """Return when slots of all these budgets have come back by themselves; `None`: not by the time alone."""
    times = [use.returns_at if use.waits_for_time else None for use in full]
    known = [at for at in times if at is not None]
    return max(known) if known and len(known) == len(times) else None


def _most(budget: BudgetTerms) -> str:
    return f"{budget.limit}{pace_words(budget.ramp, budget.max_per_minute)}"


def _is_done(record: RolloutRecord) -> bool:
    """A rollout that was done stays done when it is pruned."""
    was_done = record.terminal_at is not None or record.superseded_at is not None
    pruned = record.state is RolloutState.PRUNED
    return record.state.is_terminal_for_ordering or (pruned and was_done)
