"""Further attempts: when an acknowledgement begins one, what it clears, and until when the host counts as failed."""

from collections.abc import Mapping

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    Converged,
    DispatchAck,
    OnHealthFailure,
    ProbeTopologyDeclared,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine import HostRolloutState, HostState, IllegalForState, Local, Remote, step
from nixfleet_state_machine.host.effect import (
    LocalFireRollbackTo,
    LocalFireSwitch,
    RemoteInsertQuarantine,
)
from nixfleet_state_machine.host.event import Event
from nixfleet_testing.samples import AT, NOW, after, hosts, next_of

HOSTS: Mapping[str, HostRolloutState] = hosts()
DONE = ("failed by activation", "failed by probes", "reverted", "converged")
POLICY = RolloutPolicy()


def _ack(record: HostRolloutState, attempt: int | None) -> Event:
    return Remote(next_of(record, DispatchAck("prior", AT, 0, attempt)))


def _again(title: str) -> HostRolloutState:
    return step(HOSTS[title], _ack(HOSTS[title], 2), NOW, POLICY)[0]


@pytest.mark.parametrize("title", DONE)
def test_acknowledging_the_next_attempt_begins_it(title: str) -> None:
    """A host that failed, went back or converged switches once more."""
    record = HOSTS[title]
    event = Local(next_of(record, DispatchAck("prior", AT, 0, 2)))
    again, effects = step(record, event, NOW, POLICY)

    assert (again.state, again.attempt) == (HostState.ACTIVATING, 2)
    assert again.last_event_seq == record.last_event_seq + 1
    assert any(isinstance(effect, LocalFireSwitch) for effect in effects)


@pytest.mark.parametrize("title", DONE)
@pytest.mark.parametrize("attempt", [None, 1, 3, 0])
def test_acknowledging_another_attempt_than_the_next_is_refused(
    title: str, attempt: int | None
) -> None:
    """Neither the same one again nor one that leaves one out begins."""
    with pytest.raises(IllegalForState):
        step(HOSTS[title], _ack(HOSTS[title], attempt), NOW, POLICY)


@pytest.mark.parametrize("title", sorted(HOSTS.keys() - set(DONE)))
def test_acknowledging_the_next_attempt_while_one_goes_on_is_refused(title: str) -> None:
    """Also while the host rolls back, and also before its first attempt."""
    record = HOSTS[title]
    with pytest.raises(IllegalForState):
        step(record, _ack(record, record.attempt + 1), NOW, POLICY)


def test_the_next_attempt_begins_once_the_rollback_is_over() -> None:
    """A host is tried again when it is Reverted, not while it goes back."""
    failed = HOSTS["failed, rolling back"]
    reverted = after(failed, RollbackComplete("prior", 0, AT, 0))

    assert step(reverted, _ack(reverted, 2), NOW, POLICY)[0].state is HostState.ACTIVATING


@pytest.mark.parametrize("title", DONE)
def test_a_new_attempt_knows_nothing_of_the_stages_of_the_last(title: str) -> None:
    """Times, probes and where the host went back to are of the attempt that is over."""
    again = _again(title)

    assert again.activation_started_at is None
    assert again.activation_completed_at is None
    assert again.deferred_at is None
    assert again.probe_observed_first_at is None
    assert again.probe_failure_first_at is None
    assert again.converged_at is None
    assert (again.reverted_to, again.reverted_at) == (None, None)
    assert not again.probes
    assert again.declared_probes is None
    assert again.dispatch_acked_at == AT


def test_a_new_attempt_forgets_when_the_last_one_was_deferred() -> None:
    """Its deadline runs from its own deferral."""
    deferred = HOSTS["deferred"]
    failed = after(deferred, ActivationFailed(1, "boom", AT, 0))
    assert deferred.deferred_at is not None

    assert after(failed, DispatchAck("prior", AT, 0, 2)).deferred_at is None


def test_a_deferral_is_dated() -> None:
    """From then on the host waits for its reboot."""
    assert after(HOSTS["activating"], ActivationDeferred("kernel", AT, 0)).deferred_at == AT


