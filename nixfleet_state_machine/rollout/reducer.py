"""Rollout reducer: every transition out of a state is in its `_from_…`. No clock, no I/O, no log.

Only `_moved` changes the state. Only `_entered_rest` enters one after which the rollout may be pruned, and adds
`SchedulePruning`. Late events are listed by name where they are ignored.
Source: docs/spec/rollout-machine.md, Transitions.
"""

from datetime import datetime
from typing import TypedDict, Unpack, assert_never

from attrs import evolve

from nixfleet_proto.checked import require_arguments
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.approval import SIGNED_AHEAD_MAX
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.effect import (
    RecordRolloutTransition,
    RolloutEffect,
    SchedulePruning,
    UpdateCurrentWave,
)
from nixfleet_state_machine.rollout.errors import IllegalForRolloutState, WrongRollout
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
    subject_of,
)
from nixfleet_state_machine.rollout.guard_tally import unjudged
from nixfleet_state_machine.rollout.state import (
    BEFORE_FIRST_WAVE,
    NO_DRIFTS,
    Drift,
    RolloutRecord,
    RolloutState,
    Standing,
)

_Step = tuple[RolloutRecord, tuple[RolloutEffect, ...]]


def step_rollout(record: RolloutRecord, event: RolloutEvent, now: datetime) -> _Step:
    """Return the record after `event`, and the effects to carry out, in order.

    now: aware UTC; the time of the event is what is recorded. The caller sets the log seqs of the record.
    Raises: IllegalForRolloutState, WrongRollout; `record` is untouched. InvalidValue, for arguments of another type
    and a `now` without a UTC offset.
    Source: docs/spec/rollout-machine.md, Transitions.
    """
    require_arguments(
        "step_rollout",
        record=(record, RolloutRecord),
        event=(event, RolloutEvent),
        now=(now, datetime),
    )
    if subject_of(event) != record.rollout_id:
        raise WrongRollout(record, event)
    match record.state:
        case RolloutState.OPENING:
            return _from_opening(record, event)
        case RolloutState.ACTIVE:
            return _from_active(record, event)
        case RolloutState.CONVERGING:
            return _from_converging(record, event)
        case RolloutState.TERMINAL:
            return _from_terminal(record, event)
        case RolloutState.FAILED | RolloutState.REVERTED:
            return _from_halted(record, event)
        case RolloutState.ABORTED:
            return _from_aborted(record, event)
        case RolloutState.SUPERSEDED:
            return _from_superseded(record, event)
        case RolloutState.PRUNED:
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(record.state)


