"""What follows from time alone: failures that last, deadlines, regressions, convergence, and what is forgotten.

Source: docs/spec/host-machine.md; docs/spec/runtimes.md, Agent.
"""

from datetime import datetime

from nixfleet_agent.engine.deadlines import is_convergence_overdue, probes_in_the_way
from nixfleet_agent.engine.handlers.emission import emit
from nixfleet_agent.engine.handlers.offers import end_forgotten
from nixfleet_agent.engine.handlers.samples import converge_if_due, observe
from nixfleet_agent.engine.handlers.switches import end_overdue_waiting
from nixfleet_agent.engine.health_rule import unhealthy_probes
from nixfleet_agent.engine.observation import waits_for, with_activating_time, with_time
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.probe_facts import (
    OWN_PROBES,
    facts_of_probe,
    regression,
    sustained_failure,
)
from nixfleet_agent.engine.reconcile import log_entry
from nixfleet_agent.engine.state import CommitBuilder, State
from nixfleet_agent.engine.watching import watched_with_its_target
from nixfleet_agent.messages.inputs import Tick
from nixfleet_proto.agent_event import Failed, ProbeMode
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import LogLevel
from nixfleet_state_machine.host.state import HostState


def tick(state: State, options: Options, commit: CommitBuilder, tick: Tick, now: datetime) -> None:
    """Count the time that passed, and do what it brings: failures, convergence, regressions, expiry."""
    _let_time_pass(state, options, now)
    end_overdue_waiting(state, commit, now)
    end_forgotten(state, commit, now)
    for rollout in state.open_rollouts():
        rollout_id = rollout.record.rollout_id
        failed = sustained_failure(
            rollout.record,
            rollout.policy,
            options.failure_threshold,
            now,
            state.observed_of(rollout_id).failing,
        )
        if failed is not None:
            emit(state, commit, rollout_id, failed, now)
        elif not _fail_if_unhealthy(state, commit, rollout_id, now):
            converge_if_due(state, commit, rollout_id, now)
            _fail_if_overdue(state, commit, rollout_id, now)
        # Until its convergence is settled, it may be refused, and the host soak again.
        if rollout_id not in tick.unsent:
            _regress_if_due(state, options, commit, rollout_id, now)
    expired = state.expired(now, options.retention)
    state.remove_rollouts(commit, [each for each in expired if each not in tick.unsent])


def _let_time_pass(state: State, options: Options, now: datetime) -> None:
    """Count the time since the last tick, and look again at what the agent itself finds failing."""
    before = state.last_tick_at.get()
    assert before is not None, "set by the first input"
    state.last_tick_at.set(now)
    for rollout in state.open_rollouts():
        record = rollout.record
        if record.state is HostState.ACTIVATING:
            known = state.observed_of(record.rollout_id)
            after = with_activating_time(known, now - before, options.clock_step_max)
            state.observed.set(record.rollout_id, after)
        if record.state is not HostState.SOAKING:
            continue
        known = state.observed_of(record.rollout_id)
        state.observed.set(
            record.rollout_id, with_time(known, now - before, options.clock_step_max)
        )
        for name in OWN_PROBES:
            own = record.probes.get(name)
            if own is not None:
                gap_max = options.clock_step_max
                observe(state, record.rollout_id, name, own.status, now, gap_max)


def _fail_if_unhealthy(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> bool:
    """Fail a host whose probes are unhealthy over the soak; return whether they are."""
    rollout = state.soaking(rollout_id)
    checks = state.checks.get(rollout_id)
    if rollout is None or checks is None:
        return False
    observed = state.observed_of(rollout_id)
    unhealthy = dict(unhealthy_probes(observed, rollout.record, checks))
    for name, outcome in unhealthy.items():
        # A result that says why: the record otherwise shows the latest sample, which may have passed.
        record = state.rollouts[rollout_id].record
        for fact_of in facts_of_probe(record, name, ProbeMode.ENFORCE, outcome, now):
            emit(state, commit, rollout_id, fact_of, now)
    if unhealthy:
        policy = rollout.policy.on_health_failure
        emit(
            state,
            commit,
            rollout_id,
            lambda seq: Failed(now, 0, tuple(unhealthy), policy, seq),
            now,
        )
    return bool(unhealthy)


def _fail_if_overdue(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> None:
    rollout = state.rollouts[rollout_id]
    observed = state.observed_of(rollout_id)
    if not is_convergence_overdue(rollout, observed):
        return
    names, policy = probes_in_the_way(rollout, observed), rollout.policy.on_health_failure
    emit(state, commit, rollout_id, lambda seq: Failed(now, 0, names, policy, seq), now)
    waits = ", ".join(names) or waits_for(rollout.record, observed) or "its rules"
    about = f"{rollout_id}: did not converge within its deadline, waiting for {waits}"
    commit.afterwards(log_entry(LogLevel.ERROR, "it has failed", about))


def _regress_if_due(
    state: State, options: Options, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> None:
    rollout = watched_with_its_target(state, rollout_id)
    if rollout is None:
        return
    failing = state.observed_of(rollout_id).failing
    threshold = options.failure_threshold
    regressed = regression(rollout.record, rollout.policy, threshold, now, failing)
    if regressed is not None:
        emit(state, commit, rollout_id, regressed, now)
