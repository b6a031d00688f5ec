"""The table of docs/spec/planner.md, Gates once more, as plain scans over plain dicts: slow, and easy to check by eye.

Shares nothing with the planner but the data: no view, no counts, no gate functions. Gives no reasons.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.terms import BudgetTerms
from nixfleet_state_machine.rollout.event import RolloutEvent, RolloutTerminal, WaveAdvanced
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.scopes.selector import canonical
from tests.planner.world import HostKey, World

Decision = tuple[object, ...]
NaiveGate = Callable[[World, HostKey, list[HostKey]], Gate | None]


def naive_plan(world: World, now: datetime) -> list[Decision]:
    """Return every decision that is due, in the order of a plan, as plain tuples."""
    decisions: list[Decision] = [
        ("open", terms.rollout_id, channel, terms.target_ref)
        for channel, terms in sorted(world.offers.items())
        if terms.rollout_id not in world.rollouts
    ]
    for key in sorted(world.queued):
        withdrawn = _first(_WITHDRAWING, world, key, []) if _is_unacknowledged(world, key) else None
        if withdrawn is not None:
            decisions.append(("withdraw", *key, withdrawn))
    dispatched: list[HostKey] = []
    for key in sorted(world.hosts):
        if not _is_live(world, key) or not _is_unacknowledged(world, key) or key in world.queued:
            continue
        gate = _first(_GATES, world, key, dispatched)
        if gate is not None:
            decisions.append(("defer", *key, gate))
        else:
            dispatched.append(key)
            due = world.hosts[key].soak_due_at or now + timedelta(minutes=_soak_minutes(world, key))
            decisions.append(("queue", *key, world.hosts[key].target_closure, due))
    return decisions


def naive_progress(world: World, rollout_id: RolloutId, now: datetime) -> list[RolloutEvent]:
    """Return the rollout events that are due, by a look at every host."""
    record, terms = world.rollouts[rollout_id], world.terms[rollout_id]
    if record.state not in (RolloutState.ACTIVE, RolloutState.CONVERGING):
        return []
    events: list[RolloutEvent] = []
    wave, last = record.current_wave, len(terms.wave_soak_minutes) - 1
    while wave < last and _are_all(world, rollout_id, wave, "Converged", "Deferred"):
        events.append(WaveAdvanced(rollout_id, wave, wave + 1, now))
        wave += 1
    is_news = bool(events) or record.state is RolloutState.ACTIVE
    settled = ("Soaking", "Converged", "Deferred")
    if wave == last and is_news and _are_all(world, rollout_id, wave, *settled):
        events.append(WaveAdvanced(rollout_id, wave, wave, now))
    counted = [host for host in terms.targets if host not in record.excused_hosts]
    if all(_state(world, rollout_id, host) == "Converged" for host in counted):
        events.append(RolloutTerminal(rollout_id, now))
    return events


def _are_all(world: World, rollout_id: RolloutId, wave: int, *states: str) -> bool:
    staged = [host for host, its in world.terms[rollout_id].wave_of.items() if its == wave]
    excused = world.rollouts[rollout_id].excused_hosts
    counted = [host for host in staged if host not in excused]
    return bool(staged) and all(_state(world, rollout_id, host) in states for host in counted)


def _state(world: World, rollout_id: RolloutId, host: str) -> str | None:
    record = world.hosts.get((rollout_id, host))
    return None if record is None else record.state


def overfull(world: World, key: HostKey) -> list[BudgetTerms]:
    """Return the budgets of the host that have more hosts in flight than they allow."""
    return [
        budget for budget in _budgets(world, key) if _in_flight(world, budget, []) > budget.limit
    ]


def _first(
    gates: tuple[NaiveGate, ...], world: World, key: HostKey, dispatched: list[HostKey]
) -> Gate | None:
    answers = (gate(world, key, dispatched) for gate in gates)
    return next((answer for answer in answers if answer is not None), None)


def _quarantine(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    quarantined = world.quarantines.get(key[0].channel, frozenset())
    return Gate.QUARANTINE if world.hosts[key].target_closure in quarantined else None


def _rollout_halted(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    may_go = (RolloutState.OPENING, RolloutState.ACTIVE, RolloutState.CONVERGING)
    return Gate.ROLLOUT_HALTED if world.rollouts[key[0]].state not in may_go else None


def _operator_hold(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    scopes = (key[0], key[0].channel, f"host:{key[1]}")
    is_held = any(scope in world.holds for scope in scopes)
    return Gate.OPERATOR_HOLD if is_held else None


def _channel_edges(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for channel in world.terms[key[0]].predecessors:
        if channel in world.offers:
            record = world.rollouts.get(world.offers[channel].rollout_id)
            if record is None or (record.terminal_at is None and record.superseded_at is None):
                return Gate.CHANNEL_EDGES
    return None


def _wave_promotion(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    wave = world.terms[key[0]].wave_of.get(key[1])
    if wave is None:
        return Gate.WAVE_PROMOTION_HOST_UNSTAGED
    return Gate.WAVE_PROMOTION if wave > world.rollouts[key[0]].current_wave else None


def _host_edge(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for edge in world.terms[key[0]].host_edges:
        if edge.gated == key[1] and edge.gates not in world.rollouts[key[0]].excused_hosts:
            gating = world.hosts.get((key[0], edge.gates))
            if gating is None or gating.state not in (HostState.CONVERGED, HostState.DEFERRED):
                return Gate.HOST_EDGE
    return None


def _disruption_budget(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for budget in _budgets(world, key):
        if _in_flight(world, budget, dispatched) >= budget.limit:
            return Gate.DISRUPTION_BUDGET
    return None


def _compliance_wave(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for earlier in _of_earlier_waves(world, key):
        if world.outstanding.get(earlier, 0):
            return Gate.COMPLIANCE_WAVE
    return None


def _probe_topology(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for earlier in _of_earlier_waves(world, key):
        host = world.hosts.get(earlier)
        runs = host is not None and host.state in (HostState.SOAKING, HostState.CONVERGED)
        if host is not None and runs and host.declared_probes is None:
            return Gate.PROBE_TOPOLOGY
    return None


_WITHDRAWING: tuple[NaiveGate, ...] = (_quarantine, _rollout_halted, _operator_hold)
_GATES: tuple[NaiveGate, ...] = (
    *_WITHDRAWING,
    _channel_edges,
    _wave_promotion,
    _host_edge,
    _disruption_budget,
    _compliance_wave,
    _probe_topology,
)


def _is_live(world: World, key: HostKey) -> bool:
    over = (RolloutState.TERMINAL, RolloutState.SUPERSEDED, RolloutState.PRUNED)
    return world.rollouts[key[0]].state not in over


def _is_unacknowledged(world: World, key: HostKey) -> bool:
    host = world.hosts.get(key)
    return host is not None and host.state is HostState.PENDING and host.dispatch_acked_at is None


def _of_earlier_waves(world: World, key: HostKey) -> Iterator[HostKey]:
    wave_of = world.terms[key[0]].wave_of
    for host, wave in wave_of.items():
        if wave < wave_of[key[1]] and host not in world.rollouts[key[0]].excused_hosts:
            yield key[0], host


def _soak_minutes(world: World, key: HostKey) -> int:
    terms = world.terms[key[0]]
    return terms.wave_soak_minutes[terms.wave_of[key[1]]]


def _budgets(world: World, key: HostKey) -> list[BudgetTerms]:
    return [budget for budget in world.terms[key[0]].budgets if key[1] in budget.hosts]


def _in_flight(world: World, budget: BudgetTerms, dispatched: list[HostKey]) -> int:
    return sum(
        _is_in_flight(world, key, dispatched)
        and any(canonical(b.selector) == canonical(budget.selector) for b in _budgets(world, key))
        for key in world.hosts
        if _is_live(world, key)
    )


def _is_in_flight(world: World, key: HostKey, dispatched: list[HostKey]) -> bool:
    if world.hosts[key].state in (HostState.ACTIVATING, HostState.SOAKING):
        return True
    return key in dispatched or (key in world.queued and _is_unacknowledged(world, key))
