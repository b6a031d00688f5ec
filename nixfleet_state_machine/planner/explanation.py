"""Names the hosts that a gate waits for, for `explain` alone: that costs O(hosts), which a plan must not.

The gates decide by counts; this finds the hosts behind a count, and decides nothing.
Source: docs/spec/planner.md, Explanations.
"""

from collections.abc import Iterator
from typing import Final, assert_never

from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import Planning
from nixfleet_state_machine.planner.guards.states import next_guards
from nixfleet_state_machine.planner.guards.words import guards_line

HOSTS_NAMED_MAX: Final = 5


def with_holding_hosts(
    planning: Planning,
    rollout_id: RolloutId,
    host: str,
    block: GateBlock,
    author: str | None = None,
) -> GateBlock:
    """Return `block`, which holds `host`, with the hosts that it waits for in its detail: up to five, by name.

    One of a wave that its guards hold says what they lack, and until when, if time alone is lacking.
    author: of the manifest in force, who does not approve it.
    """
    if block.gate is Gate.WAVE_PROMOTION and block.until is None:
        block = with_guards(planning, rollout_id, block, author)
    hosts = tuple(_holding(planning, rollout_id, host, block.gate))
    if not hosts:
        return block
    shown = ", ".join(hosts[:HOSTS_NAMED_MAX])
    more = len(hosts) - HOSTS_NAMED_MAX
    named = f"{shown} and {more} more" if more > 0 else shown
    # The detail of an edge is the first of these hosts, and no count.
    is_named = block.gate is Gate.HOST_EDGE
    is_all = is_named or not block.detail
    return evolve(block, detail=named if is_all else f"{block.detail}: {named}")


def with_guards(
    planning: Planning, rollout_id: RolloutId, block: GateBlock, author: str | None
) -> GateBlock:
    """Return `block`, of a wave that has not begun, with what its guards lack, if they hold it. O(guards)."""
    terms = planning.view.terms(rollout_id)
    guarded = next_guards(planning.view.rollouts[rollout_id], terms)
    if guarded is None or guarded.since is None or guarded.may_begin:
        return block
    lacking = [guard for guard in guarded.guards if not guard.state.lets_begin]
    until = max((guard.until for guard in lacking if guard.until is not None), default=None)
    alone = until if all(guard.until is not None for guard in lacking) else None
    line = guards_line(guarded, terms.guards_of(guarded.wave), author)
    return evolve(block, detail=f"wave {guarded.wave} is guarded: {line}", until=alone)


def _holding(planning: Planning, rollout_id: RolloutId, host: str, gate: Gate) -> Iterator[str]:
    """Yield each host that makes `gate` hold `host`, with its state."""
    match gate:
        case Gate.ROLLOUT_HALTED:
            return _halting(planning, rollout_id)
        case Gate.WAVE_PROMOTION:
            return _unfinished(planning, rollout_id)
        case Gate.HOST_EDGE:
            return _gating(planning, rollout_id, host)
        case Gate.DISRUPTION_BUDGET:
            return _in_flight(planning, rollout_id, host)
        case Gate.COMPLIANCE_WAVE:
            return _failing(planning, rollout_id, host)
        case Gate.PROBE_TOPOLOGY:
            return _undeclared(planning, rollout_id, host)
        case (
            Gate.QUARANTINE
            | Gate.OPERATOR_HOLD
            | Gate.CHANNEL_EDGES
            | Gate.WAVE_PROMOTION_HOST_UNSTAGED
        ):
            return iter(())  # No host is waited for, or the gate names a rollout.
        case _:
            assert_never(gate)


def _halting(planning: Planning, rollout_id: RolloutId) -> Iterator[str]:
    excused = planning.view.rollouts[rollout_id].excused_hosts
    for record in planning.view.hosts_of(rollout_id):
        if record.state.is_failure and record.hostname not in excused:
            yield _shown(planning, rollout_id, record.hostname)


def _unfinished(planning: Planning, rollout_id: RolloutId) -> Iterator[str]:
    wave_of = planning.view.terms(rollout_id).wave_of
    current = planning.view.rollouts[rollout_id].current_wave
    for host in sorted(wave_of):
        tally = planning.view.counts_of(rollout_id, host).tally
        if wave_of[host] == current and tally.eligible < tally.total:
            yield _shown(planning, rollout_id, host)


def _gating(planning: Planning, rollout_id: RolloutId, host: str) -> Iterator[str]:
    for gating in planning.view.terms(rollout_id).gating_hosts(host):
        if planning.view.counts_of(rollout_id, gating).is_awaited:
            yield _shown(planning, rollout_id, gating)


def _in_flight(planning: Planning, rollout_id: RolloutId, host: str) -> Iterator[str]:
    """Over all live rollouts, as the budgets count; of a ramp that gives no more slots, in this rollout alone."""
    view = planning.view
    terms = view.terms(rollout_id)
    budgets = [terms.budgets[place] for place in terms.budgets_of(host)]
    has_slots = view.has_slots(rollout_id, host)
    uses = [planning.use_of(rollout_id, budget, has_slots=has_slots) for budget in budgets]
    full = {use.budget.name for use in uses if use.in_flight >= use.budget.limit}
    ramped = {use.budget.name for use in uses if use.budget.ramp and use.under_way >= use.slots}
    for each in view.served_rollouts():
        holding = full | ramped if each == rollout_id else full
        for record in view.hosts_of(each):
            is_member = not holding.isdisjoint(view.terms(each).budget_names_of(record.hostname))
            is_itself = (each, record.hostname) == (rollout_id, host)
            if is_member and not is_itself and view.has_slots(each, record.hostname):
                where = "" if each == rollout_id else f", {each}"
                yield _shown(planning, each, record.hostname, where)


def _failing(planning: Planning, rollout_id: RolloutId, host: str) -> Iterator[str]:
    for earlier in _of_earlier_waves(planning, rollout_id, host):
        if planning.view.counts_of(rollout_id, earlier).tally.failing:
            yield _shown(planning, rollout_id, earlier)


def _undeclared(planning: Planning, rollout_id: RolloutId, host: str) -> Iterator[str]:
    for earlier in _of_earlier_waves(planning, rollout_id, host):
        if planning.view.counts_of(rollout_id, earlier).tally.undeclared:
            yield _shown(planning, rollout_id, earlier)


def _of_earlier_waves(planning: Planning, rollout_id: RolloutId, host: str) -> Iterator[str]:
    wave_of = planning.view.terms(rollout_id).wave_of
    return (each for each in sorted(wave_of) if wave_of[each] < wave_of.get(host, 0))


def _shown(planning: Planning, rollout_id: RolloutId, host: str, where: str = "") -> str:
    record = planning.view.host(rollout_id, host)
    state = "not part of this rollout" if record is None else record.state
    return f"{host} ({state}{where})"
