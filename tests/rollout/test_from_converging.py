"""A Converging rollout has dispatched its last wave and waits for it."""

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    HostState,
    IllegalForRolloutState,
    RolloutEvent,
    RolloutState,
)
from nixfleet_state_machine.rollout.effect import RecordRolloutTransition, UpdateCurrentWave
from tests.builders import (
    ROLLOUT,
    all_done,
    at,
    clearance,
    converging_rollout,
    host_now,
    joined,
    opened,
    retention_expired,
    rolled,
    successor_opened,
    wave_advanced,
)


def test_an_advance_to_a_later_wave_makes_the_rollout_active_again() -> None:
    """A wave that turns out to follow is dispatched after all, and the cursor moves there."""
    after, effects = rolled(converging_rollout(), wave_advanced(0, 1, seconds=50))

    assert after == evolve(converging_rollout(), state=RolloutState.ACTIVE, current_wave=1)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.CONVERGING, RolloutState.ACTIVE, at(50)),
        UpdateCurrentWave(ROLLOUT, 1),
    ]


def test_an_advance_that_goes_nowhere_changes_nothing() -> None:
    """That the last wave was dispatched is known already."""
    assert rolled(converging_rollout(), wave_advanced(0, 0)) == (converging_rollout(), [])


@pytest.mark.parametrize(
    ("host_state", "rollout_state"),
    [
        (HostState.FAILED, RolloutState.FAILED),
        (HostState.REVERTED, RolloutState.REVERTED),
    ],
)
def test_a_host_that_goes_bad_halts_the_rollout(
    host_state: HostState, rollout_state: RolloutState
) -> None:
    """The last wave can still fail, and then the rollout fails."""
    after, _ = rolled(converging_rollout(), host_now(host_state))

    assert after == evolve(converging_rollout(), state=rollout_state)


@pytest.mark.parametrize("event", [joined(), host_now(HostState.CONVERGED)])
def test_a_host_that_goes_on_changes_nothing(event: RolloutEvent) -> None:
    """Hosts come and converge; the rollout waits for all of them."""
    assert rolled(converging_rollout(), event) == (converging_rollout(), [])


def test_a_rollout_of_which_all_hosts_are_done_is_terminal() -> None:
    """RolloutTerminal ends the rollout at the event's own time."""
    after, _ = rolled(converging_rollout(), all_done(seconds=400))

    assert after == evolve(converging_rollout(), state=RolloutState.TERMINAL, terminal_at=at(400))


def test_a_successor_supersedes_the_rollout() -> None:
    """A newer rollout of the channel does not wait for the last wave."""
    after, _ = rolled(converging_rollout(), successor_opened())

    assert after.state is RolloutState.SUPERSEDED


@pytest.mark.parametrize("event", [opened(), retention_expired(), clearance()])
def test_an_event_for_a_rollout_at_rest_is_refused(event: RolloutEvent) -> None:
    """A rollout under way can be neither opened again nor pruned nor cleared."""
    with pytest.raises(IllegalForRolloutState):
        rolled(converging_rollout(), event)
