"""The table of docs/spec/planner.md, Gates once more, as plain scans over plain dicts: slow, and easy to check by eye.

Shares nothing with the planner but the data: no view, no counts, no gate functions. Gives no reasons.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import Ramp
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.terms import BudgetTerms
from nixfleet_state_machine.rollout.event import RolloutEvent, RolloutTerminal, WaveAdvanced
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_state_machine.scopes.selector import canonical, summary
from tests.planner.world import HostKey, World

Decision = tuple[object, ...]
_ROLLS_BACK = OnHealthFailure.ROLLBACK_AND_HALT
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
        if not _is_waiting(world, key):
            continue
        gate = _first(_GATES, world, key, dispatched)
        if gate is not None:
            decisions.append(("defer", *key, gate))
        else:
            dispatched.append(key)
            due = world.hosts[key].soak_due_at or now + timedelta(minutes=_soak_minutes(world, key))
            attempt = world.rollouts[key[0]].attempts.get(key[1], 1)
            decisions.append(("queue", *key, world.hosts[key].target_closure, due, attempt))
    return decisions


def naive_progress(world: World, rollout_id: RolloutId, now: datetime) -> list[RolloutEvent]:
    """Return the rollout events that are due, by a look at every host."""
    record, terms = world.rollouts[rollout_id], world.terms[rollout_id]
    if record.state not in (RolloutState.ACTIVE, RolloutState.CONVERGING):
        return []
    events: list[RolloutEvent] = []
    wave, last = record.current_wave, len(terms.wave_soak_minutes) - 1
    while wave < last and _is_done(world, rollout_id, wave, "Converged", "Deferred"):
        events.append(WaveAdvanced(rollout_id, wave, wave + 1, now))
        wave += 1
    is_news = bool(events) or record.state is RolloutState.ACTIVE
    settled = ("Soaking", "Converged", "Deferred")
    if wave == last and is_news and _is_done(world, rollout_id, wave, *settled):
        events.append(WaveAdvanced(rollout_id, wave, wave, now))
    waves = {terms.wave_of.get(host) for host in terms.targets}
    if all(_is_done(world, rollout_id, each, "Converged") for each in waves):
        events.append(RolloutTerminal(rollout_id, now))
    return events


def _is_done(world: World, rollout_id: RolloutId, wave: int | None, *states: str) -> bool:
    """Whether nobody of the wave is waited for, not too many failed, and somebody came if anybody could."""
    terms, record = world.terms[rollout_id], world.rollouts[rollout_id]
    staged = [host for host in terms.targets if terms.wave_of.get(host) == wave]
    standings = {host: record.standings.get(host, Standing.COUNTED) for host in staged}
    failed = [host for host in staged if _counts_as_failed(world, (rollout_id, host))]
    succeeded = [
        host
        for host in staged
        if standings[host] is Standing.COUNTED
        and host not in failed
        and _state(world, rollout_id, host) in states
    ]
    outcome = {*failed, *succeeded}
    counted = (Standing.COUNTED, Standing.LAPSED)
    if any(standings[host] in counted and host not in outcome for host in staged):
        return False
    if len(failed) > _allowed(world, rollout_id, wave):
        return False
    missing = [host for host in staged if standings[host] in (Standing.AWAY, Standing.SKIPPED)]
    return bool(staged) and (bool(succeeded) or not (failed or missing))


def _counts_as_failed(world: World, key: HostKey) -> bool:
    match world.rollouts[key[0]].standings.get(key[1], Standing.COUNTED):
        case Standing.LAPSED:
            return True
        case Standing.COUNTED:
            return key in world.hosts and _has_failed(world, key)
        case _:
            return False


def _has_failed(world: World, key: HostKey) -> bool:
    """Whether an attempt failed and none has succeeded since."""
    host = world.hosts[key]
    is_back = host.state in (HostState.CONVERGED, HostState.DEFERRED)
    is_down = host.state in (HostState.FAILED, HostState.REVERTED)
    return is_down or (host.failed_at is not None and not is_back)


def _allowed(world: World, rollout_id: RolloutId, wave: int | None) -> int:
    tolerances = world.terms[rollout_id].wave_tolerances
    if wave is None or not tolerances:
        return 0
    size = [*world.terms[rollout_id].wave_of.values()].count(wave)
    number, share = tolerances[wave].max_failures, tolerances[wave].max_failure_pct
    limits = [] if number is None else [number]
    limits += [] if share is None else [int(size * share / 100)]
    return min(limits, default=0)


def _is_tolerated(world: World, key: HostKey) -> bool:
    """Whether the host failed where hosts may fail."""
    wave = world.terms[key[0]].wave_of.get(key[1])
    return _has_failed(world, key) and _allowed(world, key[0], wave) > 0


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
    if world.rollouts[key[0]].state in may_go or _is_at_work_after_the_end(world, key):
        return None
    return Gate.ROLLOUT_HALTED


def _operator_hold(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    scopes = (key[0], key[0].channel, f"host:{key[1]}")
    is_held = any(scope in world.holds for scope in scopes)
    return Gate.OPERATOR_HOLD if is_held else None


def _channel_edges(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for channel in world.terms[key[0]].predecessors:
        if channel in world.seen:
            seen = world.seen[channel]
            if seen.offered_rollout_id is not None and not seen.done:
                return Gate.CHANNEL_EDGES
        elif channel in world.offers:
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
        standing = world.rollouts[key[0]].standings.get(edge.gates)
        if edge.gated == key[1] and standing not in (Standing.EXCUSED, Standing.LEFT):
            gating = world.hosts.get((key[0], edge.gates))
            if gating is None or gating.state not in (HostState.CONVERGED, HostState.DEFERRED):
                return Gate.HOST_EDGE
    return None


def _disruption_budget(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    # A host that is down keeps its slot, and needs no other one to try again.
    own = _is_served(world, key) and _is_in_flight(world, key, [])
    for budget in _budgets(world, key):
        if _in_flight(world, budget, dispatched) - own >= budget.limit:
            return Gate.DISRUPTION_BUDGET
        if budget.ramp is not None:
            slots = _slots_of_ramp(budget.ramp, budget.limit, _converged(world, key[0], budget))
            if _under_way(world, key[0], budget, dispatched) >= slots:
                return Gate.DISRUPTION_BUDGET
        most = budget.max_per_minute
        if most is not None and _begun(world, budget, dispatched) >= most:
            return Gate.DISRUPTION_BUDGET
    return None


def _compliance_wave(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for earlier in _of_earlier_waves(world, key):
        is_tolerated = earlier in world.hosts and _is_tolerated(world, earlier)
        if world.outstanding.get(earlier, 0) and not is_tolerated:
            return Gate.COMPLIANCE_WAVE
    return None


def _probe_topology(world: World, key: HostKey, dispatched: list[HostKey]) -> Gate | None:
    for earlier in _of_earlier_waves(world, key):
        host = world.hosts.get(earlier)
        runs = host is not None and host.state in (HostState.SOAKING, HostState.CONVERGED)
        is_silent = host is not None and runs and host.declared_probes is None
        if is_silent and not _is_tolerated(world, earlier):
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


def _is_waiting(world: World, key: HostKey) -> bool:
    never = (Standing.AWAY, Standing.LAPSED, Standing.LEFT)
    return (
        _is_served(world, key)
        and _is_unacknowledged(world, key)
        and key not in world.queued
        and world.rollouts[key[0]].standings.get(key[1]) not in never
    )


def _is_served(world: World, key: HostKey) -> bool:
    over = (RolloutState.TERMINAL, RolloutState.SUPERSEDED, RolloutState.PRUNED)
    return world.rollouts[key[0]].state not in over or _is_at_work_after_the_end(world, key)


def _is_at_work_after_the_end(world: World, key: HostKey) -> bool:
    """Whether the rollout is Terminal, and the host is late, was skipped, tries again or is tolerated as failed."""
    record = world.rollouts[key[0]]
    if record.state is not RolloutState.TERMINAL:
        return False
    standing = record.standings.get(key[1], Standing.COUNTED)
    if standing is Standing.COUNTED:
        return record.attempts.get(key[1], 1) > 1 or _is_tolerated(world, key)
    return standing in (Standing.LATE, Standing.SKIPPED)


def _is_unacknowledged(world: World, key: HostKey) -> bool:
    host = world.hosts.get(key)
    if host is None:
        return False
    if host.state is HostState.PENDING:
        return host.dispatch_acked_at is None
    may_begin = host.state in (HostState.CONVERGED, HostState.REVERTED) or (
        host.state is HostState.FAILED and host.policy_applied is not _ROLLS_BACK
    )
    return may_begin and world.rollouts[key[0]].attempts.get(key[1], 1) > host.attempt


def _of_earlier_waves(world: World, key: HostKey) -> Iterator[HostKey]:
    wave_of = world.terms[key[0]].wave_of
    for host, wave in wave_of.items():
        standing = world.rollouts[key[0]].standings.get(host, Standing.COUNTED)
        if wave < wave_of[key[1]] and standing is Standing.COUNTED:
            yield key[0], host


def _soak_minutes(world: World, key: HostKey) -> int:
    terms = world.terms[key[0]]
    return terms.wave_soak_minutes[terms.wave_of[key[1]]]


def _budgets(world: World, key: HostKey) -> list[BudgetTerms]:
    return [budget for budget in world.terms[key[0]].budgets if key[1] in budget.hosts]


def _in_flight(world: World, budget: BudgetTerms, dispatched: list[HostKey]) -> int:
    return sum(
        _is_in_flight(world, key, dispatched) and _is_under(world, key, budget)
        for key in world.hosts
        if _is_served(world, key)
    )


def _slots_of_ramp(ramp: Ramp, limit: int, converged: int) -> int:
    """Return the slots, one converged host after the other: when all slots of a step have one, the next begins."""
    slots = min(ramp.start, limit)
    left = slots
    for _ in range(converged):
        left -= 1
        if left == 0:
            slots = left = min(slots * ramp.factor, limit)
    return slots


def _converged(world: World, rollout_id: RolloutId, budget: BudgetTerms) -> int:
    return sum(
        host.state is HostState.CONVERGED and _is_under(world, key, budget)
        for key, host in world.hosts.items()
        if key[0] == rollout_id
    )


def _under_way(
    world: World, rollout_id: RolloutId, budget: BudgetTerms, dispatched: list[HostKey]
) -> int:
    return sum(
        _is_acting(world, key, dispatched) and _is_under(world, key, budget)
        for key in world.hosts
        if key[0] == rollout_id
    )


def _begun(world: World, budget: BudgetTerms, dispatched: list[HostKey]) -> int:
    known = len(world.begun.get(summary(budget.selector), []))
    names = (name for key in dispatched for name in minute_names(world, key))
    return known + sum(name == summary(budget.selector) for name in names)


def minute_names(world: World, key: HostKey) -> set[str]:
    """Return the names of the budgets of a host that limit the beginnings in a minute, in its rollout."""
    limited = {
        summary(budget.selector)
        for budget in world.terms[key[0]].budgets
        if budget.max_per_minute is not None
    }
    return limited & {summary(budget.selector) for budget in _budgets(world, key)}


def _is_under(world: World, key: HostKey, budget: BudgetTerms) -> bool:
    return any(canonical(b.selector) == canonical(budget.selector) for b in _budgets(world, key))


def overpaced(world: World, key: HostKey) -> list[BudgetTerms]:
    """Return the budgets of the host of which more hosts are under way than the ramp says, or begin too fast."""
    found: list[BudgetTerms] = []
    for budget in _budgets(world, key):
        slots = len(world.hosts)
        if budget.ramp is not None:
            slots = _slots_of_ramp(budget.ramp, budget.limit, _converged(world, key[0], budget))
        most = budget.max_per_minute
        is_too_fast = most is not None and _begun(world, budget, []) > most
        if is_too_fast or _under_way(world, key[0], budget, []) > slots:
            found.append(budget)
    return found


def _is_in_flight(world: World, key: HostKey, dispatched: list[HostKey]) -> bool:
    standing = world.rollouts[key[0]].standings.get(key[1])
    if standing in (Standing.AWAY, Standing.LAPSED):
        return False
    state = world.hosts[key].state
    is_out = standing in (Standing.EXCUSED, Standing.LEFT)
    if state is HostState.FAILED and _is_tolerated(world, key) and not is_out:
        return True
    return _is_acting(world, key, dispatched)


def _is_acting(world: World, key: HostKey, dispatched: list[HostKey]) -> bool:
    """Whether the host is in flight and not down: it acts, or has a dispatch."""
    if world.rollouts[key[0]].standings.get(key[1]) in (Standing.AWAY, Standing.LAPSED):
        return False
    if world.hosts[key].state in (HostState.ACTIVATING, HostState.SOAKING):
        return True
    return key in dispatched or (key in world.queued and _is_unacknowledged(world, key))
