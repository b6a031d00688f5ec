"""Deadlines and back-off: when the silence of a host, or its failure, has a consequence, and which."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.deadlines import (
    GRACE,
    Due,
    LapseDue,
    RetryDue,
    backoff_of,
    due_of,
    has_dues,
    overdue_at,
    stage_of,
)
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import Drift, Standing
from tests.planner.builders import NOW, host_of, rollout_of, terms_of

THEN = NOW - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ONCE = Retry()
FAIL, SKIP, WAIT = AtDeadline.FAIL, AtDeadline.SKIP, AtDeadline.WAIT


def _terms(then: AtDeadline = FAIL, retry: Retry = ONCE) -> RolloutTerms:
    minutes = {"ack": 10, "activation": 20, "reboot": 30, "convergence": 40}
    deadlines = Deadlines(**{stage: Deadline(count, then) for stage, count in minutes.items()})
    return terms_of(deadlines=deadlines, retry=retry)


def _host(state: HostState, failed: bool = False) -> HostRolloutState:
    return evolve(
        host_of(_terms(), "web-1", state),
        dispatch_acked_at=NOW,
        activation_completed_at=NOW + MINUTE,
        deferred_at=NOW + 2 * MINUTE,
        failed_at=NOW + 3 * MINUTE if failed else None,
    )


def _rolling_back() -> HostRolloutState:
    return evolve(
        _host(HostState.FAILED, failed=True),
        policy_applied=OnHealthFailure.ROLLBACK_AND_HALT,
        current_closure_at_dispatch="prior",
    )


def _due(
    terms: RolloutTerms, host: HostRolloutState, standing: Standing = Standing.COUNTED
) -> Due | None:
    return due_of(terms, rollout_of(terms, standings={"web-1": standing}), host, None)


@pytest.mark.parametrize(
    ("host", "stage", "after"),
    [
        (_host(HostState.ACTIVATING), Stage.ACTIVATION, timedelta(minutes=20)),
        (_host(HostState.DEFERRED), Stage.REBOOT, timedelta(minutes=32)),
        (_host(HostState.SOAKING), Stage.CONVERGENCE, timedelta(minutes=41)),
        (_rolling_back(), Stage.ACTIVATION, timedelta(minutes=23)),
    ],
)
def test_a_host_that_acts_is_overdue_a_grace_after_the_deadline_of_its_stage(
    host: HostRolloutState, stage: Stage, after: timedelta
) -> None:
    """Counted from the entry of the stage; a rollback is a switch as well."""
    assert _due(_terms(), host) == LapseDue(NOW + after + GRACE, stage, Standing.LAPSED)


def test_a_dispatch_is_overdue_at_the_deadline_itself() -> None:
    """The host cannot hold itself to it: it does not know yet."""
    terms = _terms()
    host = host_of(terms, "web-1")

    assert due_of(terms, rollout_of(terms), host, THEN) == LapseDue(
        THEN + timedelta(minutes=10), Stage.ACK, Standing.LAPSED
    )
    assert due_of(terms, rollout_of(terms), host, None) is None


@pytest.mark.parametrize("state", [HostState.PENDING, HostState.CONVERGED, HostState.REVERTED])
def test_a_host_that_does_not_act_has_no_deadline(state: HostState) -> None:
    """It waits for the planner, or is at rest."""
    assert stage_of(_host(state), None) is None
    assert _due(_terms(), _host(state)) is None


def test_a_host_that_failed_and_stays_has_no_deadline() -> None:
    """There is nothing that it could still do."""
    assert _due(_terms(), _host(HostState.FAILED, failed=True)) is None


def test_a_stage_without_a_beginning_has_no_deadline() -> None:
    """A record of an older version does not know since when it is deferred."""
    assert stage_of(evolve(_host(HostState.DEFERRED), deferred_at=None), None) is None


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_without_a_deadline_may_take_for_ever(stage: Stage) -> None:
    """No deadline is assumed."""
    assert overdue_at(terms_of(), stage, NOW) is None
    assert not has_dues(terms_of())


@pytest.mark.parametrize(
    ("then", "host", "standing"),
    [
        (WAIT, _host(HostState.SOAKING), None),
        (SKIP, _host(HostState.SOAKING), Standing.AWAY),
        (FAIL, _host(HostState.SOAKING), Standing.LAPSED),
        (SKIP, _host(HostState.SOAKING, failed=True), Standing.LAPSED),
        (SKIP, _rolling_back(), Standing.LAPSED),
    ],
)
def test_what_follows_at_a_deadline_is_what_it_says(
    then: AtDeadline, host: HostRolloutState, standing: Standing | None
) -> None:
    """Wait, skip or fail; a host that failed has failed, whatever becomes of it."""
    due = _due(_terms(then), host)

    assert standing == (due.standing if isinstance(due, LapseDue) else None)


def test_a_late_host_that_is_silent_is_away_whatever_the_deadline_says() -> None:
    """Its wave was done without it, so it cannot fail it."""
    due = _due(_terms(FAIL), _host(HostState.SOAKING), Standing.LATE)

    assert isinstance(due, LapseDue)
    assert due.standing is Standing.AWAY


@pytest.mark.parametrize(
    "standing",
    [each for each in Standing if each not in (Standing.COUNTED, Standing.LATE)],
)
def test_a_host_with_any_other_standing_has_nothing_due(standing: Standing) -> None:
    """It is silent already, or nobody waits for it."""
    assert _due(_terms(retry=Retry(3)), _host(HostState.SOAKING), standing) is None
    assert _due(_terms(retry=Retry(3)), _host(HostState.FAILED, failed=True), standing) is None


# --- attempts ------------------------------------------------------------------------------------


def test_a_host_that_failed_may_try_again_after_its_back_off() -> None:
    """From its failure, or from when it was back."""
    retry = Retry(attempts=2, backoff_seconds=600)
    terms = terms_of(retry=retry)
    wait = backoff_of(retry, "web-1", 1)
    failed = _host(HostState.FAILED, failed=True)
    reverted = evolve(_host(HostState.REVERTED, failed=True), reverted_at=NOW + 9 * MINUTE)

    assert has_dues(terms)
    assert _due(terms, failed) == RetryDue(NOW + 3 * MINUTE + wait, 2)
    assert _due(terms, reverted) == RetryDue(NOW + 9 * MINUTE + wait, 2)


@pytest.mark.parametrize(
    "host",
    [
        _host(HostState.CONVERGED),
        _rolling_back(),
        evolve(_host(HostState.FAILED, failed=True), attempt=2),
        _host(HostState.SOAKING, failed=True),
        _host(HostState.FAILED),
    ],
    ids=["converged", "rolling back", "no attempt left", "at it", "not dated"],
)
def test_no_attempt_becomes_due(host: HostRolloutState) -> None:
    """For a host that has not failed, is not done with it, or has no attempt left."""
    assert _due(terms_of(retry=Retry(attempts=2)), host) is None


def test_an_attempt_that_was_ordered_is_not_due_again() -> None:
    """The host is dispatched when the gates let it."""
    terms = terms_of(retry=Retry(attempts=3))
    rollout = rollout_of(terms, attempts={"web-1": 2})
    failed = _host(HostState.FAILED, failed=True)

    assert due_of(terms, rollout, failed, None) is None
    assert due_of(terms, rollout, evolve(failed, attempt=2), None) is not None


@pytest.mark.parametrize("attempt", [1, 2, 3, 5])
def test_the_back_off_grows_by_its_factor_and_is_spread_by_a_tenth(attempt: int) -> None:
    """The same for the same host and attempt, and never less than what the policy says."""
    retry = Retry(attempts=9, backoff_seconds=60, factor=3)
    least = timedelta(seconds=60 * 3 ** (attempt - 1))
    waits = {backoff_of(retry, f"web-{number}", attempt) for number in range(50)}

    assert all(least <= wait < least * 1.1 for wait in waits)
    assert len(waits) > 40
    assert backoff_of(retry, "web-1", attempt) == backoff_of(retry, "web-1", attempt)


def test_the_back_off_is_a_week_at_most() -> None:
    """However many attempts there were: a time must not overflow."""
    wait = backoff_of(Retry(attempts=10_000, backoff_seconds=60, factor=10), "web-1", 5_000)

    assert timedelta(days=7) <= wait < timedelta(days=7.7)


@pytest.mark.parametrize("attempt", [20, 21, 22])
def test_the_slowest_back_off_that_grows_reaches_a_week(attempt: int) -> None:
    """From one second by doubling: what bounds the cost of the power does not bound the wait."""
    wait = backoff_of(Retry(attempts=99, backoff_seconds=1, factor=2), "web-1", attempt)
    least = timedelta(seconds=min(2 ** (attempt - 1), 7 * 24 * 60 * 60))

    assert least <= wait < least * 1.1


def test_the_spread_of_the_back_off_is_another_one_at_each_attempt() -> None:
    """Hosts that met once do not meet every time."""
    retry = Retry(attempts=9, backoff_seconds=1000, factor=1)

    assert len({backoff_of(retry, "web-1", attempt) for attempt in range(1, 9)}) == 8


# --- drift -----------------------------------------------------------------------------------------


def _drifted(
    state: HostState = HostState.CONVERGED,
    on_drift: OnDrift = OnDrift.RESTORE,
    *,
    attempt: int = 1,
    ordered: int = 1,
    others: bool = False,
) -> Due | None:
    """Return what is due for a host that drifted an hour ago; others: another host did."""
    terms = evolve(_terms(retry=Retry(backoff_seconds=600)), on_drift=on_drift)
    host = evolve(_host(state), attempt=attempt)
    rollout = evolve(
        rollout_of(terms, attempts={"web-1": ordered}),
        drifted=FrozenMap({"web-2" if others else "web-1": Drift("by-hand", THEN)}),
    )
    return due_of(terms, rollout, host, None)


@pytest.mark.parametrize("attempt", [1, 2, 5])
def test_a_host_that_drifted_is_given_its_target_back_after_the_back_off(attempt: int) -> None:
    """However many attempts were declared: nothing failed. The back-off counts from the drift, by attempt."""
    due = _drifted(attempt=attempt, ordered=attempt)
    wait = backoff_of(Retry(backoff_seconds=600), "web-1", attempt)

    assert due == RetryDue(THEN + wait, attempt + 1, "it runs by-hand")


def test_nothing_is_due_for_a_drift_that_is_only_reported() -> None:
    """The default of a channel."""
    assert _drifted(on_drift=OnDrift.REPORT) is None


def test_nothing_is_due_for_the_drift_of_another_host() -> None:
    """Each host is given back its own target."""
    assert _drifted(others=True) is None


def test_an_attempt_that_was_ordered_for_a_drift_is_not_due_again() -> None:
    """Nor once it was made, and the host is at rest again."""
    assert _drifted(ordered=2) is None


@pytest.mark.parametrize("state", [HostState.FAILED, HostState.REVERTED, HostState.PENDING])
def test_no_drift_is_restored_of_a_host_that_is_not_converged(state: HostState) -> None:
    """Where one attempt is declared, nothing else is due either."""
    assert _drifted(state) is None


def test_the_back_off_of_a_drift_is_the_policy_s_and_the_host_s() -> None:
    """Two hosts that drifted together are not restored together."""
    terms = evolve(_terms(retry=Retry(backoff_seconds=600)), on_drift=OnDrift.RESTORE)
    drift = Drift("by-hand", THEN)
    rollout = evolve(rollout_of(terms), drifted=FrozenMap({"web-1": drift, "web-2": drift}))
    dues = [
        due_of(terms, rollout, host_of(terms, name, HostState.CONVERGED), None)
        for name in ("web-1", "web-2")
    ]
    assert all(isinstance(due, RetryDue) for due in dues)
    assert len({due.at for due in dues if due is not None}) == 2


def test_the_spread_is_that_of_the_first_four_bytes() -> None:
    """Recorded: a control plane of another version, in a replay, comes to the same times."""
    seconds = [backoff_of(Retry(backoff_seconds=1000), "web-1", n).total_seconds() for n in (1, 2)]
    assert seconds == [1050.683594, 2166.992188]
