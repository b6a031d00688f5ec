"""The planner against recorded plans of small fleets.

Where a row contains something that we decide otherwise on purpose, the plans need not be equal. Ours must be
sound all the same, and so must equal ones: every waiting host is answered once, no dispatch breaks a budget or
goes past a gate. Soundness is worked out from the records, not with the planner's own gates.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner import plan
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import BudgetTerms
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_testing.conformance.answer import (
    JsonObject,
    Mismatch,
    Run,
    value_mismatches,
)
from nixfleet_testing.conformance.planner_situation import Situation, read_situation
from nixfleet_testing.conformance.reference_json import (
    id_at,
    objects_at,
    read_at,
    structured_at,
    to_json_object,
)

Planner: TypeAlias = Callable[[FleetView, Quarantines, datetime], Sequence[PlanAction]]


@frozen
class PlannerVector:
    """A situation and the plan recorded for it. differs_by_design: what in it we decide otherwise."""

    id: str
    situation: Situation
    actions: tuple[JsonObject, ...]
    differs_by_design: tuple[str, ...]


def check_plan(vector: PlannerVector, planner: Planner = plan.plan_next) -> Run:
    """Compare the plan for the situation of `vector`; where we differ, look only whether it is sound."""
    situation = vector.situation
    found = planner(situation.view(), situation.quarantines, situation.now)
    mismatches = [*unsoundness(situation, found)]
    if not vector.differs_by_design:
        mismatches += _plan_mismatches(vector.actions, tuple(map(action_json, found)))
    return Run.of(vector.id, 1, " ".join(vector.differs_by_design) or None, mismatches)


def read_planner_vector(row: JsonObject) -> PlannerVector:
    """Return the vector in `row`, of `planner_vectors`. Raises: ValueError."""
    return PlannerVector(
        id=id_at(row),
        situation=read_at(row, "input", read_situation),
        actions=tuple(map(_without_reason, objects_at(row, "actions"))),
        differs_by_design=structured_at(
            {"differs_by_design": [], **row}, "differs_by_design", tuple[str, ...]
        ),
    )


def unsoundness(situation: Situation, actions: Sequence[PlanAction]) -> Iterator[Mismatch]:
    """Yield what no plan may do in `situation`."""
    yield from _unanswered(situation, actions)
    dispatches = [action for action in actions if isinstance(action, QueueDispatch)]
    for dispatch in dispatches:
        for problem in _objections(situation, dispatch):
            yield Mismatch(f"{dispatch.rollout_id}.{dispatch.host}", "DeferDispatch", problem)
    yield from _over_budget(situation, dispatches)


def _unanswered(situation: Situation, actions: Sequence[PlanAction]) -> Iterator[Mismatch]:
    waiting = sorted(key for key, host in situation.hosts.items() if _is_waiting(situation, host))
    answered = [
        (action.rollout_id, action.host)
        for action in actions
        if isinstance(action, QueueDispatch | DeferDispatch)
    ]
    if answered != waiting:
        yield Mismatch("answered", str(waiting), str(answered))


def _is_waiting(situation: Situation, host: HostRolloutState) -> bool:
    rollout = situation.rollouts[host.rollout_id]
    standing = rollout.standing_of(host.hostname)
    is_queued = (host.rollout_id, host.hostname) in situation.queued
    is_gone = standing.is_silent or standing is Standing.LEFT
    is_served = rollout.state.is_live or _is_late(situation, host)
    return _is_unacknowledged(situation, host) and is_served and not is_queued and not is_gone


def _is_unacknowledged(situation: Situation, host: HostRolloutState) -> bool:
    if host.state is HostState.PENDING:
        return host.dispatch_acked_at is None
    ordered = situation.rollouts[host.rollout_id].attempt_of(host.hostname)
    return ordered > host.attempt and host.may_try_again


def _is_late(situation: Situation, host: HostRolloutState) -> bool:
    """Whether the host is at work after its rollout is Terminal."""
    rollout = situation.rollouts[host.rollout_id]
    if rollout.state is not RolloutState.TERMINAL:
        return False
    standing = rollout.standing_of(host.hostname)
    has_failed = host.has_failed and situation.terms[host.rollout_id].is_tolerant_of(host.hostname)
    is_at_work = rollout.attempt_of(host.hostname) > 1 or has_failed
    return standing.is_served_late or (standing is Standing.COUNTED and is_at_work)


def _objections(situation: Situation, dispatch: QueueDispatch) -> Iterator[str]:
    """Yield why the dispatch is too early, whatever the budgets say."""
    terms = situation.terms[dispatch.rollout_id]
    if dispatch.target_closure in situation.quarantines.get(terms.channel, ()):
        yield f"{dispatch.target_closure} is quarantined"
    if situation.rollouts[dispatch.rollout_id].state.is_halted:
        yield f"{dispatch.rollout_id} is halted"
    for scope in situation.holds.keys() & {terms.channel, dispatch.rollout_id}:
        yield f"{scope} is paused"
    for channel in terms.predecessors:
        if channel in situation.offers and not _is_done(situation, situation.offers[channel]):
            yield f"channel {channel} is not done"
    rollout = situation.rollouts[dispatch.rollout_id]
    for gating in terms.gating_hosts(dispatch.host):
        host = situation.hosts.get((dispatch.rollout_id, gating))
        is_through = host is not None and host.state.is_ordering_eligible
        if not is_through and rollout.standing_of(gating) not in (Standing.EXCUSED, Standing.LEFT):
            yield f"{gating} is not done"
    wave = terms.wave_of.get(dispatch.host)
    if wave is None or wave > situation.rollouts[dispatch.rollout_id].current_wave:
        yield f"wave {wave} is not reached"
    else:
        yield from _earlier_failures(situation, dispatch.rollout_id, wave)


def _is_done(situation: Situation, rollout_id: RolloutId) -> bool:
    record = situation.rollouts.get(rollout_id)
    return record is not None and record.state.is_terminal_for_ordering


def _earlier_failures(situation: Situation, rollout_id: RolloutId, wave: int) -> Iterator[str]:
    wave_of = situation.terms[rollout_id].wave_of
    rollout, terms = situation.rollouts[rollout_id], situation.terms[rollout_id]
    for (failing_in, host), count in situation.outstanding.items():
        is_earlier = wave_of.get(host, wave) < wave
        counts = rollout.standing_of(host) is Standing.COUNTED
        record = situation.hosts.get((rollout_id, host))
        is_tolerated = record is not None and record.has_failed and terms.is_tolerant_of(host)
        if failing_in == rollout_id and count and is_earlier and counts and not is_tolerated:
            yield f"{count} controls of {host} fail"


def _over_budget(situation: Situation, dispatches: Sequence[QueueDispatch]) -> Iterator[Mismatch]:
    """Yield the dispatches after which more hosts are in flight than a budget of theirs allows."""
    in_flight: Counter[str] = Counter()
    for (rollout_id, name), host in situation.hosts.items():
        is_served = situation.rollouts[rollout_id].state.is_live or _is_late(situation, host)
        if is_served and _takes_a_slot(situation, host):
            in_flight.update({budget.name for budget in _budgets(situation, rollout_id, name)})
    for dispatch in dispatches:
        budgets = _budgets(situation, dispatch.rollout_id, dispatch.host)
        in_flight.update({budget.name for budget in budgets})
        for budget in budgets:
            if in_flight[budget.name] > budget.limit:
                found = f"{in_flight[budget.name]} with {dispatch.host}"
                yield Mismatch(f"in flight ({budget.name})", f"at most {budget.limit}", found)


def _takes_a_slot(situation: Situation, host: HostRolloutState) -> bool:
    standing = situation.rollouts[host.rollout_id].standing_of(host.hostname)
    if standing.is_silent:
        return False
    is_tolerant = situation.terms[host.rollout_id].is_tolerant_of(host.hostname)
    is_out = standing is Standing.EXCUSED or standing is Standing.LEFT
    is_down = is_tolerant and host.state is HostState.FAILED and not is_out
    is_queued = (host.rollout_id, host.hostname) in situation.queued
    return host.state.is_in_flight or is_queued or is_down


def _budgets(situation: Situation, rollout_id: RolloutId, host: str) -> list[BudgetTerms]:
    return [budget for budget in situation.terms[rollout_id].budgets if host in budget.hosts]


def _plan_mismatches(
    expected: Sequence[JsonObject], found: Sequence[JsonObject]
) -> Iterator[Mismatch]:
    if len(expected) != len(found):
        yield Mismatch("plan", f"{len(expected)} actions", f"{len(found)} actions")
    for place, (recorded, ours) in enumerate(zip(expected, found, strict=False)):
        yield from value_mismatches(recorded, ours, f"plan.{place}")


def action_json(action: PlanAction) -> JsonObject:
    """Return the action as the recorder spells it."""
    json = _without_reason({"type": type(action).__name__, **to_json_object(action)})
    match action:
        case OpenRollout():
            return json
        case QueueDispatch() | DeferDispatch() | WithdrawDispatch():
            return {"rollout" if key == "rollout_id" else key: json[key] for key in json}
        case _:
            assert_never(action)


def _without_reason(action: JsonObject) -> JsonObject:
    """A reason is each implementation's own."""
    return {key: value for key, value in action.items() if key != "reason"}