def _from_opening(record: RolloutRecord, event: RolloutEvent) -> _Step:
    match event:
        case HostJoined():
            # `current_wave` is changed by WaveAdvanced only. Otherwise a host of a later wave that joins first
            # would open the gate for its wave.
            return _moved(record, RolloutState.ACTIVE, event.at)
        case SuccessorOpened():
            return _superseded(record, event)
        case RolloutAborted():
            return _aborted(record, event)
        case HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return _counted_otherwise(record, event)
        case HostDrifted() | DriftEnded():
            return _drifted(record, event)
        case GuardsOpened() | Verdict():
            return _judged(record, event)
        case WaveAdvanced() if record.current_wave == BEFORE_FIRST_WAVE:
            return _at_wave(record, event.to_wave)
        case WaveBroken() if record.current_wave == BEFORE_FIRST_WAVE:
            return _entered_rest(record, RolloutState.FAILED, event.at, broken_at=event.at)
        case (
            RolloutOpened()
            | HostStateChanged()
            | WaveAdvanced()
            | RolloutTerminal()
            | RetentionExpired()
            | OperatorClearance()
            | WaveBroken()
        ):
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _from_active(record: RolloutRecord, event: RolloutEvent) -> _Step:
    match event:
        case HostStateChanged():
            return _after_host_change(record, event)
        case HostJoined():
            return record, ()
        case WaveAdvanced() if event.to_wave > event.from_wave:
            return _at_wave(record, event.to_wave)
        case WaveAdvanced():
            return _moved(record, RolloutState.CONVERGING, event.at)
        case RolloutTerminal():
            return _entered_rest(record, RolloutState.TERMINAL, event.at, terminal_at=event.at)
        case SuccessorOpened():
            return _superseded(record, event)
        case RolloutAborted():
            return _aborted(record, event)
        case HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return _counted_otherwise(record, event)
        case HostDrifted() | DriftEnded():
            return _drifted(record, event)
        case GuardsOpened() | Verdict():
            return _judged(record, event)
        case WaveBroken():
            return _entered_rest(record, RolloutState.FAILED, event.at, broken_at=event.at)
        case RolloutOpened() | RetentionExpired() | OperatorClearance():
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _from_converging(record: RolloutRecord, event: RolloutEvent) -> _Step:
    match event:
        case HostStateChanged():
            return _after_host_change(record, event)
        case HostJoined():
            return record, ()
        case WaveAdvanced() if event.to_wave > event.from_wave:
            active, moved = _moved(record, RolloutState.ACTIVE, event.at)
            after, waved = _at_wave(active, event.to_wave)
            return after, (*moved, *waved)
        case WaveAdvanced():
            return record, ()
        case RolloutTerminal():
            return _entered_rest(record, RolloutState.TERMINAL, event.at, terminal_at=event.at)
        case SuccessorOpened():
            return _superseded(record, event)
        case RolloutAborted():
            return _aborted(record, event)
        case HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return _counted_otherwise(record, event)
        case HostDrifted() | DriftEnded():
            return _drifted(record, event)
        case GuardsOpened() | Verdict():
            return _judged(record, event)
        case WaveBroken():
            return _entered_rest(record, RolloutState.FAILED, event.at, broken_at=event.at)
        case RolloutOpened() | RetentionExpired() | OperatorClearance():
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _from_terminal(record: RolloutRecord, event: RolloutEvent) -> _Step:
    match event:
        case RolloutTerminal() | HostStateChanged() | HostJoined() | WaveBroken():
            return record, ()
        case GuardsOpened() | Verdict():
            return record, ()
        case HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return _counted_otherwise(record, event)
        case HostDrifted() | DriftEnded():
            return _drifted(record, event)
        case SuccessorOpened():
            return _superseded(record, event)
        case RolloutAborted():
            return _aborted(record, event)
        case RetentionExpired():
            return _moved(record, RolloutState.PRUNED, event.at)
        case RolloutOpened() | WaveAdvanced() | OperatorClearance():
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _from_halted(record: RolloutRecord, event: RolloutEvent) -> _Step:
    match event:
        case HostStateChanged():
            reverts = record.state is RolloutState.FAILED and event.to is HostState.REVERTED
            # The rollback that the policy demands has finished after the failure halted the rollout.
            if reverts:
                return _entered_rest(record, RolloutState.REVERTED, event.at)
            return record, ()
        case OperatorClearance():
            excused = record.with_standings(event.excused_hosts, Standing.EXCUSED)
            waves = tuple(sorted({*record.cleared_waves, *event.cleared_waves}))
            cleared = evolve(excused, cleared_waves=waves) if event.cleared_waves else excused
            return _moved(_unsaid(cleared, event.at), RolloutState.ACTIVE, event.at)
        case HostJoined() | WaveAdvanced() | RolloutTerminal() | WaveBroken():
            return record, ()
        case GuardsOpened() | Verdict():
            return record, ()  # Who clears it lets its guards begin anew.
        case HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return _counted_otherwise(record, event)
        case HostDrifted() | DriftEnded():
            return _drifted(record, event)
        case SuccessorOpened():
            return _superseded(record, event)
        case RolloutAborted():
            return _aborted(record, event)
        case RetentionExpired():
            return _moved(record, RolloutState.PRUNED, event.at)
        case RolloutOpened():
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _from_aborted(record: RolloutRecord, event: RolloutEvent) -> _Step:
    """Nothing leads on but a successor: an operator who aborts does not want the target any more."""
    match event:
        case HostStateChanged() | HostJoined() | WaveAdvanced() | RolloutTerminal() | WaveBroken():
            return record, ()
        case HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return _counted_otherwise(record, event)
        case HostDrifted() | DriftEnded():
            return _drifted(record, event)
        case RolloutAborted() | GuardsOpened() | Verdict():
            return record, ()
        case SuccessorOpened():
            return _superseded(record, event)
        case RetentionExpired():
            return _moved(record, RolloutState.PRUNED, event.at)
        case RolloutOpened() | OperatorClearance():
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _from_superseded(record: RolloutRecord, event: RolloutEvent) -> _Step:
    match event:
        case HostStateChanged() | HostJoined() | WaveAdvanced() | RolloutTerminal():
            return record, ()
        case WaveBroken() | HostsLapsed() | StandingChanged() | MembersChanged() | RetryOrdered():
            return record, ()
        case HostDrifted() | DriftEnded() | GuardsOpened() | Verdict():
            return record, ()
        case SuccessorOpened() | RolloutAborted():
            return record, ()
        case RetentionExpired():
            return _moved(record, RolloutState.PRUNED, event.at)
        case RolloutOpened() | OperatorClearance():
            raise IllegalForRolloutState(record, event)
        case _:
            assert_never(event)


def _after_host_change(record: RolloutRecord, event: HostStateChanged) -> _Step:
    if event.is_tolerant:
        return record, ()
    match event.to:
        case HostState.REVERTED:
            return _entered_rest(record, RolloutState.REVERTED, event.at)
        case HostState.FAILED:
            return _entered_rest(record, RolloutState.FAILED, event.at)
        case (
            HostState.PENDING
            | HostState.ACTIVATING
            | HostState.DEFERRED
            | HostState.SOAKING
            | HostState.CONVERGED
        ):
            return record, ()
        case _:
            assert_never(event.to)


