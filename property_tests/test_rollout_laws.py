"""What holds for every rollout record and every event, whatever came before."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar, get_args

import attrs
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from nixfleet_state_machine import (
    HostState,
    RolloutEffect,
    RolloutRecord,
    RolloutState,
    RolloutTransitionError,
    SupersessionExpected,
    WrongRollout,
    open_rollout,
    step_rollout,
)
from nixfleet_state_machine.replay import replay_rollout
from nixfleet_state_machine.rollout.effect import (
    RecordRolloutTransition,
    SchedulePruning,
    UpdateCurrentWave,
)
from nixfleet_state_machine.rollout.event import (
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetryOrdered,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    WaveAdvanced,
    subject_of,
)
from nixfleet_testing.strategies import (
    RolloutHistory,
    RolloutMoment,
    legal_rollout_events,
    rollout_histories,
    rollout_moments,
    rollout_records,
    rollouts_opened,
    times,
)

T = TypeVar("T")
Accepted = tuple[RolloutRecord, tuple[RolloutEffect, ...]]

RESTING = (
    RolloutState.TERMINAL,
    RolloutState.REVERTED,
    RolloutState.FAILED,
    RolloutState.ABORTED,
    RolloutState.SUPERSEDED,
)
SETTLED = (RolloutState.TERMINAL, RolloutState.SUPERSEDED, RolloutState.PRUNED)


def _taken(moment: RolloutMoment) -> Accepted | RolloutTransitionError:
    try:
        return step_rollout(moment.record, moment.event, moment.now)
    except RolloutTransitionError as refusal:
        return refusal


def _only(kind: type[T], effects: Iterable[RolloutEffect]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


@given(moment=rollout_moments())
def test_step_gives_a_record_and_effects_or_refuses(moment: RolloutMoment) -> None:
    """Any event on any record is either taken or refused by an error that carries both."""
    outcome = _taken(moment)

    if isinstance(outcome, RolloutTransitionError):
        assert (outcome.record, outcome.event) == (moment.record, moment.event)
        assert moment.record.rollout_id in str(outcome)
    else:
        after, effects = outcome
        assert isinstance(after, RolloutRecord)
        assert all(isinstance(effect, get_args(RolloutEffect)) for effect in effects)


@given(moment=rollout_moments(), later=times())
def test_step_twice_gives_the_same(moment: RolloutMoment, later: datetime) -> None:
    """Equal inputs give equal records, effects and refusals, at whatever hour."""
    first, second = _taken(moment), _taken(attrs.evolve(moment, now=later))

    if isinstance(first, RolloutTransitionError):
        assert (type(first), str(first)) == (type(second), str(second))
    else:
        assert first == second


@given(moment=rollout_moments())
def test_an_event_about_another_rollout_is_refused_first(moment: RolloutMoment) -> None:
    """A foreign event is WrongRollout in every state, and nothing else is."""
    is_foreign = subject_of(moment.event) != moment.record.rollout_id
    assert isinstance(_taken(moment), WrongRollout) == is_foreign


@given(moment=rollout_moments())
def test_a_change_of_state_is_recorded_once_as_it_happened(moment: RolloutMoment) -> None:
    """There is one transition effect if and only if the state changed; it says that very change."""
    outcome = _taken(moment)

    if not isinstance(outcome, RolloutTransitionError):
        before, (after, effects) = moment.record, outcome
        change = RecordRolloutTransition(
            before.rollout_id, before.state, after.state, moment.event.at
        )
        moved = after.state is not before.state
        assert _only(RecordRolloutTransition, effects) == ([change] if moved else [])


@given(moment=rollout_moments())
def test_the_wave_rises_by_wave_advanced_alone(moment: RolloutMoment) -> None:
    """The cursor never falls, moves by no other event, and each move is told once."""
    outcome = _taken(moment)

    if not isinstance(outcome, RolloutTransitionError):
        before, (after, effects) = moment.record, outcome
        rose = after.current_wave > before.current_wave
        told = [UpdateCurrentWave(after.rollout_id, after.current_wave)] if rose else []
        assert after.current_wave >= before.current_wave
        assert isinstance(moment.event, WaveAdvanced) or not rose
        assert _only(UpdateCurrentWave, effects) == told


@given(moment=rollout_moments())
def test_pruning_is_scheduled_whenever_a_rollout_comes_to_rest(moment: RolloutMoment) -> None:
    """Entering Terminal, Reverted, Failed or Superseded schedules the pruning, and nothing else."""
    outcome = _taken(moment)

    if not isinstance(outcome, RolloutTransitionError):
        before, (after, effects) = moment.record, outcome
        came_to_rest = after.state is not before.state and after.state in RESTING
        delay_seconds = int(before.retention.total_seconds())
        scheduled = [SchedulePruning(before.rollout_id, delay_seconds)] if came_to_rest else []
        assert _only(SchedulePruning, effects) == scheduled


@given(moment=rollout_moments())
def test_an_excused_host_stays_excused(moment: RolloutMoment) -> None:
    """Of the events that are not about standings none takes a host out, and only a clearance adds one.

    An attempt that is ordered after the end is about standings too: its hosts are late.
    """
    outcome = _taken(moment)
    event, is_over = moment.event, moment.record.state is RolloutState.TERMINAL
    is_about_standings = isinstance(event, HostsLapsed | StandingChanged | MembersChanged)
    is_about_standings |= isinstance(event, RetryOrdered) and is_over

    if not isinstance(outcome, RolloutTransitionError) and not is_about_standings:
        before, after = moment.record.excused_hosts, outcome[0].excused_hosts
        assert after >= before
        assert after == before or isinstance(event, OperatorClearance)


@given(
    record=rollout_records(),
    first=st.from_type(OperatorClearance),
    second=st.from_type(OperatorClearance),
)
def test_clearances_add_up(
    record: RolloutRecord, first: OperatorClearance, second: OperatorClearance
) -> None:
    """A rollout cleared twice goes on without the hosts of both clearances."""
    if record.state.is_clearable:
        halted_by = HostStateChanged(
            record.rollout_id, "web-01", HostState.SOAKING, HostState.FAILED, second.at
        )
        cleared = [attrs.evolve(c, rollout_id=record.rollout_id) for c in (first, second)]
        events: list[RolloutEvent] = [cleared[0], halted_by, cleared[1]]
        after = replay_rollout(record, [(event, second.at) for event in events])

        assert after.state is RolloutState.ACTIVE
        both = first.excused_hosts | second.excused_hosts
        assert after.excused_hosts == record.excused_hosts | both


@given(moment=rollout_moments())
def test_a_rollout_keeps_its_name_and_its_origin(moment: RolloutMoment) -> None:
    """What a record was opened with stays, whatever happens to it."""
    outcome = _taken(moment)

    if not isinstance(outcome, RolloutTransitionError):
        assert _origin(outcome[0]) == _origin(moment.record)


def _origin(record: RolloutRecord) -> tuple[object, ...]:
    return (
        record.rollout_id,
        record.channel,
        record.target_ref,
        record.opened_at,
        record.opened_event_log_seq,
        record.retention,
    )


@given(record=rollout_records())
def test_a_terminal_record_says_since_when(record: RolloutRecord) -> None:
    """Terminal implies `terminal_at`."""
    assert record.state is not RolloutState.TERMINAL or record.terminal_at is not None


@given(record=rollout_records())
def test_a_superseded_record_says_since_when(record: RolloutRecord) -> None:
    """Superseded implies `superseded_at`."""
    assert record.state is not RolloutState.SUPERSEDED or record.superseded_at is not None


@given(moment=rollout_moments())
def test_a_pruned_rollout_takes_nothing(moment: RolloutMoment) -> None:
    """Pruned absorbs: every event is refused."""
    pruned = attrs.evolve(moment.record, state=RolloutState.PRUNED)

    assert isinstance(_taken(attrs.evolve(moment, record=pruned)), RolloutTransitionError)


@given(moment=rollout_moments())
def test_only_a_successor_or_its_retention_ends_an_abort(moment: RolloutMoment) -> None:
    """Aborted is left for Superseded and Pruned alone, and no clearance is taken."""
    aborted = attrs.evolve(moment.record, state=RolloutState.ABORTED)
    outcome = _taken(attrs.evolve(moment, record=aborted))

    if isinstance(moment.event, OperatorClearance):
        assert isinstance(outcome, RolloutTransitionError)
    if not isinstance(outcome, RolloutTransitionError):
        left_for = {RolloutState.SUPERSEDED, RolloutState.PRUNED, RolloutState.ABORTED}
        assert outcome[0].state in left_for


@given(opening=rollouts_opened(), others=st.lists(rollout_records(), max_size=3))
def test_opening_needs_a_channel_without_a_live_rollout(
    opening: RolloutOpened, others: list[RolloutRecord]
) -> None:
    """A rollout opens beside settled ones alone; a live one must be superseded first."""
    live = [other for other in others if other.state not in SETTLED]

    if live:
        with pytest.raises(SupersessionExpected) as refusal:
            open_rollout(opening, 7, others)
        assert refusal.value.live == live[0]
    else:
        opened = open_rollout(opening, 7, others)
        assert (opened.state, opened.current_wave) == (RolloutState.OPENING, 0)
        assert opened.rollout_id == opening.rollout_id


@given(opening=rollouts_opened(), other=rollout_records(), at=times())
def test_superseding_a_live_rollout_frees_its_channel(
    opening: RolloutOpened, other: RolloutRecord, at: datetime
) -> None:
    """After SuccessorOpened a rollout is settled, so that the next one may open."""
    if other.state is not RolloutState.PRUNED:
        taken_over = SuccessorOpened(other.rollout_id, opening.rollout_id, at)
        superseded, _ = step_rollout(other, taken_over, at)
        assert open_rollout(opening, 7, [superseded]).opened_at == opening.at


@given(history=rollout_histories(), cut=st.integers(min_value=0))
def test_replaying_any_prefix_gives_the_record_of_that_time(
    history: RolloutHistory, cut: int
) -> None:
    """Wherever a log is cut, folding it gives what was held then, and the rest leads on."""
    at = cut % (len(history.events) + 1)
    lived = history.opened
    for event, now in history.events[:at]:
        lived, _ = step_rollout(lived, event, now)

    replayed = replay_rollout(history.opened, history.events[:at])

    assert replayed == lived
    assert replay_rollout(replayed, history.events[at:]) == history.record


@given(opened=rollouts_opened(), at=times())
def test_replaying_what_does_not_apply_is_refused(opened: RolloutOpened, at: datetime) -> None:
    """A log that ends a rollout which nobody joined is not folded over: the refusal comes out."""
    opening = open_rollout(opened, 7, ())

    with pytest.raises(RolloutTransitionError):
        replay_rollout(opening, [(RolloutTerminal(opening.rollout_id, at), at)])


@pytest.mark.parametrize("state", RolloutState)
def test_drawing_records_reaches_every_state(state: RolloutState) -> None:
    """The strategy for records leaves no state out."""
    patient = settings(phases=[Phase.generate], max_examples=5_000)
    record = find(rollout_records(), lambda drawn: drawn.state is state, settings=patient)

    assert record.state is state


@given(data=st.data(), record=rollout_records())
def test_drawing_a_legal_event_gives_one_that_is_accepted(
    data: st.DataObject, record: RolloutRecord
) -> None:
    """What the strategy calls legal is taken by `step_rollout`, without a filter."""
    if record.state is not RolloutState.PRUNED:
        event = data.draw(legal_rollout_events(record))
        after, _ = step_rollout(record, event, data.draw(times()))
        assert after.rollout_id == subject_of(event)


@given(record=st.from_type(RolloutRecord), event=st.from_type(WaveAdvanced))
def test_drawing_by_type_gives_what_the_strategies_give(
    record: RolloutRecord, event: WaveAdvanced
) -> None:
    """`st.from_type` knows the public types: a record is of its id's channel, waves count from 0."""
    assert record.channel == record.rollout_id.channel
    assert event.from_wave >= 0
