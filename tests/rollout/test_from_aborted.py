"""An Aborted rollout begins nothing, and only a successor follows it."""

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    HostState,
    IllegalForRolloutState,
    RecordRolloutTransition,
    RolloutEvent,
    RolloutRecord,
    RolloutState,
    SchedulePruning,
)
from nixfleet_state_machine.rollout.event import RolloutAborted
from nixfleet_state_machine.rollout.state import RETENTION_DEFAULT
from tests.builders import (
    HOST,
    ROLLOUT,
    active_rollout,
    all_done,
    at,
    clearance,
    failed_rollout,
    host_now,
    joined,
    opened,
    opening_rollout,
    retention_expired,
    reverted_rollout,
    rolled,
    successor_opened,
    terminal_rollout,
    wave_advanced,
)

ABORT = RolloutAborted(ROLLOUT, "alice", "it eats disks", at(400))


def _aborted(record: RolloutRecord) -> RolloutRecord:
    after, _ = rolled(record, ABORT)
    return after


@pytest.mark.parametrize(
    "record", [opening_rollout(), active_rollout(), failed_rollout(), reverted_rollout()]
)
def test_an_abort_ends_a_live_rollout_and_schedules_its_pruning(record: RolloutRecord) -> None:
    """Whatever it was at, it is Aborted, and is kept for its retention."""
    after, effects = rolled(record, ABORT)

    assert after == evolve(record, state=RolloutState.ABORTED)
    assert effects == [
        RecordRolloutTransition(ROLLOUT, record.state, RolloutState.ABORTED, at(400)),
        SchedulePruning(ROLLOUT, int(RETENTION_DEFAULT.total_seconds())),
    ]


def test_an_abort_of_a_terminal_rollout_makes_it_done_no_more() -> None:
    """A channel that waits for it does not take what is not wanted for an outcome, not even once it is pruned."""
    after = _aborted(terminal_rollout())

    assert (after.state, after.terminal_at) == (RolloutState.ABORTED, None)


@pytest.mark.parametrize(
    "event",
    [
        ABORT,
        joined(),
        wave_advanced(0, 1),
        all_done(),
        *(host_now(state) for state in HostState),
    ],
)
def test_what_hosts_in_flight_still_do_changes_nothing(event: RolloutEvent) -> None:
    """They finish or fail by their own policy, and the rollout stays Aborted; so it does if it is aborted again."""
    assert rolled(_aborted(active_rollout()), event) == (_aborted(active_rollout()), [])


def test_a_clearance_of_an_aborted_rollout_is_refused() -> None:
    """What an operator aborted is not wanted any more: another release is the way on."""
    with pytest.raises(IllegalForRolloutState):
        rolled(_aborted(active_rollout()), clearance(HOST))


def test_a_successor_supersedes_an_aborted_rollout() -> None:
    """The next release of the channel takes over."""
    after, _ = rolled(_aborted(active_rollout()), successor_opened(seconds=500))

    assert (after.state, after.superseded_at) == (RolloutState.SUPERSEDED, at(500))


def test_an_aborted_rollout_is_pruned_when_its_retention_expired() -> None:
    """It is kept as long as a rollout that failed."""
    after, _ = rolled(_aborted(active_rollout()), retention_expired())

    assert after.state is RolloutState.PRUNED


def test_opening_an_aborted_rollout_again_is_refused() -> None:
    """RolloutOpened makes records; no record takes it."""
    with pytest.raises(IllegalForRolloutState):
        rolled(_aborted(active_rollout()), opened())
