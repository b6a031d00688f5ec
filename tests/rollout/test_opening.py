"""How a rollout's record comes to be, and when it must not."""

from datetime import timedelta

import pytest

from nixfleet_state_machine import (
    RolloutRecord,
    RolloutState,
    SupersessionExpected,
    open_rollout,
)
from tests.builders import (
    CHANNEL,
    ROLLOUT,
    SUCCESSOR,
    active_rollout,
    at,
    converging_rollout,
    failed_rollout,
    opened,
    opening_rollout,
    pruned_rollout,
    reverted_rollout,
    superseded_rollout,
    terminal_rollout,
)


def test_a_rollout_on_a_free_channel_opens() -> None:
    """The record starts in Opening at wave 0, with the log row that opened it."""
    record = open_rollout(opened(seconds=5), 41, ())

    assert record == RolloutRecord(
        rollout_id=ROLLOUT,
        channel=CHANNEL,
        target_ref="a1b2",
        state=RolloutState.OPENING,
        current_wave=0,
        opened_event_log_seq=41,
        last_transition_event_log_seq=41,
        opened_at=at(5),
        retention=timedelta(hours=72),
    )


@pytest.mark.parametrize(
    "live",
    [
        opening_rollout(),
        active_rollout(),
        converging_rollout(),
        failed_rollout(),
        reverted_rollout(),
    ],
)
def test_a_rollout_beside_a_live_one_is_refused(live: RolloutRecord) -> None:
    """A live rollout of the channel, a halted one too, must be superseded first."""
    with pytest.raises(SupersessionExpected) as refusal:
        open_rollout(opened(SUCCESSOR, seconds=700), 42, [live])

    assert refusal.value.live == live
    assert (refusal.value.opening, refusal.value.at) == (SUCCESSOR, at(700))
    assert str(refusal.value) == (
        f"cannot open stable@c3d4: stable@a1b2 is still {live.state.value} on channel stable; "
        "expected SuccessorOpened for it first"
    )


@pytest.mark.parametrize("over", [terminal_rollout(), superseded_rollout(), pruned_rollout()])
def test_a_rollout_beside_one_that_is_over_opens(over: RolloutRecord) -> None:
    """What is Terminal, Superseded or Pruned does not stand in the way."""
    record = open_rollout(opened(SUCCESSOR), 42, [over])

    assert record.rollout_id == SUCCESSOR


def test_a_rollout_beside_several_is_refused_for_the_live_one() -> None:
    """Every other rollout of the channel is looked at, not the first alone."""
    with pytest.raises(SupersessionExpected) as refusal:
        open_rollout(opened(SUCCESSOR), 42, [superseded_rollout(), active_rollout()])

    assert refusal.value.live == active_rollout()
