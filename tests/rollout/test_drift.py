"""What a rollout's record notes of hosts that drifted."""

import pytest
from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    MembersChanged,
    OperatorClearance,
    SuccessorOpened,
)
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import Drift
from nixfleet_testing.samples import AT, NOW, ROLLOUT
from tests.rollout.test_standings import GOING, ROLLOUTS

BY_HAND, OLD = Drift("by-hand", AT), Drift("release-0", AT)
DRIFTED = HostDrifted(ROLLOUT, "web-01", "by-hand", AT)
ENDED = DriftEnded(ROLLOUT, "web-01", AT)


@pytest.mark.parametrize("title", GOING)
def test_a_drift_is_noted_in_order_and_nothing_else_changes(title: str) -> None:
    """By host name, with what the host runs and since when."""
    before = evolve(ROLLOUTS[title], drifted=FrozenMap({"web-02": OLD}))
    after, effects = step_rollout(before, DRIFTED, NOW)

    assert list(after.drifted.items()) == [("web-01", BY_HAND), ("web-02", OLD)]
    assert evolve(after, drifted=before.drifted) == before
    assert effects == ()


@pytest.mark.parametrize("title", GOING)
def test_a_drift_that_ends_is_not_noted_any_more(title: str) -> None:
    """Those of other hosts are."""
    before = evolve(ROLLOUTS[title], drifted=FrozenMap({"web-01": BY_HAND, "web-02": OLD}))
    after, effects = step_rollout(before, ENDED, NOW)

    assert after == evolve(before, drifted=FrozenMap({"web-02": OLD}))
    assert effects == ()


def test_a_drift_that_goes_on_keeps_its_beginning() -> None:
    """The record is the same one, so that nothing is logged a second time."""
    before = evolve(ROLLOUTS["active"], drifted=FrozenMap({"web-01": BY_HAND}))
    after, _ = step_rollout(before, evolve(DRIFTED, at=NOW), NOW)
    assert after is before


def test_a_host_that_runs_yet_another_closure_has_drifted_since_then() -> None:
    """Each closure is a drift of its own."""
    before = evolve(ROLLOUTS["active"], drifted=FrozenMap({"web-01": OLD}))
    after, _ = step_rollout(before, evolve(DRIFTED, at=NOW), NOW)
    assert after.drifted == FrozenMap({"web-01": Drift("by-hand", NOW)})


def test_the_end_of_no_drift_changes_nothing() -> None:
    """The record is the same one."""
    before = evolve(ROLLOUTS["active"], drifted=FrozenMap({"web-02": OLD}))
    after, _ = step_rollout(before, ENDED, NOW)
    assert after is before


@pytest.mark.parametrize("title", GOING)
def test_a_host_that_leaves_has_drifted_no_more(title: str) -> None:
    """The drifts of the others stay."""
    before = evolve(ROLLOUTS[title], drifted=FrozenMap({"web-01": BY_HAND, "web-02": OLD}))
    after, _ = step_rollout(before, MembersChanged(ROLLOUT, (), ("web-01", "web-03"), (), AT), NOW)
    assert after.drifted == FrozenMap({"web-02": OLD})


@pytest.mark.parametrize("title", GOING)
def test_no_host_of_a_superseded_rollout_has_drifted(title: str) -> None:
    """What it runs is its successor's concern."""
    before = evolve(ROLLOUTS[title], drifted=FrozenMap({"web-01": BY_HAND}))
    after, _ = step_rollout(before, SuccessorOpened(ROLLOUT, RolloutId("stable@next"), AT), NOW)
    assert after.drifted == FrozenMap({})
    assert step_rollout(after, DRIFTED, NOW) == (after, ())
    assert step_rollout(after, ENDED, NOW) == (after, ())


@pytest.mark.parametrize("title", ["failed", "reverted"])
def test_waves_that_were_cleared_add_up(title: str) -> None:
    """In order, each once; a clearance without any changes none."""
    before = evolve(ROLLOUTS[title], cleared_waves=(1, 3))
    clearance = OperatorClearance(ROLLOUT, "ada", "seen", frozenset({"web-01"}), AT, (2, 1))
    cleared, _ = step_rollout(before, clearance, NOW)
    assert cleared.cleared_waves == (1, 2, 3)
    assert cleared.excused_hosts == before.excused_hosts | {"web-01"}

    none, _ = step_rollout(before, evolve(clearance, cleared_waves=()), NOW)
    assert none.cleared_waves == (1, 3)
