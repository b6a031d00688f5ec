"""The operator-hold gate: somebody paused the rollout or its channel."""

import pytest

from nixfleet_state_machine.planner.action import DeferDispatch, Gate, GateBlock, QueueDispatch
from nixfleet_state_machine.planner.gates import gate_operator_hold
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_testing.pauses import pause, resume
from tests.planner.builders import NOW, planning, terms_of, view_of


@pytest.mark.parametrize(
    ("scope", "words"), [("stable", "channel stable"), ("stable@a1", "rollout stable@a1")]
)
def test_host_in_a_paused_scope_is_held(scope: str, words: str) -> None:
    """A pause of the channel or of the rollout holds its hosts, and the reason says who asked for it."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, scope, "ann: power cut")

    assert gate_operator_hold(planning(view), terms.rollout_id, "web-1") == GateBlock(
        Gate.OPERATOR_HOLD, f"an operator paused {words}: ann: power cut"
    )


@pytest.mark.parametrize(
    ("scope", "words"), [("fleet:all", "the fleet"), ("wave:0:stable@a1", "wave 0 of stable@a1")]
)
def test_a_scope_that_cannot_be_paused_is_held_and_not_paused(scope: str, words: str) -> None:
    """Who placed a hold did not pause anything."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, scope, "ann: power cut")

    assert gate_operator_hold(planning(view), terms.rollout_id, "web-1") == GateBlock(
        Gate.OPERATOR_HOLD, f"an operator holds {words}: ann: power cut"
    )


def test_host_in_a_paused_scope_without_a_reason_is_held() -> None:
    """A pause that nobody explained is told without an explanation."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, "stable")

    assert gate_operator_hold(planning(view), terms.rollout_id, "web-1") == GateBlock(
        Gate.OPERATOR_HOLD, "an operator paused channel stable"
    )


def test_host_in_a_scope_that_was_released_passes() -> None:
    """A pause that is over holds nobody."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, "stable")
    resume(view, "stable")

    assert gate_operator_hold(planning(view), terms.rollout_id, "web-1") is None


@pytest.mark.parametrize("scope", ["edge", "stable@b2", "web-1"])
def test_host_outside_of_a_paused_scope_passes(scope: str) -> None:
    """Another channel's pause, another rollout's, or one of what is neither holds nobody here."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, scope)

    assert gate_operator_hold(planning(view), terms.rollout_id, "web-1") is None


def test_a_held_host_among_others_of_its_wave_waits_alone() -> None:
    """It shares neither their lane nor their answer: they are dispatched, and it is not, by both ways to plan."""
    terms = terms_of()
    view = view_of(terms)
    first, *others = terms.targets
    pause(view, f"host:{first}", "two machines")

    for plan in (plan_next(view, {}, NOW), replan(view, {}, NOW)):
        dispatched = {action.host for action in plan if isinstance(action, QueueDispatch)}
        held = {action.host: action.reason for action in plan if isinstance(action, DeferDispatch)}
        assert dispatched == set(others)
        assert held == {first: f"host {first} is held: two machines"}


def test_a_host_that_is_held_while_its_wave_waits_is_given_its_own_reason() -> None:
    """The others keep theirs, and nobody is answered again."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, "stable", "ann")
    replan(view, {}, NOW)
    first = min(terms.targets)
    pause(view, f"host:{first}", "two machines")

    (action,) = replan(view, {}, NOW)

    assert isinstance(action, DeferDispatch)
    assert (action.host, action.reason) == (first, f"host {first} is held: two machines")
