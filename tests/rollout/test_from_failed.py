"""A Failed rollout dispatches nobody until an operator looked at it."""

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    HostState,
    IllegalForRolloutState,
    RolloutEvent,
    RolloutState,
)
from nixfleet_state_machine.rollout.effect import RecordRolloutTransition, SchedulePruning
from nixfleet_state_machine.rollout.state import Standing
from tests.builders import (
    HOST,
    ROLLOUT,
    all_done,
    at,
    clearance,
    failed_rollout,
    host_now,
    joined,
    opened,
    retention_expired,
    rolled,
    successor_opened,
    wave_advanced,
)


def test_a_rollback_that_finishes_makes_the_rollout_reverted() -> None:
    """A host that was Failed and is Reverted now turns the rollout from Failed to Reverted."""
    after, effects = rolled(failed_rollout(), host_now(HostState.REVERTED, seconds=60))

    assert after == evolve(failed_rollout(), state=RolloutState.REVERTED)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.FAILED, RolloutState.REVERTED, at(60)),
        SchedulePruning(ROLLOUT, delay_seconds=72 * 3600),
    ]


def test_a_cleared_rollout_goes_on_without_the_excused_hosts() -> None:
    """OperatorClearance makes the rollout Active again; excused hosts no longer count."""
    after, effects = rolled(failed_rollout(), clearance(HOST, seconds=600))

    assert after == evolve(
        failed_rollout().with_standings([HOST], Standing.EXCUSED), state=RolloutState.ACTIVE
    )
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.FAILED, RolloutState.ACTIVE, at(600))
    ]


def test_a_second_clearance_adds_to_the_excused_hosts() -> None:
    """Who was excused once stays excused."""
    cleared, _ = rolled(failed_rollout(), clearance(HOST))
    failed_again, _ = rolled(cleared, host_now(HostState.FAILED))
    after, _ = rolled(failed_again, clearance("web-02"))

    assert after.excused_hosts == {HOST, "web-02"}


@pytest.mark.parametrize(
    "event",
    [
        joined(),
        wave_advanced(0, 1),
        all_done(),
        *(host_now(state) for state in HostState if state is not HostState.REVERTED),
    ],
)
def test_late_noise_changes_nothing(event: RolloutEvent) -> None:
    """What hosts still under way do neither ends the halt nor moves a wave."""
    assert rolled(failed_rollout(), event) == (failed_rollout(), [])


def test_a_successor_supersedes_the_rollout() -> None:
    """A newer rollout of the channel is the other way out of a failure."""
    after, _ = rolled(failed_rollout(), successor_opened(seconds=500))

    assert after == evolve(failed_rollout(), state=RolloutState.SUPERSEDED, superseded_at=at(500))


def test_a_rollout_whose_retention_expired_is_pruned() -> None:
    """A failure that nobody looked at is forgotten in time."""
    after, _ = rolled(failed_rollout(), retention_expired())

    assert after.state is RolloutState.PRUNED


def test_opening_the_rollout_again_is_refused() -> None:
    """RolloutOpened makes records; no record takes it."""
    with pytest.raises(IllegalForRolloutState):
        rolled(failed_rollout(), opened())
