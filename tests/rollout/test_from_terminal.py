"""A Terminal rollout is done; what still arrives is late noise."""

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
    terminal_rollout,
    wave_advanced,
)


@pytest.mark.parametrize("event", [all_done(), joined(), *(host_now(state) for state in HostState)])
def test_late_noise_changes_nothing(event: RolloutEvent) -> None:
    """A host that joins or changes after the end, or the end said again, is passed over."""
    assert rolled(terminal_rollout(), event) == (terminal_rollout(), [])


def test_a_rollout_whose_retention_expired_is_pruned() -> None:
    """RetentionExpired moves the rollout to Pruned, without another pruning."""
    after, effects = rolled(terminal_rollout(), retention_expired(seconds=9_000))

    assert after == evolve(terminal_rollout(), state=RolloutState.PRUNED)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.TERMINAL, RolloutState.PRUNED, at(9_000))
    ]


def test_a_successor_supersedes_the_rollout() -> None:
    """A rollout that was done is superseded too, and remembers when it was done."""
    after, _ = rolled(terminal_rollout(), successor_opened(seconds=500))

    assert after == evolve(terminal_rollout(), state=RolloutState.SUPERSEDED, superseded_at=at(500))


@pytest.mark.parametrize("event", [opened(), wave_advanced(0, 1), clearance()])
def test_an_event_that_would_go_on_is_refused(event: RolloutEvent) -> None:
    """What is done has no further wave and nothing to clear."""
    with pytest.raises(IllegalForRolloutState):
        rolled(terminal_rollout(), event)
