"""What a rollout's record notes of hosts that drifted."""

import pytest
from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.rollout.event import DriftEnded, HostDrifted
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
