"""A Soaking host runs its target while probes look at it."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    DispatchAck,
    ProbeMode,
    ProbeStatus,
    RollbackComplete,
)
from nixfleet_state_machine import HostState, IllegalForState, ProbeRecord, SeqRegression
from nixfleet_state_machine.host.effect import (
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    RemoteAppendEventLog,
)
from tests.builders import (
    HALT,
    HOST,
    LATER,
    PRIOR,
    ROLLBACK,
    ROLLOUT,
    SOAK_END,
    TARGET,
    all_facts_but,
    at,
    converged,
    failed,
    failure_first,
    lived,
    metrics,
    moved,
    observed_first,
    only,
    probe_fail,
    probe_pass,
    soaking_host,
    told,
    topology,
)


def test_a_declared_topology_is_kept() -> None:
    """ProbeTopologyDeclared says which probes there will be; the host stays Soaking."""
    fact = topology(nginx=ProbeMode.ENFORCE, disk=ProbeMode.OBSERVE)
    after, effects = told(soaking_host(), fact)

    assert after == evolve(soaking_host(), declared_probes=fact.probes, last_event_seq=LATER)
    assert effects == [RemoteAppendEventLog(HOST, ROLLOUT, fact)]


def test_an_empty_topology_is_not_an_undeclared_one() -> None:
    """A host without probes says so, and is told apart from one that said nothing."""
    after, _ = told(soaking_host(), topology())

    assert soaking_host().declared_probes is None
    assert after.declared_probes == ()


def test_a_first_observation_is_kept() -> None:
    """ProbeObservedFirst keeps the time of the first probe that reported."""
    after, _ = told(soaking_host(), observed_first(seconds=40))

    assert after.probe_observed_first_at == at(40)


def test_a_later_first_observation_changes_nothing() -> None:
    """The first observation of another probe does not move the time of the very first one."""
    after, _ = told(soaking_host(observed_first(seconds=40)), observed_first(seconds=50))

    assert after.probe_observed_first_at == at(40)


def test_a_first_failure_is_kept_whatever_comes_later() -> None:
    """ProbeFailureFirst keeps the time of the first failure ever, for the record."""
    after, _ = told(soaking_host(failure_first(seconds=45)), failure_first(seconds=55))

    assert after.probe_failure_first_at == at(45)


def test_a_pass_is_recorded() -> None:
    """A probe that passes has passed now, and has neither a reason nor a run of failures."""
    after, _ = told(soaking_host(probe_fail(seconds=40)), probe_pass(seconds=50))

    assert after.probes["nginx"] == ProbeRecord(
        ProbeStatus.PASS, ProbeMode.ENFORCE, last_observed_at=at(50), last_pass_at=at(50)
    )


def test_a_failure_is_recorded_with_its_reason_and_start() -> None:
    """A probe that fails for the first time in a row is failing since now; its last pass stays."""
    after, _ = told(soaking_host(probe_pass(seconds=40)), probe_fail(seconds=50))

    assert after.probes["nginx"] == ProbeRecord(
        ProbeStatus.FAIL,
        ProbeMode.ENFORCE,
        last_observed_at=at(50),
        last_pass_at=at(40),
        failure_reason="HTTP 503",
        failing_since=at(50),
    )


def test_a_failure_after_a_failure_keeps_the_start_of_the_run() -> None:
    """A probe that goes on failing is failing since its first failure in a row."""
    after, _ = told(soaking_host(probe_fail(seconds=40)), probe_fail(seconds=50))

    assert after.probes["nginx"].failing_since == at(40)
    assert after.probes["nginx"].last_observed_at == at(50)


def test_a_failure_after_a_recovery_starts_a_new_run() -> None:
    """A pass in between ends the run: flapping is not sustained failure."""
    flapping = soaking_host(probe_fail(seconds=40), probe_pass(seconds=50))
    after, _ = told(flapping, probe_fail(seconds=60))

    assert after.probes["nginx"].failing_since == at(60)


def test_a_result_leaves_the_other_probes_alone() -> None:
    """Each probe has its own record."""
    before = soaking_host(probe_fail(name="disk"))
    after, _ = told(before, probe_pass(name="nginx"))

    assert after.probes["disk"] == before.probes["disk"]
    assert set(after.probes) == {"disk", "nginx"}


@pytest.mark.parametrize("fact", [probe_pass(), observed_first(), failure_first()])
def test_probe_chatter_need_not_survive_a_crash(fact: AgentEvent) -> None:
    """What the next tick of a probe says again is emitted without being durable."""
    _, effects = lived(soaking_host(), fact)

    assert effects == [LocalEmitEvent(ROLLOUT, fact, durable=False)]


def test_a_convergence_ends_the_rollout_for_the_host() -> None:
    """Converged is taken when the soak is over and nothing speaks against it."""
    before = soaking_host(probe_pass())
    after, effects = told(before, converged(seconds=SOAK_END))

    assert after == evolve(
        before,
        state=HostState.CONVERGED,
        converged_at=at(SOAK_END),
        current_closure=TARGET,
        last_event_seq=LATER,
    )
    assert effects == [
        RemoteAppendEventLog(HOST, ROLLOUT, converged(seconds=SOAK_END)),
        moved(HostState.SOAKING, HostState.CONVERGED, seconds=SOAK_END),
    ]


def test_a_convergence_reports_how_long_the_soak_took() -> None:
    """The seconds from the completed activation to the convergence are observed."""
    observed = metrics(soaking_host(), converged(seconds=SOAK_END))

    assert EmitMetric("nixfleet_host_soak_seconds", (), SOAK_END - 30.0) in observed


def test_a_sustained_failure_makes_the_host_failed() -> None:
    """Failed moves the host; that no activation failed can be seen from the record."""
    before = soaking_host(probe_fail())
    after, _ = told(before, failed(seconds=200, policy=HALT))

    assert after == evolve(
        before,
        state=HostState.FAILED,
        failed_at=at(200),
        policy_applied=HALT.on_health_failure,
        last_event_seq=LATER,
    )


def test_a_sustained_failure_applies_the_policy_that_the_fact_carries() -> None:
    """The agent already acted on the fact's policy; the caller's does not overrule it."""
    after, effects = lived(soaking_host(), failed(policy=ROLLBACK), HALT)

    assert after.policy_applied is ROLLBACK.on_health_failure
    assert effects[-1] == LocalFireRollbackTo(ROLLOUT, PRIOR)


def test_a_sustained_failure_under_halt_fires_no_rollback() -> None:
    """The fact says halt: the agent stays where it is, whatever the caller's policy."""
    _, effects = lived(soaking_host(), failed(policy=HALT), ROLLBACK)

    assert only(LocalFireRollbackTo, effects) == []


