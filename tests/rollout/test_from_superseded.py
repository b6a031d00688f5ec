"""A Superseded rollout has a successor; its hosts are the successor's now."""

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    HostState,
    IllegalForRolloutState,
    RolloutEvent,
    RolloutState,
)
from nixfleet_state_machine.rollout.effect import RecordRolloutTransition
from tests.builders import (
    HOST,
    ROLLOUT,
    all_done,
    at,
    clearance,
    host_now,
    joined,
    opened,
    retention_expired,
    rolled,
    successor_opened,
    superseded_rollout,
    wave_advanced,
)


@pytest.mark.parametrize(
    "event",
    [
        joined(),
        wave_advanced(0, 1),
        wave_advanced(0, 0),
        all_done(),
        *(host_now(state) for state in HostState),
    ],
)
def test_late_noise_changes_nothing(event: RolloutEvent) -> None:
    """Hosts may still finish what they began; the rollout is over."""
    assert rolled(superseded_rollout(), event) == (superseded_rollout(), [])


def test_a_second_successor_keeps_the_time_of_the_first() -> None:
    """SuccessorOpened said again changes nothing, `superseded_at` least of all."""
    again = successor_opened(seconds=700)

    assert rolled(superseded_rollout(), again) == (superseded_rollout(), [])
    assert superseded_rollout().superseded_at == at(500)


def test_a_rollout_whose_retention_expired_is_pruned() -> None:
    """RetentionExpired moves the rollout to Pruned."""
    after, effects = rolled(superseded_rollout(), retention_expired(seconds=9_000))

    assert after == evolve(superseded_rollout(), state=RolloutState.PRUNED)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.SUPERSEDED, RolloutState.PRUNED, at(9_000))
    ]


@pytest.mark.parametrize("event", [opened(), clearance(HOST)])
def test_an_event_that_would_bring_it_back_is_refused(event: RolloutEvent) -> None:
    """A rollout that was taken over can be neither opened again nor cleared."""
    with pytest.raises(IllegalForRolloutState):
        rolled(superseded_rollout(), event)
