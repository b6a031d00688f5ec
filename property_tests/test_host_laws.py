"""What holds for every host record and every fact, whatever came before."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeVar, get_args

import attrs
import pytest
from hypothesis import Phase, find, given, note, settings
from hypothesis import strategies as st

from nixfleet_proto.agent_event import (
    AgentEvent,
    Converged,
    OnHealthFailure,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine import (
    AgentEffect,
    ControlPlaneEffect,
    Event,
    HostRolloutState,
    HostState,
    InvariantViolation,
    Local,
    Remote,
    SeqRegression,
    TransitionError,
    rehydration_effects,
    step,
)
from nixfleet_state_machine.host.effect import (
    EmitLog,
    EmitMetric,
    HostEffect,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
)
from nixfleet_state_machine.replay import replay_host
from nixfleet_testing.strategies import (
    HostHistory,
    HostMoment,
    closures,
    host_histories,
    host_moments,
    host_records,
    legal_facts,
    policies,
    soaking_records,
    times,
)

T = TypeVar("T")
Accepted = tuple[HostRolloutState, tuple[HostEffect, ...]]

ORDER = (
    LocalResetProbeCache,
    LocalEmitEvent | RemoteAppendEventLog,
    RemoteInsertQuarantine,
    RecordTransition,
    LocalFireSwitch | LocalFireRollbackTo,
    EmitMetric | EmitLog,
)


def _taken(moment: HostMoment, event: Event) -> Accepted | TransitionError:
    try:
        return step(moment.record, event, moment.now, moment.policy)
    except TransitionError as refusal:
        return refusal


def _taken_by_each(moment: HostMoment) -> Iterator[Accepted | TransitionError]:
    """Yield what each side makes of the same moment: drawing one costs more than two steps."""
    for side in (Local, Remote):
        note(f"side: {side.__name__}")
        yield _taken(moment, side(moment.fact))


def _only(kind: type[T], effects: Iterable[HostEffect]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def _own_time(fact: AgentEvent) -> datetime:
    """Return when it happened: `until` of a postponement is a time to come."""
    times = {
        k: v for k, v in attrs.asdict(fact).items() if isinstance(v, datetime) and k != "until"
    }
    (at,) = times.values()
    return at


@given(moment=host_moments())
def test_step_gives_a_record_and_effects_or_refuses(moment: HostMoment) -> None:
    """Any fact on any record is either taken or refused by a TransitionError that carries both."""
    for outcome in _taken_by_each(moment):
        if isinstance(outcome, TransitionError):
            assert (outcome.state, outcome.fact) == (moment.record, moment.fact)
            assert str(moment.fact.seq) in str(outcome)
        else:
            after, effects = outcome
            assert isinstance(after, HostRolloutState)
            assert all(isinstance(effect, get_args(HostEffect)) for effect in effects)


@given(moment=host_moments(), later=times())
def test_step_twice_gives_the_same(moment: HostMoment, later: datetime) -> None:
    """Equal inputs give equal records, effects and refusals, at whatever hour."""
    again = _taken_by_each(attrs.evolve(moment, now=later))
    for first, second in zip(_taken_by_each(moment), again, strict=True):
        if isinstance(first, TransitionError):
            assert (type(first), str(first)) == (type(second), str(second))
        else:
            assert first == second


@given(moment=host_moments())
def test_a_fact_that_is_not_later_is_refused_first(moment: HostMoment) -> None:
    """A seq at or below the last one is a SeqRegression, in every state; a later one never is."""
    is_late = moment.fact.seq <= moment.record.last_event_seq
    for outcome in _taken_by_each(moment):
        assert isinstance(outcome, SeqRegression) == is_late


@given(moment=host_moments())
def test_an_accepted_fact_is_counted_and_passed_on_once(moment: HostMoment) -> None:
    """An accepted fact is the record's last, and the one payload of the one emit or append."""
    for outcome in _taken_by_each(moment):
        if not isinstance(outcome, TransitionError):
            after, effects = outcome
            assert after.last_event_seq == moment.fact.seq
            assert [effect.payload for effect in _passed_on(effects)] == [moment.fact]


def _passed_on(effects: Iterable[HostEffect]) -> list[LocalEmitEvent | RemoteAppendEventLog]:
    return [e for e in effects if isinstance(e, LocalEmitEvent | RemoteAppendEventLog)]


@given(moment=host_moments())
def test_an_emitted_fact_is_durable_unless_it_is_probe_chatter(moment: HostMoment) -> None:
    """The agent keeps every fact through a crash, save the three that a probe says again."""
    outcome = _taken(moment, Local(moment.fact))

    if not isinstance(outcome, TransitionError):
        (emitted,) = _only(LocalEmitEvent, outcome[1])
        chatter = (ProbeObservedFirst, ProbeResult, ProbeFailureFirst)
        assert emitted.durable == (type(moment.fact) not in chatter)


