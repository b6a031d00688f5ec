"""An Opening rollout waits for its first host."""

import pytest
from attrs import evolve

from nixfleet_state_machine import IllegalForRolloutState, RolloutEvent, RolloutState
from nixfleet_state_machine.rollout.effect import RecordRolloutTransition, SchedulePruning
from nixfleet_state_machine.rollout.event import HostJoined, SuccessorOpened
from tests.builders import (
    ROLLOUT,
    all_rollout_events_but,
    at,
    joined,
    opening_rollout,
    rolled,
    successor_opened,
)


def test_the_first_host_that_joins_makes_the_rollout_active() -> None:
    """HostJoined moves the rollout to Active."""
    after, effects = rolled(opening_rollout(), joined(seconds=10))

    assert after == evolve(opening_rollout(), state=RolloutState.ACTIVE)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.OPENING, RolloutState.ACTIVE, at(10))
    ]


def test_a_host_of_a_later_wave_that_joins_first_does_not_move_the_wave() -> None:
    """The cursor stays at 0, or the gate would open for a wave whose turn has not come."""
    after, _ = rolled(opening_rollout(), joined(wave=2))

    assert after.current_wave == 0


def test_a_successor_supersedes_a_rollout_that_nobody_joined() -> None:
    """A newer rollout of the channel takes over at once, and the old one is kept for a while."""
    after, effects = rolled(opening_rollout(), successor_opened(seconds=5))

    assert after == evolve(opening_rollout(), state=RolloutState.SUPERSEDED, superseded_at=at(5))
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.OPENING, RolloutState.SUPERSEDED, at(5)),
        SchedulePruning(ROLLOUT, delay_seconds=72 * 3600),
    ]


@pytest.mark.parametrize("event", all_rollout_events_but(HostJoined, SuccessorOpened))
def test_any_other_event_is_refused(event: RolloutEvent) -> None:
    """Without a host there is nothing to change, advance, end, prune or clear."""
    with pytest.raises(IllegalForRolloutState):
        rolled(opening_rollout(), event)
