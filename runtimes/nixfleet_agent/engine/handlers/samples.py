"""What the engine does with the samples of a host that soaks: facts of its probes, tallies, and convergence.

Source: docs/spec/host-machine.md; docs/spec/runtimes.md, Agent.
"""

from datetime import datetime, timedelta

from attrs import evolve

from nixfleet_agent.engine.handlers.emission import emit
from nixfleet_agent.engine.health_rule import open_probe, with_tally
from nixfleet_agent.engine.home import home_outcome, seen_after
from nixfleet_agent.engine.observation import place_of, waits_for, with_sample
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.probe_facts import (
    UNREADABLE_CHECKS,
    facts_of_probe,
    topology_of,
    unreadable_facts,
)
from nixfleet_agent.engine.reconcile import log_entry
from nixfleet_agent.engine.state import CommitBuilder, State
from nixfleet_agent.engine.watching import watch, watched, watched_with_its_target
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    ChecksUnreadable,
    HomeLooked,
    ProbeRan,
    StartProbes,
)
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.agent_event import Converged, ProbeStatus, ProbeTopologyDeclared
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import HealthCheck, HomeProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.convergence import first_broken_rule
from nixfleet_state_machine.host.effect import LogLevel
from nixfleet_state_machine.host.state import HostRolloutState


def checks_loaded(state: State, commit: CommitBuilder, input: ChecksLoaded, now: datetime) -> None:
    """Declare the probes of the closure and start them."""
    rollout = state.soaking(input.rollout_id)
    if rollout is None:
        watch(state, commit, input)
        return
    state.checks.set(input.rollout_id, input.checks)
    topology = topology_of(input.checks)
    if rollout.record.declared_probes != topology:
        # Never declared, or declared otherwise in a record that was taken over.
        emit(
            state,
            commit,
            input.rollout_id,
            lambda seq: ProbeTopologyDeclared(topology, now, seq),
            now,
        )
    commit.afterwards(StartProbes(input.rollout_id, input.checks))
    converge_if_due(state, commit, input.rollout_id, now)


def checks_unreadable(
    state: State, commit: CommitBuilder, input: ChecksUnreadable, now: datetime
) -> None:
    """Report a failing probe: a closure that cannot be checked must not converge."""
    if watched(state, input.rollout_id) is not None:
        about = f"{input.rollout_id}: {input.problem}"
        commit.afterwards(log_entry(LogLevel.ERROR, "converged, and not watched", about))
    rollout = state.soaking(input.rollout_id)
    if rollout is not None and UNREADABLE_CHECKS not in rollout.record.probes:
        for fact_of in unreadable_facts(input.problem, now):
            emit(state, commit, input.rollout_id, fact_of, now)


def probe_ran(
    state: State, options: Options, commit: CommitBuilder, input: ProbeRan, now: datetime
) -> None:
    """Take a result of a probe."""
    rollout = state.soaking(input.rollout_id)
    checks = state.checks.get(input.rollout_id)
    check = None if checks is None else checks.get(input.probe_name)
    if check is None:
        return  # The probe was started for a closure or a soak that has ended.
    if rollout is None:
        if watched_with_its_target(state, input.rollout_id) is not None:
            # No fact: the host is past its verdict. Only a failure that lasts is one.
            status, gap_max = input.outcome.status, _gap_max(options, check)
            observe(state, input.rollout_id, input.probe_name, status, now, gap_max)
        return
    _sampled(state, options, commit, rollout.record, input.probe_name, check, input.outcome, now)


def home_looked(
    state: State, options: Options, commit: CommitBuilder, input: HomeLooked, now: datetime
) -> None:
    """Judge the contact of a host that soaks; one that has converged came home."""
    rollout = state.soaking(input.rollout_id)
    check = state.checks.get(input.rollout_id, HealthCheckSet()).get(input.probe_name)
    if rollout is None or not isinstance(check, HomeProbe):
        return
    record = rollout.record
    known, place = state.observed_of(input.rollout_id), _place_in_soak(state, options, record, now)
    activated_at = record.activation_completed_at or now
    contact = seen_after(known, input.answered_at, activated_at, place, now)
    observed = evolve(known, contact=contact)
    state.observed.set(input.rollout_id, observed)
    outcome = home_outcome(check, rollout, observed, input.second_answers)
    if outcome is not None:
        _sampled(state, options, commit, record, input.probe_name, check, outcome, now)


def _sampled(
    state: State,
    options: Options,
    commit: CommitBuilder,
    record: HostRolloutState,
    name: str,
    check: HealthCheck,
    outcome: ProbeOutcome,
    now: datetime,
) -> None:
    """Take a sample of a host that soaks: its facts, and what follows."""
    rollout_id = record.rollout_id
    for fact_of in facts_of_probe(record, name, check.mode, outcome, now):
        emit(state, commit, rollout_id, fact_of, now)
    _tally(state, options, record, name, check, outcome.status, now)
    observe(state, rollout_id, name, outcome.status, now, _gap_max(options, check))
    converge_if_due(state, commit, rollout_id, now)


def _gap_max(options: Options, check: HealthCheck) -> timedelta:
    """Two samples are neighbours when the probe's own interval lies between them, give or take a time-out."""
    return max(options.failure_threshold, 2 * timedelta(seconds=check.interval_seconds))


def _tally(
    state: State,
    options: Options,
    record: HostRolloutState,
    probe_name: str,
    check: HealthCheck,
    status: ProbeStatus,
    now: datetime,
) -> None:
    known = state.observed_of(record.rollout_id)
    place = _place_in_soak(state, options, record, now)
    after = with_tally(known, record, probe_name, check, status, place)
    state.observed.set(record.rollout_id, after)


def _place_in_soak(
    state: State, options: Options, record: HostRolloutState, now: datetime
) -> timedelta:
    """Return how much of the soak was seen to pass until now."""
    last_tick_at = state.last_tick_at.get()
    assert last_tick_at is not None, "set by the first input"
    known = state.observed_of(record.rollout_id)
    return place_of(known, now - last_tick_at, options.clock_step_max)


def observe(
    state: State,
    rollout_id: RolloutId,
    probe_name: str,
    status: ProbeStatus,
    now: datetime,
    gap_max: timedelta,
) -> None:
    """Note the sample of a probe, for failures that last."""
    known = state.observed_of(rollout_id)
    state.observed.set(rollout_id, with_sample(known, probe_name, status, now, gap_max))


def converge_if_due(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> None:
    """Tell that the host has converged, if no rule says otherwise."""
    rollout = state.soaking(rollout_id)
    if rollout is None:
        return
    record = rollout.record
    running = state.running_closure.get() or record.current_closure
    # Without the topology, "every declared probe has reported" would hold for no probes; before the checks were
    # read in this process it may be that of a record that was taken over.
    checks = state.checks.get(rollout_id)
    if record.declared_probes is None or checks is None:
        return
    if running is None:
        return
    observed = state.observed_of(rollout_id)
    if waits_for(record, observed) is not None:
        return
    if open_probe(observed, record, checks) is not None:
        return
    if first_broken_rule(record, running, now) is None:
        emit(state, commit, rollout_id, lambda seq: Converged(now, running, seq), now)
