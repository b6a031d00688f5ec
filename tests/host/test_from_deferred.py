"""A Deferred host is set to its target and waits for a reboot."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import ActivationCompleted, ActivationFailed, AgentEvent
from nixfleet_state_machine import HostState, IllegalForState
from nixfleet_state_machine.host.effect import (
    LocalFireRollbackTo,
    LocalResetProbeCache,
    RemoteAppendEventLog,
)
from tests.builders import (
    HOST,
    LATER,
    PRIOR,
    ROLLBACK,
    ROLLOUT,
    TARGET,
    activation_completed,
    activation_failed,
    all_facts_but,
    at,
    deferred_host,
    lived,
    moved,
    told,
)


def test_a_deferred_host_lets_others_go_on() -> None:
    """Deferred counts as done for ordering, though it is not verified."""
    eligible = [state for state in HostState if state.is_ordering_eligible]

    assert deferred_host().state in eligible
    assert eligible == [HostState.DEFERRED, HostState.CONVERGED]


def test_a_completed_activation_makes_the_host_soaking() -> None:
    """After the reboot ActivationCompleted opens the soak."""
    after, effects = told(deferred_host(), activation_completed(seconds=90))

    assert after == evolve(
        deferred_host(),
        state=HostState.SOAKING,
        activation_completed_at=at(90),
        current_closure=TARGET,
        last_event_seq=LATER,
    )
    assert effects == [
        RemoteAppendEventLog(HOST, ROLLOUT, activation_completed(seconds=90)),
        moved(HostState.DEFERRED, HostState.SOAKING, seconds=90),
    ]


def test_a_completed_activation_resets_the_probes() -> None:
    """The agent starts probes from scratch, as after any activation."""
    _, effects = lived(deferred_host(), activation_completed())

    assert effects[0] == LocalResetProbeCache(ROLLOUT)


def test_a_failed_activation_applies_the_policy() -> None:
    """A switch that fails at the reboot fails the host as one that fails at once does."""
    after, effects = lived(deferred_host(), activation_failed(seconds=90), ROLLBACK)

    assert after == evolve(
        deferred_host(),
        state=HostState.FAILED,
        activation_failed_at=at(90),
        failed_at=at(90),
        policy_applied=ROLLBACK.on_health_failure,
        last_event_seq=LATER,
    )
    assert effects[-1] == LocalFireRollbackTo(ROLLOUT, PRIOR)


@pytest.mark.parametrize("fact", all_facts_but(ActivationCompleted, ActivationFailed))
def test_any_other_fact_is_refused(fact: AgentEvent) -> None:
    """Until the reboot nothing else can be said of the new closure."""
    with pytest.raises(IllegalForState):
        told(deferred_host(), fact)
