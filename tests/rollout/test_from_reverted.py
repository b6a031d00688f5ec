"""A Reverted rollout went back to what ran before, and dispatches nobody."""

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    HostState,
    IllegalForRolloutState,
    RolloutEvent,
    RolloutState,
)
from nixfleet_state_machine.rollout.state import Standing
from tests.builders import (
    HOST,
    all_done,
    at,
    clearance,
    host_now,
    joined,
    opened,
    retention_expired,
    reverted_rollout,
    rolled,
    successor_opened,
    wave_advanced,
)


@pytest.mark.parametrize(
    "event",
    [
        joined(),
        wave_advanced(0, 1),
        all_done(),
        *(host_now(state) for state in HostState),
    ],
)
def test_late_noise_changes_nothing(event: RolloutEvent) -> None:
    """What hosts still under way do is passed over, a failure too."""
    assert rolled(reverted_rollout(), event) == (reverted_rollout(), [])


def test_a_cleared_rollout_goes_on_without_the_excused_hosts() -> None:
    """OperatorClearance makes the rollout Active again."""
    after, _ = rolled(reverted_rollout(), clearance(HOST))

    assert after == evolve(
        reverted_rollout().with_standings([HOST], Standing.EXCUSED), state=RolloutState.ACTIVE
    )


def test_a_clearance_may_excuse_nobody() -> None:
    """An operator can let a rollout go on just as it is."""
    after, _ = rolled(reverted_rollout(), clearance())

    assert after == evolve(reverted_rollout(), state=RolloutState.ACTIVE)


def test_a_successor_supersedes_the_rollout() -> None:
    """A newer rollout of the channel takes over."""
    after, _ = rolled(reverted_rollout(), successor_opened(seconds=500))

    assert after == evolve(reverted_rollout(), state=RolloutState.SUPERSEDED, superseded_at=at(500))


def test_a_rollout_whose_retention_expired_is_pruned() -> None:
    """A revert that nobody looked at is forgotten in time."""
    after, _ = rolled(reverted_rollout(), retention_expired())

    assert after.state is RolloutState.PRUNED


def test_opening_the_rollout_again_is_refused() -> None:
    """RolloutOpened makes records; no record takes it."""
    with pytest.raises(IllegalForRolloutState):
        rolled(reverted_rollout(), opened())