def _counted_otherwise(
    record: RolloutRecord, event: HostsLapsed | StandingChanged | MembersChanged | RetryOrdered
) -> _Step:
    """Return the record with other standings, or with more attempts. The state stays."""
    match event:
        case HostsLapsed() | StandingChanged():
            return record.with_standings(event.hosts, event.standing), ()
        case MembersChanged():
            joined = record.with_standings(event.joined, Standing.COUNTED)
            left = joined.with_standings(event.left, Standing.LEFT)
            for host in left.drifted.keys() & set(event.left):
                left = left.with_drift(host, None)
            # Of a machine that joins again under a name no attempt was ordered.
            known = left.attempts.items()
            attempts = {host: number for host, number in known if host not in event.left}
            left = evolve(left, attempts=FrozenMap(attempts))
            amended = left.with_standings(event.late, Standing.LATE)
            # Whoever approved an earlier manifest did not approve this one.
            return evolve(amended, guard_tallies=()) if amended.guard_tallies else amended, ()
        case RetryOrdered():
            ordered = dict.fromkeys(event.hosts, event.attempt)
            after = evolve(
                record, attempts=FrozenMap(sorted({**record.attempts, **ordered}.items()))
            )
            if record.state is RolloutState.TERMINAL:
                # Nobody waits for them any more; late hosts are the ones that are served.
                after = after.with_standings(event.hosts, Standing.LATE)
            return after, ()
        case _:
            assert_never(event)


def _drifted(record: RolloutRecord, event: HostDrifted | DriftEnded) -> _Step:
    match event:
        case HostDrifted():
            return record.with_drift(event.host_id, Drift(event.running, event.at)), ()
        case DriftEnded():
            return record.with_drift(event.host_id, None), ()
        case _:
            assert_never(event)


def _superseded(record: RolloutRecord, event: SuccessorOpened) -> _Step:
    # What its hosts run is the successor's concern.
    settled = _unguarded(evolve(record, drifted=NO_DRIFTS))
    return _entered_rest(settled, RolloutState.SUPERSEDED, event.at, superseded_at=event.at)


def _aborted(record: RolloutRecord, event: RolloutAborted) -> _Step:
    # One that was Terminal is done no more: a channel that waits for it would take what is not wanted for the outcome.
    return _entered_rest(record, RolloutState.ABORTED, event.at, terminal_at=None)


def _at_wave(record: RolloutRecord, wave: int) -> _Step:
    if wave <= record.current_wave:
        return record, ()
    later = tuple(tally for tally in record.guard_tallies if tally.wave > wave)
    after = evolve(record, current_wave=wave, guarded_since=None, guard_tallies=later)
    return after, (UpdateCurrentWave(record.rollout_id, wave),)


def _judged(record: RolloutRecord, event: GuardsOpened | Verdict) -> _Step:
    """Return the record after what concerns the guards of a wave. Of one that has begun nothing is noted."""
    match event:
        case GuardsOpened():
            if event.wave != record.current_wave + 1 or record.guarded_since is not None:
                return record, ()
            return evolve(record, guarded_since=event.at), ()
        case Verdict():
            if event.wave <= record.current_wave:
                return record, ()
            before = record.guard_tally(event.wave, event.guard)
            tally = before or unjudged(event.wave, event.guard, event.at)
            after = tally.after(event.judge, event.outcome, event.reason, event.evidence, event.at)
            return record.with_guard_tally(after), ()
        case _:
            assert_never(event)


def _unguarded(record: RolloutRecord) -> RolloutRecord:
    """Return the record as if no guard had been asked."""
    if record.guarded_since is None and not record.guard_tallies:
        return record
    return evolve(record, guarded_since=None, guard_tallies=())


def _unsaid(record: RolloutRecord, at: datetime) -> RolloutRecord:
    """Return the record as if no guard had been asked, in which no statement that was received counts again."""
    if not record.guard_tallies:
        return _unguarded(record)
    dated = (each.at + SIGNED_AHEAD_MAX for each in record.guard_tallies if each.is_stated)
    return _unguarded(evolve(record, unsaid_at=max(at, record.unsaid_at or at, *dated)))


class _Changes(TypedDict, total=False):
    terminal_at: datetime | None
    superseded_at: datetime
    broken_at: datetime


def _moved(
    record: RolloutRecord, to: RolloutState, at: datetime, **changes: Unpack[_Changes]
) -> _Step:
    after = evolve(record, state=to, **changes)
    return after, (RecordRolloutTransition(record.rollout_id, record.state, to, at),)


def _entered_rest(
    record: RolloutRecord, to: RolloutState, at: datetime, **changes: Unpack[_Changes]
) -> _Step:
    """Return the successor in a state in which it may be pruned later, and the effect that schedules that."""
    after, effects = _moved(record, to, at, **changes)
    delay_seconds = int(record.retention.total_seconds())
    return after, (*effects, SchedulePruning(record.rollout_id, delay_seconds))