@given(moment=host_moments())
def test_a_change_of_state_is_recorded_once_as_it_happened(moment: HostMoment) -> None:
    """There is one RecordTransition if and only if the state changed; it says that very change."""
    for outcome in _taken_by_each(moment):
        if not isinstance(outcome, TransitionError):
            before, (after, effects) = moment.record, outcome
            change = RecordTransition(
                before.hostname,
                before.rollout_id,
                before.state,
                after.state,
                _own_time(moment.fact),
            )
            moved = after.state is not before.state
            assert _only(RecordTransition, effects) == ([change] if moved else [])


@given(moment=host_moments())
def test_the_agent_acts_exactly_on_these_changes(moment: HostMoment) -> None:
    """It switches on becoming Activating, resets on Soaking, goes back on Failed if told to and elsewhere."""
    outcome = _taken(moment, Local(moment.fact))

    if not isinstance(outcome, TransitionError):
        after, effects = outcome
        became = _became(moment.record, after)
        assert len(_only(LocalFireSwitch, effects)) == (became is HostState.ACTIVATING)
        assert len(_only(LocalResetProbeCache, effects)) == (became is HostState.SOAKING)
        goes_back = after.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
        prior = after.current_closure_at_dispatch or ""
        fired = [LocalFireRollbackTo(after.rollout_id, prior)]
        goes_back &= prior != after.target_closure
        expected = fired if became is HostState.FAILED and goes_back else []
        assert _only(LocalFireRollbackTo, effects) == expected


@given(moment=host_moments())
def test_a_closure_is_quarantined_exactly_when_a_host_left_it(moment: HostMoment) -> None:
    """Becoming Reverted bars the target; nothing else does, a failed rollback least of all."""
    outcome = _taken(moment, Remote(moment.fact))

    if not isinstance(outcome, TransitionError):
        after, effects = outcome
        barred = [RemoteInsertQuarantine(after.channel, after.target_closure)]
        left = _became(moment.record, after) is HostState.REVERTED
        assert _only(RemoteInsertQuarantine, effects) == (barred if left else [])
        assert not left or _exit_code(moment.fact) == 0


def _became(before: HostRolloutState, after: HostRolloutState) -> HostState | None:
    return after.state if after.state is not before.state else None


def _exit_code(fact: AgentEvent) -> int | None:
    return fact.exit_code if isinstance(fact, RollbackComplete) else None


@given(moment=host_moments())
def test_effects_come_in_the_order_they_are_to_be_carried_out(moment: HostMoment) -> None:
    """Reset, then pass on, quarantine, record, fire, and what is told at last."""
    for outcome in _taken_by_each(moment):
        if not isinstance(outcome, TransitionError):
            ranks = [_rank(effect) for effect in outcome[1]]
            assert ranks == sorted(ranks)


def _rank(effect: HostEffect) -> int:
    (rank,) = (rank for rank, kinds in enumerate(ORDER) if isinstance(effect, kinds))
    return rank


@given(moment=host_moments())
def test_both_sides_make_the_same_of_a_fact(moment: HostMoment) -> None:
    """Agent and control plane get equal records, transitions, metrics and logs, or equal refusals."""
    local = _taken(moment, Local(moment.fact))
    remote = _taken(moment, Remote(moment.fact))

    if isinstance(local, TransitionError) or isinstance(remote, TransitionError):
        assert (type(local), str(local)) == (type(remote), str(remote))
    else:
        assert local[0] == remote[0]
        assert _shared(local[1]) == _shared(remote[1])


def _shared(effects: Iterable[HostEffect]) -> list[HostEffect]:
    return [e for e in effects if isinstance(e, RecordTransition | EmitMetric | EmitLog)]


@given(moment=host_moments())
def test_each_side_gets_its_own_effects_alone(moment: HostMoment) -> None:
    """A Local fact yields agent effects and a Remote one control-plane effects, and no others."""
    local = _taken(moment, Local(moment.fact))
    remote = _taken(moment, Remote(moment.fact))

    if not isinstance(local, TransitionError) and not isinstance(remote, TransitionError):
        assert all(isinstance(effect, get_args(AgentEffect)) for effect in local[1])
        assert all(isinstance(effect, get_args(ControlPlaneEffect)) for effect in remote[1])


@given(data=st.data(), record=soaking_records(), policy=policies())
def test_converged_is_accepted_exactly_when_its_four_rules_hold(
    data: st.DataObject, record: HostRolloutState, policy: RolloutPolicy
) -> None:
    """A soaking host converges on its target, after the soak, with every enforce probe passing."""
    closure = data.draw(st.just(record.target_closure) | closures())
    fact = Converged(data.draw(times()), closure, record.last_event_seq + 1)
    outcome = _taken(HostMoment(record, fact, policy, fact.converged_at), Remote(fact))

    assert isinstance(outcome, InvariantViolation) != _rules_hold(record, fact)
    assert isinstance(outcome, TransitionError) != _rules_hold(record, fact)


