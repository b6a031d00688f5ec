"""What is certain to come, and when, if nothing happens before. O(holds of the rollout + calendar entries).

Source: docs/spec/overview.md, What comes next.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.overview.words import minute
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import BAKE
from nixfleet_runtime.http.overview import ComingEdge, EdgeKind, OverviewWave
from nixfleet_state_machine.planner.deadlines import Due, LapseDue, RetryDue
from nixfleet_state_machine.planner.holds.blocks import words_of
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.holds.edges import calendar_changes
from nixfleet_state_machine.planner.holds.groups import ChannelCalendar
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind
from nixfleet_state_machine.planner.holds.scope import FleetScope, WaveScope
from nixfleet_state_machine.planner.pace.status import budget_statuses

_NO_CALENDAR = ChannelCalendar()


def coming_edges(
    state: State,
    zones: Zones,
    rollout_id: RolloutId,
    waves: tuple[OverviewWave, ...],
    stale_at: datetime | None,
    now: datetime,
) -> tuple[ComingEdge, ...]:
    """Return what comes for an open rollout, in order of the times. stale_at: of its manifest, if it is in force."""
    found = (
        *_holds(state, rollout_id),
        *_calendar(state, zones, rollout_id, now),
        *_of_waves(waves),
        *_deadline(state, rollout_id),
        *_slots(state, rollout_id),
        *_ends(state, rollout_id, stale_at),
    )
    return tuple(sorted((edge for edge in found if edge.at > now), key=lambda edge: edge.at))


def holds_of(state: State, rollout_id: RolloutId) -> Iterator[Hold]:
    """Yield the holds on the fleet, the channel, its groups, the rollout and its waves; not those on hosts."""
    view = state.view
    terms, on = view.terms(rollout_id), view.holds.on
    yield from on(str(FleetScope()))
    yield from on(terms.channel)
    for group in state.calendars.get(terms.channel, _NO_CALENDAR).groups:
        if str(group.scope) != terms.channel:
            yield from on(str(group.scope))
    yield from on(rollout_id)
    for wave in range(terms.last_wave + 1):
        yield from on(str(WaveScope(rollout_id, wave)))


def _holds(state: State, rollout_id: RolloutId) -> Iterator[ComingEdge]:
    for hold in holds_of(state, rollout_id):
        # The time of a wave is among the waves.
        if hold.until is not None and hold.source.kind is not HoldKind.NOT_BEFORE:
            yield ComingEdge(hold.until, EdgeKind.HOLD_ENDS, f"a hold ends: {words_of(hold)}")


def _calendar(
    state: State, zones: Zones, rollout_id: RolloutId, now: datetime
) -> Iterator[ComingEdge]:
    channel = state.view.terms(rollout_id).channel
    for group in state.calendars.get(channel, _NO_CALENDAR).groups:
        for at, source in calendar_changes(group, zones, now):
            what = "freeze" if source.kind is HoldKind.FREEZE else "outside of the windows"
            text = f"{what} {source.name}: nothing begins in {group.scope}"
            yield ComingEdge(at, EdgeKind.CALENDAR, text)


def _of_waves(waves: tuple[OverviewWave, ...]) -> Iterator[ComingEdge]:
    for wave in waves:
        if wave.begins_at is not None:
            text = f"wave {wave.wave} may begin, as its manifest signs"
            yield ComingEdge(wave.begins_at, EdgeKind.WAVE_BEGINS, text, wave.wave)
        if wave.bake_until is not None and wave.guards is not None:
            others = [it for it in wave.guards.guards if it.name != BAKE]
            lacking = "; ".join(it.text for it in others if not it.state.lets_begin)
            then = f"it lacks still {lacking}" if lacking else "it begins"
            text = f"the bake before wave {wave.wave} is over: {then}"
            yield ComingEdge(wave.bake_until, EdgeKind.BAKE_ENDS, text, wave.wave)


def _deadline(state: State, rollout_id: RolloutId) -> Iterator[ComingEdge]:
    """The first one of all hosts, if it is of this rollout: the others are not sorted by rollout."""
    first = state.view.next_due_host()
    if first is not None and first[0] == rollout_id:
        _, hostname, due = first
        yield ComingEdge(due.at, EdgeKind.DEADLINE, _due_words(hostname, due))


def _due_words(hostname: str, due: Due) -> str:
    match due:
        case LapseDue():
            return f"{hostname} is {due.standing} if its {due.stage} is not over by then"
        case RetryDue():
            return f"{hostname} makes attempt {due.attempt}"
        case _:
            assert_never(due)


def _slots(state: State, rollout_id: RolloutId) -> Iterator[ComingEdge]:
    for budget in budget_statuses(state.view, rollout_id):
        if budget.returns_at is not None and budget.begun == budget.max_per_minute:
            text = f"the next host may begin ({budget.budget}: {budget.max_per_minute} a minute)"
            yield ComingEdge(budget.returns_at, EdgeKind.SLOT_RETURNS, text)


def _ends(state: State, rollout_id: RolloutId, stale_at: datetime | None) -> Iterator[ComingEdge]:
    if stale_at is not None:
        text = f"hosts refuse {rollout_id} from {minute(stale_at)} on, unless it is signed again"
        yield ComingEdge(stale_at, EdgeKind.GOES_STALE, text)
    pruned_at = state.prune_due.get(rollout_id)
    if pruned_at is not None:
        text = "the records of its hosts are removed, if nothing is outstanding"
        yield ComingEdge(pruned_at, EdgeKind.PRUNED, text)
