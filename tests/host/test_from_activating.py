"""An Activating host waits for the outcome of its switch."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine import HostState, IllegalForState, rehydration_effects
from nixfleet_state_machine.host.effect import (
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalResetProbeCache,
    RemoteAppendEventLog,
)
from tests.builders import (
    HALT,
    HOST,
    LATER,
    OTHER,
    PRIOR,
    ROLLBACK,
    ROLLOUT,
    TARGET,
    activating_host,
    activation_completed,
    activation_deferred,
    activation_failed,
    activation_started,
    all_facts_but,
    at,
    lived,
    metrics,
    moved,
    only,
    told,
)


def test_a_started_activation_is_noted() -> None:
    """ActivationStarted keeps the time of the switch; the host stays Activating."""
    after, effects = told(activating_host(), activation_started(seconds=20))

    assert after == evolve(activating_host(), activation_started_at=at(20), last_event_seq=LATER)
    assert effects == [RemoteAppendEventLog(HOST, ROLLOUT, activation_started(seconds=20))]


def test_a_completed_activation_makes_the_host_soaking() -> None:
    """ActivationCompleted opens the soak with what really runs now."""
    after, _ = told(activating_host(), activation_completed(seconds=30, observed=OTHER))

    assert after == evolve(
        activating_host(),
        state=HostState.SOAKING,
        activation_completed_at=at(30),
        current_closure=OTHER,
        last_event_seq=LATER,
    )


def test_a_completed_activation_resets_the_probes_before_anything_else() -> None:
    """The agent forgets the old closure's probe results before the new closure's can come."""
    fact = activation_completed(seconds=30)
    _, effects = lived(activating_host(), fact)

    assert effects == [
        LocalResetProbeCache(ROLLOUT),
        LocalEmitEvent(ROLLOUT, fact, durable=True),
        moved(HostState.ACTIVATING, HostState.SOAKING, seconds=30),
    ]


def test_a_completed_activation_reports_how_long_it_took() -> None:
    """The seconds from the acknowledgement to the completion are observed."""
    observed = metrics(activating_host(), activation_completed(seconds=30))

    assert EmitMetric("nixfleet_host_activation_seconds", (), 20.0) in observed


def test_a_completed_activation_of_unknown_beginning_reports_no_duration() -> None:
    """A record that was restored without its acknowledgement is counted, and no seconds are made up."""
    restored = evolve(activating_host(), dispatch_acked_at=None)

    assert metrics(restored, activation_completed(seconds=30)) == [
        EmitMetric(
            "nixfleet_host_transitions_total", (("from", "Activating"), ("to", "Soaking")), 1.0
        )
    ]


def test_a_deferred_activation_makes_the_host_deferred() -> None:
    """ActivationDeferred moves the host, and claims neither a completion nor a closure."""
    after, _ = told(activating_host(), activation_deferred(seconds=30))

    assert after == evolve(
        activating_host(), state=HostState.DEFERRED, last_event_seq=LATER, deferred_at=at(30)
    )


@pytest.mark.parametrize("policy", [HALT, ROLLBACK])
def test_a_failed_activation_makes_the_host_failed(policy: RolloutPolicy) -> None:
    """ActivationFailed records the manifest's policy, which is applied, and no running closure."""
    after, _ = told(activating_host(), activation_failed(seconds=30), policy)

    assert after == evolve(
        activating_host(),
        state=HostState.FAILED,
        activation_failed_at=at(30),
        failed_at=at(30),
        policy_applied=policy.on_health_failure,
        last_event_seq=LATER,
    )


def test_a_failed_activation_goes_back_when_the_policy_says_so() -> None:
    """Under rollback-and-halt the agent fires the rollback to what ran before, at last."""
    _, effects = lived(activating_host(), activation_failed(), ROLLBACK)

    assert effects[-1] == LocalFireRollbackTo(ROLLOUT, PRIOR)


def test_a_failed_activation_stops_there_when_the_policy_says_halt() -> None:
    """Under halt the agent fires no rollback."""
    _, effects = lived(activating_host(), activation_failed(), HALT)

    assert only(LocalFireRollbackTo, effects) == []


def test_a_failed_activation_of_what_ran_before_has_nothing_to_go_back_to() -> None:
    """The prior closure is the target."""
    restarted = evolve(activating_host(), current_closure_at_dispatch=TARGET)
    after, effects = lived(restarted, activation_failed(), ROLLBACK)

    assert after.state is HostState.FAILED
    assert only(LocalFireRollbackTo, effects) == []


def test_a_failed_activation_goes_nowhere_without_a_known_prior_closure() -> None:
    """A record that knows no prior closure has nothing to roll back to."""
    lost = evolve(activating_host(), current_closure_at_dispatch=None)
    _, effects = lived(lost, activation_failed(), ROLLBACK)

    assert only(LocalFireRollbackTo, effects) == []


@pytest.mark.parametrize(
    "fact",
    all_facts_but(ActivationStarted, ActivationCompleted, ActivationDeferred, ActivationFailed),
)
def test_any_other_fact_is_refused(fact: AgentEvent) -> None:
    """An acknowledgement, a probe or an end has no meaning while the switch is under way."""
    with pytest.raises(IllegalForState):
        told(activating_host(), fact)


def test_restoring_an_activating_record_resets_its_probes() -> None:
    """An agent that comes back starts probes from scratch."""
    assert rehydration_effects(activating_host()) == (LocalResetProbeCache(ROLLOUT),)
