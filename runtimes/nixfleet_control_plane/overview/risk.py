"""If it went wrong now: what is under way, what may fail yet, and what is barred. O(budgets).

Source: docs/spec/overview.md, If it went wrong now.
"""

from collections.abc import Iterator
from heapq import nsmallest
from typing import Final

from attrs import evolve

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.overview.tallies import in_flight
from nixfleet_control_plane.overview.words import hosts_words
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.overview import Risk
from nixfleet_state_machine.planner.pace.status import BudgetStatus, budget_statuses
from nixfleet_state_machine.planner.rollout_status import WaveStatus

CLOSURES_SHOWN_MAX: Final = 20


def risk_of(state: State, rollout_id: RolloutId, waves: tuple[WaveStatus, ...]) -> Risk:
    """Return the risk of an open rollout. waves: its own, in order."""
    view = state.view
    record, under_way = view.rollout(rollout_id), in_flight(view, rollout_id)
    current = next((it for it in waves if it.wave == max(record.current_wave, 0)), None)
    failed, allowed = (0, 0) if current is None else (current.failed, current.allowed)
    failed_before = sum(wave.failed for wave in waves)
    barred = state.quarantines.get(record.channel, frozenset[str]())
    budgets = budget_statuses(view, rollout_id)
    risk = Risk(
        in_flight=under_way,
        failed=failed,
        allowed=allowed,
        tolerance_left=max(allowed - failed, 0),
        worst_case=failed_before + under_way,
        budgets=budgets,
        quarantined=tuple(nsmallest(CLOSURES_SHOWN_MAX, barred)),
        quarantined_count=len(barred),
        lines=(),
        worst_failed=state.manifests[rollout_id].manifest.blast_radius,
    )
    return evolve(risk, lines=tuple(_lines(risk)))


def _lines(risk: Risk) -> Iterator[str]:
    yield f"{hosts_words(risk.in_flight)} under way"
    yield from map(_budget, risk.budgets)
    yield _tolerance(risk)
    yield f"{hosts_words(risk.worst_case)} down at worst, if all that are under way failed now"
    if risk.worst_failed is not None:
        yield f"{hosts_words(risk.worst_failed)} at worst over the whole rollout, as it is signed"
    if risk.quarantined_count == 1:
        yield f"{risk.quarantined[0]} is quarantined on the channel"
    elif risk.quarantined_count:
        yield f"{risk.quarantined_count:,} closures are quarantined on the channel"
    else:
        yield "nothing is quarantined on the channel"


def _budget(budget: BudgetStatus) -> str:
    return f"{budget.in_flight:,} of {budget.limit:,} slots taken ({budget.budget})"


def _tolerance(risk: Risk) -> str:
    if not risk.allowed:
        return "no failure is tolerated: the first one halts the rollout"
    taken = f"{risk.failed:,} of {risk.allowed:,} tolerated failures of this wave taken"
    if not risk.tolerance_left:
        return f"{taken}: the next one halts the rollout"
    return f"{taken}, {risk.tolerance_left:,} left"
