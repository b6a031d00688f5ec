"""The rollout events that are due, by the counts in the view. O(waves), independent of the number of hosts.

Source: docs/spec/rollout-machine.md, Who emits rollout events.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import assert_never

from nixfleet_proto.checked import require_arguments
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.guards.states import (
    broken_reason,
    broken_wave,
    guards_of_wave,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.planner.verdict import WaveVerdict, verdict_of
from nixfleet_state_machine.rollout.event import (
    GuardsOpened,
    RolloutEvent,
    RolloutTerminal,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE, RolloutRecord, RolloutState


def due_rollout_events(
    view: FleetView, rollout_id: RolloutId, now: datetime
) -> tuple[RolloutEvent, ...]:
    """Return the events that follow from the states of a rollout's hosts, in the order to apply them.

    None is due twice: after these are applied and the record is set, the result is empty.
    now: aware UTC.
    Raises: UnknownRollout, InvalidValue.
    """
    require_arguments("due_rollout_events", view=(view, FleetView), now=(now, datetime))
    record = view.rollout(rollout_id)
    match record.state:
        case RolloutState.ACTIVE | RolloutState.CONVERGING:
            broken = _broken(view, record, now)
            if broken:
                return broken
            waves = tuple(_waves(view, record, now))
            return *waves, *_end(view, record, waves, now)
        case RolloutState.OPENING if record.current_wave == BEFORE_FIRST_WAVE:
            return _broken(view, record, now) or tuple(_waves(view, record, now))[:1]
        case (
            RolloutState.OPENING
            | RolloutState.TERMINAL
            | RolloutState.REVERTED
            | RolloutState.FAILED
            | RolloutState.ABORTED
            | RolloutState.SUPERSEDED
            | RolloutState.PRUNED
        ):
            return ()
        case _:
            assert_never(record.state)


def empty_waves(terms: RolloutTerms) -> tuple[int, ...]:
    """Return the waves without a host. A rollout with one must not open: it would never advance past it."""
    waves = range(len(terms.wave_soak_minutes))
    return tuple(wave for wave in waves if not terms.wave_sizes[wave])


def _waves(
    view: FleetView, record: RolloutRecord, now: datetime
) -> Iterator[WaveAdvanced | GuardsOpened]:
    """Yield an advance for each wave that is done, up to one whose successor is guarded and must not begin.

    The last wave only has to settle, and advances once.
    """
    rollout_id = record.rollout_id
    terms = view.terms(rollout_id)
    last, wave = terms.last_wave, record.current_wave
    while wave < last and _is_done(view, rollout_id, wave):
        guarded = guards_of_wave(record, terms, wave + 1)
        if guarded is not None and not guarded.may_begin:
            if guarded.since is None:
                yield GuardsOpened(rollout_id, guarded.wave, now)
            return
        yield WaveAdvanced(rollout_id, wave, wave + 1, now)
        wave += 1
    # A rollout that is Converging has had this event already.
    is_new = record.state is RolloutState.ACTIVE or wave > record.current_wave
    if wave == last and is_new and _is_settled(view, rollout_id, wave):
        yield WaveAdvanced(rollout_id, wave, wave, now)


def _broken(view: FleetView, record: RolloutRecord, now: datetime) -> tuple[WaveBroken, ...]:
    """Return the event that is due if a guard of a later wave can be satisfied no more.

    Also while the waves before are not done: whoever denies a wave early wants the rollout to halt.
    """
    guarded = broken_wave(record, view.terms(record.rollout_id))
    if guarded is None or guarded.broken is None:
        return ()
    reason = broken_reason(guarded.broken)
    return (WaveBroken(record.rollout_id, guarded.wave, 0, 0, 0, now, reason),)


def _end(
    view: FleetView,
    record: RolloutRecord,
    advances: Iterable[WaveAdvanced | GuardsOpened],
    now: datetime,
) -> Iterator[RolloutTerminal]:
    """Yield the end, if every wave is done, and every guarded one began by what its guards say.

    Also of a wave that nobody waits for, since all of its hosts are excused or skipped: its guards stand before those
    of them that come late. advances: what is due before.
    """
    began = (each.to_wave for each in advances if isinstance(each, WaveAdvanced))
    reached = max(began, default=record.current_wave)
    terms = view.terms(record.rollout_id)
    if any(terms.guards_of(wave).is_declared for wave in range(reached + 1, terms.last_wave + 1)):
        return
    waves = view.waves_of(record.rollout_id)
    if all(_has_ended(view, record.rollout_id, wave) for wave in waves):
        yield RolloutTerminal(record.rollout_id, now)


def _is_done(view: FleetView, rollout_id: RolloutId, wave: int) -> bool:
    if wave == BEFORE_FIRST_WAVE:
        return True
    # A wave whose hosts are all excused is done; one without hosts is not.
    is_done = verdict_of(view, rollout_id, wave) is WaveVerdict.DONE
    return is_done and view.terms(rollout_id).wave_sizes[wave] > 0


def _is_settled(view: FleetView, rollout_id: RolloutId, wave: int) -> bool:
    verdict = verdict_of(view, rollout_id, wave, lambda tally: tally.settled)
    return verdict is WaveVerdict.DONE and view.terms(rollout_id).wave_sizes[wave] > 0


def _has_ended(view: FleetView, rollout_id: RolloutId, wave: int | None) -> bool:
    return verdict_of(view, rollout_id, wave, lambda tally: tally.converged) is WaveVerdict.DONE
