"""An Active rollout dispatches its hosts, wave after wave."""

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    HostState,
    IllegalForRolloutState,
    RolloutEvent,
    RolloutState,
    WrongRollout,
)
from nixfleet_state_machine.rollout.effect import (
    RecordRolloutTransition,
    SchedulePruning,
    UpdateCurrentWave,
)
from tests.builders import (
    ROLLOUT,
    SUCCESSOR,
    active_rollout,
    all_done,
    at,
    clearance,
    host_now,
    joined,
    opened,
    retention_expired,
    rolled,
    successor_opened,
    wave_advanced,
)


def test_an_advance_moves_the_wave() -> None:
    """WaveAdvanced to a later wave moves the cursor there; the rollout stays Active."""
    after, effects = rolled(active_rollout(), wave_advanced(0, 1))

    assert after == evolve(active_rollout(), current_wave=1)
    assert effects == [UpdateCurrentWave(ROLLOUT, 1)]


def test_an_advance_to_a_wave_already_passed_changes_nothing() -> None:
    """The cursor never falls, and a move that is none is not told."""
    assert rolled(active_rollout(wave=2), wave_advanced(0, 1)) == (active_rollout(wave=2), [])


@pytest.mark.parametrize("to_wave", [0, 1])
def test_an_advance_that_goes_nowhere_makes_the_rollout_converging(to_wave: int) -> None:
    """An advance to the same wave, or an earlier one, says that the last wave was dispatched."""
    after, effects = rolled(active_rollout(wave=1), wave_advanced(1, to_wave, seconds=50))

    assert after == evolve(active_rollout(wave=1), state=RolloutState.CONVERGING)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.ACTIVE, RolloutState.CONVERGING, at(50))
    ]


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
    """One host Failed or Reverted makes the whole rollout so, and it comes to rest there."""
    after, effects = rolled(active_rollout(), host_now(host_state, seconds=60))

    assert after == evolve(active_rollout(), state=rollout_state)
    assert after.state.is_halted
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.ACTIVE, rollout_state, at(60)),
        SchedulePruning(ROLLOUT, delay_seconds=72 * 3600),
    ]


@pytest.mark.parametrize(
    "state", [state for state in HostState if state not in (HostState.FAILED, HostState.REVERTED)]
)
def test_a_host_that_goes_on_changes_nothing(state: HostState) -> None:
    """What a host does on its way is not the rollout's business."""
    assert rolled(active_rollout(), host_now(state)) == (active_rollout(), [])


def test_another_host_that_joins_changes_nothing() -> None:
    """The rollout is Active already, whichever wave the host is of."""
    assert rolled(active_rollout(), joined(wave=1)) == (active_rollout(), [])


def test_a_rollout_of_which_all_hosts_are_done_is_terminal() -> None:
    """RolloutTerminal ends the rollout, which then lets waiting channels go."""
    after, effects = rolled(active_rollout(), all_done(seconds=400))

    assert after == evolve(active_rollout(), state=RolloutState.TERMINAL, terminal_at=at(400))
    assert after.state.is_terminal_for_ordering
    assert effects == [
        RecordRolloutTransition(ROLLOUT, RolloutState.ACTIVE, RolloutState.TERMINAL, at(400)),
        SchedulePruning(ROLLOUT, delay_seconds=72 * 3600),
    ]


def test_a_successor_supersedes_the_rollout() -> None:
    """A newer rollout of the channel takes over from one that is under way."""
    after, _ = rolled(active_rollout(), successor_opened(seconds=500))

    assert after == evolve(active_rollout(), state=RolloutState.SUPERSEDED, superseded_at=at(500))


@pytest.mark.parametrize("event", [opened(), retention_expired(), clearance()])
def test_an_event_for_a_rollout_at_rest_is_refused(event: RolloutEvent) -> None:
    """A rollout under way can be neither opened again nor pruned nor cleared."""
    with pytest.raises(IllegalForRolloutState) as refusal:
        rolled(active_rollout(), event)

    assert str(refusal.value) == (
        f"{type(event).__name__} is not legal from Active (rollout stable@a1b2)"
    )


def test_an_event_about_another_rollout_is_refused() -> None:
    """A record takes no event of another rollout; the refusal names both."""
    with pytest.raises(WrongRollout) as refusal:
        rolled(active_rollout(), evolve(all_done(), rollout_id=SUCCESSOR))

    assert "stable@a1b2" in str(refusal.value)
    assert "stable@c3d4" in str(refusal.value)
