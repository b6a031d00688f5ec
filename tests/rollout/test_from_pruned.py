"""Pruned absorbs: nothing happens to the rollout any more."""

import pytest

from nixfleet_state_machine import IllegalForRolloutState, RolloutEvent, RolloutState
from tests.builders import all_rollout_events_but, pruned_rollout, rolled


@pytest.mark.parametrize("event", all_rollout_events_but())
def test_every_event_is_refused(event: RolloutEvent) -> None:
    """A pruned rollout takes no event, late noise included."""
    assert pruned_rollout().state is RolloutState.PRUNED
    with pytest.raises(IllegalForRolloutState):
        rolled(pruned_rollout(), event)
