"""The waves of a rollout: hosts by state, what each waits for, its guards and its bake. O(waves).

Source: docs/spec/overview.md, Waves.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

from attrs import frozen

from nixfleet_control_plane.engine.guard_verdicts import GuardedRollout, wave_guards
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.overview.guards import listed_guards
from nixfleet_control_plane.overview.tallies import Grouped, done_in, grouped
from nixfleet_control_plane.overview.words import minute, percent_of
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import BAKE
from nixfleet_runtime.http.listings import ListedGuards
from nixfleet_runtime.http.overview import OverviewWave
from nixfleet_state_machine.planner.rollout_status import WaveState, WaveStatus
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE

_NOBODY = Grouped(FrozenMap(), FrozenMap())


@frozen
class _Wave:
    """What is known of one wave."""

    status: WaveStatus
    hosts: int
    guards: ListedGuards | None
    begins_at: datetime | None
    is_reached: bool


def overview_waves(
    state: State, rollout_id: RolloutId, statuses: tuple[WaveStatus, ...], now: datetime
) -> tuple[OverviewWave, ...]:
    """Return the waves of an open rollout, in order; hosts in no wave come last."""
    view = state.view
    record, terms = view.rollout(rollout_id), view.terms(rollout_id)
    by_wave = grouped(view, rollout_id)
    unstaged = len(terms.targets) - len(terms.wave_of)
    made = list[OverviewWave]()
    for status in statuses:
        wave = status.wave
        if wave is None and not unstaged:
            continue
        known = _Wave(
            status,
            unstaged if wave is None else terms.wave_sizes[wave],
            listed_guards(_guards_of(state, rollout_id, wave)),
            _begins_at(state, rollout_id, wave, now),
            wave is not None and wave <= record.current_wave,
        )
        parts = by_wave.get(wave, _NOBODY)
        is_current = wave is not None and wave == max(record.current_wave, 0)
        made.append(_shown(known, parts, terms, is_current=is_current))
    return tuple(made)


def _shown(known: _Wave, parts: Grouped, terms: RolloutTerms, *, is_current: bool) -> OverviewWave:
    status, guards = known.status, known.guards
    bakes = () if guards is None else (each for each in guards.guards if each.name == BAKE)
    waits_for = _waits_for(known)
    return OverviewWave(
        wave=status.wave,
        text=_text(known, waits_for),
        verdict=status.verdict,
        is_current=is_current,
        hosts=known.hosts,
        total=status.total,
        percent=percent_of(done_in(status), status.total),
        states=parts.states,
        standings=parts.standings,
        converged=status.converged,
        failed=status.failed,
        allowed=status.allowed,
        absent=status.absent,
        soak_seconds=0 if status.wave is None else terms.wave_soak_minutes[status.wave] * 60,
        begins_at=known.begins_at,
        bake_until=next((each.until for each in bakes if not each.state.lets_begin), None),
        guards=guards,
        waits_for=waits_for,
    )


def _guards_of(state: State, rollout_id: RolloutId, wave: int | None) -> GuardedRollout | None:
    """The guards of a wave that has not begun."""
    record = state.view.rollout(rollout_id)
    if wave is None or wave <= record.current_wave or not record.state.is_live:
        return None
    return wave_guards(state, rollout_id, wave)


def _begins_at(
    state: State, rollout_id: RolloutId, wave: int | None, now: datetime
) -> datetime | None:
    times = state.manifests[rollout_id].manifest.wave_not_before
    if wave is None or wave >= len(times):
        return None
    at = times[wave]
    return at if at is not None and at > now else None


def _text(known: _Wave, waits_for: str | None) -> str:
    match known.status.verdict:
        case WaveState.DONE:
            return "done"
        case WaveState.BROKEN:
            return "broken"
        case WaveState.HALTED:
            return "halted"
        case WaveState.GOING:
            return "now" if waits_for is None else waits_for
        case WaveState.WAITING:
            return waits_for or "waits"
        case _:
            assert_never(known.status.verdict)


def _waits_for(known: _Wave) -> str | None:
    return "; ".join(_causes(known)) or None


def _causes(known: _Wave) -> Iterator[str]:
    status, guards = known.status, known.guards
    if status.verdict is not WaveState.WAITING and status.verdict is not WaveState.GOING:
        return
    if status.wave is None:
        yield "in no wave: nothing is dispatched to these hosts"
        return
    if status.verdict is WaveState.WAITING and not known.is_reached:
        is_asked = guards is not None and guards.since is not None
        if status.wave - 1 > BEFORE_FIRST_WAVE and not is_asked:
            yield f"waits for wave {status.wave - 1}"
        if guards is not None and guards.lacking and (is_asked or status.wave == 0):
            yield f"waits for {'; '.join(guards.lacking)}"
    if known.begins_at is not None:
        yield f"begins not before {minute(known.begins_at)}"