def _has_soaked(record: HostRolloutState, at: datetime) -> bool:
    """The window that was dispatched has passed, both since the dispatch and since the activation."""
    due, activated_at = record.soak_due_at, record.activation_completed_at
    if due is None or at < due:
        return due is None
    if record.dispatched_at is None or activated_at is None:
        return True
    return at - activated_at >= due - record.dispatched_at


def _rules_hold(record: HostRolloutState, fact: Converged) -> bool:
    enforced = {name for name, p in record.probes.items() if p.mode is ProbeMode.ENFORCE}
    promised = {
        probe.probe_name
        for probe in record.declared_probes or ()
        if probe.mode is ProbeMode.ENFORCE
    }
    return (
        fact.current_closure == record.target_closure
        and _has_soaked(record, fact.converged_at)
        and all(record.probes[name].status is ProbeStatus.PASS for name in enforced)
        and promised <= set(record.probes)
    )


@given(record=host_records())
def test_a_converged_record_runs_its_target_and_has_soaked(record: HostRolloutState) -> None:
    """Whatever way a record came to Converged, its probes pass and its closure is the target."""
    if record.state is HostState.CONVERGED:
        assert record.converged_at is not None
        assert _rules_hold(
            record, Converged(record.converged_at, record.current_closure or "", seq=0)
        )


@given(history=host_histories(to=st.just(HostState.SOAKING)))
def test_a_probe_is_failing_since_the_first_failure_after_its_last_pass(
    history: HostHistory,
) -> None:
    """`failing_since` is the start of the unbroken run of failures, `None` while passing."""
    runs: dict[str, datetime | None] = {}
    for fact, _ in history.facts:
        if isinstance(fact, ProbeResult):
            start = runs.get(fact.probe_name) or fact.observed_at
            runs[fact.probe_name] = start if fact.status is ProbeStatus.FAIL else None

    probes = history.record.probes
    assert {name: probe.failing_since for name, probe in probes.items()} == runs


@given(moment=host_moments())
def test_the_first_of_its_kind_stays_the_first(moment: HostMoment) -> None:
    """The times of the first observation and the first failure never change once they are set, within an attempt."""
    outcome = _taken(moment, Remote(moment.fact))

    if not isinstance(outcome, TransitionError) and outcome[0].attempt == moment.record.attempt:
        before, after = moment.record, outcome[0]
        observed, failing = before.probe_observed_first_at, before.probe_failure_first_at
        assert observed in (None, after.probe_observed_first_at)
        assert failing in (None, after.probe_failure_first_at)


@given(record=host_records())
def test_restoring_a_record_resets_its_probes_unless_it_is_pending(
    record: HostRolloutState,
) -> None:
    """An agent that restores a record starts its probes from scratch, when there can be any."""
    is_pending = record.state is HostState.PENDING
    expected = () if is_pending else (LocalResetProbeCache(record.rollout_id),)
    assert rehydration_effects(record) == expected


@given(history=host_histories(), cut=st.integers(min_value=0))
def test_replaying_any_prefix_gives_the_record_of_that_time(history: HostHistory, cut: int) -> None:
    """Wherever a log is cut, folding it gives what the agent had then, and the rest leads on."""
    at = cut % (len(history.facts) + 1)
    lived = history.pending
    for fact, now in history.facts[:at]:
        lived, _ = step(lived, Local(fact), now, history.policy)

    replayed = replay_host(history.pending, history.facts[:at], history.policy)

    assert replayed == lived
    assert replay_host(replayed, history.facts[at:], history.policy) == history.record


@given(moment=host_moments())
def test_replaying_what_does_not_apply_is_refused(moment: HostMoment) -> None:
    """A log with a fact that the machine refuses is not folded over it: the refusal comes out."""
    if isinstance(_taken(moment, Remote(moment.fact)), TransitionError):
        with pytest.raises(TransitionError):
            replay_host(moment.record, [(moment.fact, moment.now)], moment.policy)


@pytest.mark.parametrize("state", HostState)
def test_drawing_records_reaches_every_state(state: HostState) -> None:
    """The strategy for records leaves no state out."""
    patient = settings(phases=[Phase.generate], max_examples=5_000)
    record = find(host_records(), lambda drawn: drawn.state is state, settings=patient)

    assert record.state is state


@given(data=st.data(), record=host_records())
def test_drawing_a_legal_fact_gives_one_that_is_accepted(
    data: st.DataObject, record: HostRolloutState
) -> None:
    """What the strategy calls legal is taken by `step`, without a filter."""
    if record.state not in (HostState.CONVERGED, HostState.REVERTED):
        fact = data.draw(legal_facts(record))
        after, _ = step(record, Remote(fact), data.draw(times()), data.draw(policies()))
        assert after.last_event_seq == fact.seq


@given(record=st.from_type(HostRolloutState), event=st.from_type(Local))
def test_drawing_by_type_gives_what_the_strategies_give(
    record: HostRolloutState, event: Local
) -> None:
    """`st.from_type` knows the public types: a record has its rollout's channel, a fact its kind."""
    assert record.channel == record.rollout_id.channel
    assert isinstance(event.fact, get_args(AgentEvent))
