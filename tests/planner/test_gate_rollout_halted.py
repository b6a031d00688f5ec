"""The rollout-halted gate: something failed, and nobody has looked at it yet."""

import pytest

from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_rollout_halted
from nixfleet_state_machine.rollout.state import RolloutState
from tests.planner.builders import detail_of, planning, rollout_of, terms_of, view_of


@pytest.mark.parametrize("state", [RolloutState.FAILED, RolloutState.REVERTED])
def test_host_of_a_halted_rollout_is_held_in_the_same_words(state: RolloutState) -> None:
    """Failed and Reverted give one reason, so that a late revert is no news; the detail says which it is."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, state))

    block = gate_rollout_halted(planning(view), terms.rollout_id, "web-1")

    assert block == GateBlock(
        Gate.ROLLOUT_HALTED, "rollout stable@a1 is halted until an operator clears it"
    )
    assert detail_of(block) == f"it is {state}"


def test_host_of_an_aborted_rollout_is_held_for_good() -> None:
    """The reason names the only way on: another release."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, RolloutState.ABORTED))

    assert gate_rollout_halted(planning(view), terms.rollout_id, "web-1") == GateBlock(
        Gate.ROLLOUT_HALTED, "rollout stable@a1 was aborted; release another ref to go on"
    )


@pytest.mark.parametrize(
    "state", [RolloutState.OPENING, RolloutState.ACTIVE, RolloutState.CONVERGING]
)
def test_host_of_a_rollout_that_runs_passes(state: RolloutState) -> None:
    """A rollout that was not halted, or was cleared, holds nobody."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, state))

    assert gate_rollout_halted(planning(view), terms.rollout_id, "web-1") is None


@pytest.mark.parametrize(
    "state", [RolloutState.TERMINAL, RolloutState.SUPERSEDED, RolloutState.PRUNED]
)
def test_host_of_a_rollout_that_is_over_is_held(state: RolloutState) -> None:
    """A rollout that is over dispatches nobody either; the reason says how it ended."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, state))

    assert gate_rollout_halted(planning(view), terms.rollout_id, "web-1") == GateBlock(
        Gate.ROLLOUT_HALTED, f"rollout stable@a1 is {state}"
    )