def test_a_host_that_ran_its_target_before_has_nothing_to_go_back_to() -> None:
    """A rollback to the closure that failed would be no rollback: the host stays Failed."""
    restarted = evolve(soaking_host(), current_closure_at_dispatch=TARGET)
    after, effects = lived(restarted, failed(policy=ROLLBACK), ROLLBACK)

    assert after.state is HostState.FAILED
    assert only(LocalFireRollbackTo, effects) == []


def test_a_fact_that_was_taken_already_is_refused() -> None:
    """The same number again is a regression; the refusal says both numbers."""
    once, _ = told(soaking_host(), probe_pass())

    with pytest.raises(SeqRegression) as refusal:
        told(once, probe_pass())

    assert (refusal.value.got, refusal.value.last) == (LATER, LATER)


@pytest.mark.parametrize(
    "fact",
    [
        fact
        for fact in all_facts_but()
        if isinstance(
            fact,
            DispatchAck
            | ActivationStarted
            | ActivationCompleted
            | ActivationFailed
            | ActivationDeferred
            | RollbackComplete,
        )
    ],
)
def test_a_fact_about_the_switch_is_refused(fact: AgentEvent) -> None:
    """The activation is over; it can neither start, end nor be rolled back now."""
    with pytest.raises(IllegalForState) as refusal:
        told(soaking_host(), fact)

    assert str(refusal.value) == (
        f"{type(fact).__name__} is not legal from Soaking "
        f"(rollout stable@a1b2, host web-01, seq {LATER})"
    )