@pytest.mark.parametrize("title", ["failed by activation", "failed by probes", "reverted"])
def test_a_host_counts_as_failed_until_an_attempt_succeeds(title: str) -> None:
    """Through its whole next attempt; then nothing of the failure is left."""
    again = _again(title)
    soaking = after(
        again, ActivationCompleted("target", 0, AT, 0), ProbeTopologyDeclared((), AT, 0)
    )
    assert HOSTS[title].has_failed
    assert again.has_failed
    assert again.failed_at == HOSTS[title].failed_at
    assert soaking.has_failed
    converged = after(soaking, Converged(AT + (NOW - AT) * 600, "target", 0))

    assert not converged.has_failed
    assert (converged.failed_at, converged.activation_failed_at) == (None, None)
    assert (converged.policy_applied, converged.attempt) == (None, 2)


def test_a_host_that_was_converged_does_not_count_as_failed_while_it_tries_again() -> None:
    """An attempt that restores it is not the consequence of a failure."""
    assert not _again("converged").has_failed


@pytest.mark.parametrize(
    ("policy", "rolls_back"),
    [(OnHealthFailure.HALT, False), (OnHealthFailure.ROLLBACK_AND_HALT, True)],
)
def test_a_converged_host_that_regresses_fails_by_its_policy(
    policy: OnHealthFailure, rolls_back: bool
) -> None:
    """As in the soak: it stays where it is, or goes back; and both sides agree."""
    record = HOSTS["converged"]
    fact = next_of(record, Regressed(AT, 60, ("nginx",), policy, 0))
    failed, local = step(record, Local(fact), NOW, POLICY)
    mirrored, remote = step(record, Remote(fact), NOW, POLICY)

    assert failed == mirrored
    assert (failed.state, failed.failed_at, failed.policy_applied) == (
        HostState.FAILED,
        AT,
        policy,
    )
    assert any(isinstance(effect, LocalFireRollbackTo) for effect in local) is rolls_back
    assert not any(isinstance(effect, LocalFireRollbackTo) for effect in remote)
    assert failed.is_rolling_back is rolls_back


def test_a_host_that_regressed_and_went_back_asks_for_a_quarantine() -> None:
    """As every host that is Reverted; whether the closure is barred is a question of the policy."""
    record = after(
        HOSTS["converged"],
        Regressed(AT, 60, ("nginx",), OnHealthFailure.ROLLBACK_AND_HALT, 0),
    )
    undone = Remote(next_of(record, RollbackComplete("prior", 0, AT, 0)))
    reverted, effects = step(record, undone, NOW, POLICY)

    assert reverted.state is HostState.REVERTED
    assert any(isinstance(effect, RemoteInsertQuarantine) for effect in effects)


@pytest.mark.parametrize("title", sorted(HOSTS.keys() - {"converged"}))
def test_regressing_in_any_other_state_is_refused(title: str) -> None:
    """Only what converged can regress."""
    record = HOSTS[title]
    fact = next_of(record, Regressed(AT, 60, ("nginx",), OnHealthFailure.HALT, 0))
    with pytest.raises(IllegalForState):
        step(record, Remote(fact), NOW, POLICY)


def test_a_host_without_another_closure_to_go_back_to_is_not_rolling_back() -> None:
    """It may try again at once: nothing is under way."""
    failed = HOSTS["failed, rolling back"]
    assert failed.is_rolling_back
    for prior in (None, failed.target_closure):
        stuck = evolve(failed, current_closure_at_dispatch=prior)
        assert not stuck.is_rolling_back
        assert stuck.may_try_again


@pytest.mark.parametrize("title", sorted(HOSTS))
def test_a_dispatch_is_noted_only_before_the_first_fact_or_for_another_attempt(title: str) -> None:
    """Everything else is refused by name."""
    record = HOSTS[title]
    if record.state is HostState.PENDING or record.may_try_again:
        assert record.dispatched(AT, NOW).soak_due_at == NOW
    else:
        with pytest.raises(InvalidValue, match="one that may try again"):
            record.dispatched(AT, NOW)
