"""Operators' holds: each by its scope and its name, until it is lifted or its time is over."""

from datetime import timedelta

import pytest

from nixfleet_control_plane.messages.inputs import (
    PauseScope,
    PlaceHold,
    ReleaseHold,
    ResumeScope,
)
from nixfleet_control_plane.messages.log_entry import HoldMoved
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.hold import HoldEnded, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import ChannelScope, FleetScope, parse_scope
from nixfleet_state_machine.planner.plan import explain
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.scripted_host import ScriptedHost

STABLE = ChannelScope("stable")
ADA, BO = HoldSource(HoldKind.OPERATOR, "ada"), HoldSource(HoldKind.OPERATOR, "bo")


def _hold(
    fleet: ScriptedControlPlane,
    scope: str = "stable",
    operator: str = "ada",
    minutes: int | None = None,
) -> None:
    until = None if minutes is None else fleet.now + timedelta(minutes=minutes)
    command = PlaceHold(parse_scope(scope), operator, "moving racks", until)
    assert fleet.command(command).refusal is None


@pytest.mark.parametrize(
    "scope", ["fleet:all", "stable", "stable@r1", "wave:0:stable@r1", "host:web-01"]
)
def test_a_hold_of_any_scope_withdraws_what_is_queued_and_says_why(
    control_plane: ScriptedControlPlane, scope: str
) -> None:
    """A dispatch that was not acknowledged is taken back, and the reason says by whom and why."""
    rollout_id = control_plane.publish("r1")
    assert control_plane.queued() == [("web-01", rollout_id)]
    _hold(control_plane, scope, minutes=30)

    assert control_plane.queued() == []
    deferral = control_plane.state.deferrals[rollout_id, "web-01"]
    assert deferral.gate is Gate.OPERATOR_HOLD
    assert "ada: moving racks" in deferral.reason


@pytest.mark.parametrize("scope", ["edge", "wave:1:stable@r1", "host:web-02"])
def test_a_hold_of_another_scope_leaves_a_host_alone(
    control_plane: ScriptedControlPlane, scope: str
) -> None:
    """What is not in the scope goes on."""
    rollout_id = control_plane.publish("r1")
    if control_plane.command(PlaceHold(parse_scope(scope), "ada", "racks")).refusal is None:
        assert control_plane.queued() == [("web-01", rollout_id)]


def test_a_hold_ends_at_its_time_and_the_log_has_a_row_of_it(
    control_plane: ScriptedControlPlane,
) -> None:
    """No operator is needed; the end is an event, so that a replay needs no clock."""
    rollout_id = control_plane.publish("r1")
    _hold(control_plane, minutes=30)
    control_plane.wait(minutes=29, seconds=59)
    control_plane.tick()
    before = control_plane.queued(), control_plane.logged(HoldMoved)
    control_plane.wait(seconds=1)
    control_plane.tick()

    assert before == ([], [])
    assert control_plane.logged(HoldMoved) == [HoldMoved(HoldEnded(STABLE, ADA))]
    assert control_plane.queued() == [("web-01", rollout_id)]
    assert control_plane.check_store().differences == ()


def test_holds_of_one_scope_coexist_and_end_each_for_itself(
    control_plane: ScriptedControlPlane,
) -> None:
    """Lifting one never lifts another."""
    rollout_id = control_plane.publish("r1")
    _hold(control_plane, operator="ada", minutes=30)
    _hold(control_plane, operator="bo", minutes=60)
    _hold(control_plane, "fleet:all", operator="bo")
    control_plane.wait(minutes=30)
    control_plane.tick()
    left = {hold.key for hold in control_plane.state.view.holds}
    release = ReleaseHold(FleetScope(), "bo", "moved")
    assert control_plane.command(release).refusal is None
    still = control_plane.queued()
    control_plane.wait(minutes=30)
    control_plane.tick()

    assert left == {(STABLE, BO), (FleetScope(), BO)}
    assert (still, control_plane.queued()) == ([], [("web-01", rollout_id)])


def test_a_later_hold_of_the_same_operator_replaces_the_earlier_one(
    control_plane: ScriptedControlPlane,
) -> None:
    """An operator has one hold on a scope: the end and the reason are the latest ones."""
    control_plane.publish("r1")
    _hold(control_plane, minutes=30)
    _hold(control_plane, minutes=90)
    control_plane.wait(minutes=60)
    control_plane.tick()

    (hold,) = control_plane.state.view.holds
    assert hold.until == control_plane.now + timedelta(minutes=30)
    assert control_plane.queued() == []


def test_a_resume_lifts_the_pause_and_no_hold_until_a_time(
    control_plane: ScriptedControlPlane,
) -> None:
    """A hold until a time is nobody's pause."""
    control_plane.publish("r1")
    control_plane.pause("stable")
    _hold(control_plane, operator="bo", minutes=30)
    control_plane.resume("stable")

    assert [hold.source for hold in control_plane.state.view.holds] == [BO]
    assert control_plane.command(ResumeScope(STABLE, "ada", "again")).refusal == (
        "stable is not paused"
    )


def test_a_resume_by_a_third_of_two_pauses_is_refused_with_their_names(
    control_plane: ScriptedControlPlane,
) -> None:
    """Which of them is meant cannot be known; each can be lifted by name."""
    rollout_id = control_plane.publish("r1")
    _hold(control_plane, operator="ada")
    _hold(control_plane, operator="bo")

    assert control_plane.command(ResumeScope(STABLE, "cy", "go")).refusal == (
        "stable is paused by ada, bo: release the hold of each by name"
    )
    for holder in ("ada", "bo"):
        assert control_plane.command(ReleaseHold(STABLE, "cy", "go", holder)).refusal is None
    assert control_plane.queued() == [("web-01", rollout_id)]


def test_a_release_of_what_the_operator_does_not_hold_names_who_does(
    control_plane: ScriptedControlPlane,
) -> None:
    """An operator is told by whom the scope is held."""
    control_plane.publish("r1")
    _hold(control_plane)

    assert control_plane.command(ReleaseHold(STABLE, "bo", "go")).refusal == (
        "bo holds nothing on stable; it is held by ada"
    )


def test_a_hold_that_would_be_over_at_once_is_refused(control_plane: ScriptedControlPlane) -> None:
    """The end has to be ahead."""
    control_plane.publish("r1")
    command = PlaceHold(STABLE, "ada", "racks", control_plane.now)

    assert (control_plane.command(command).refusal or "").startswith("expected an end after ")


def test_a_pause_of_what_is_held_until_a_time_is_taken(
    control_plane: ScriptedControlPlane,
) -> None:
    """It makes the hold of that operator one without an end."""
    control_plane.publish("r1")
    _hold(control_plane, minutes=30)
    control_plane.pause("stable")
    control_plane.wait(minutes=31)
    control_plane.tick()

    assert [hold.until for hold in control_plane.state.view.holds] == [None]
    assert control_plane.command(PauseScope(STABLE, "bo", "too")).refusal == (
        "stable is already paused, by ada"
    )


def test_a_host_that_acts_is_not_stopped_by_a_hold(control_plane: ScriptedControlPlane) -> None:
    """A hold stops beginnings: what was acknowledged goes on, and rolls back if it fails."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    _hold(control_plane, "fleet:all")
    host.fail()
    host.roll_back()

    assert control_plane.mirrored(rollout_id, "web-01").state.value == "Reverted"


def test_holds_are_the_same_after_a_crash(control_plane: ScriptedControlPlane) -> None:
    """Scope, source, reason, end and beginning are stored; a hold whose time passed meanwhile ends at once."""
    rollout_id = control_plane.publish("r1")
    _hold(control_plane, minutes=30)
    _hold(control_plane, "host:web-01", operator="bo", minutes=60)
    before = likeness(control_plane.state)
    control_plane.restart_control_plane()
    same = likeness(control_plane.state)
    control_plane.wait(minutes=61)
    control_plane.restart_control_plane()
    control_plane.dispatch_of("web-02")

    assert same == before
    assert not control_plane.state.view.holds
    assert control_plane.queued() == [("web-01", rollout_id)]


@pytest.mark.parametrize(("second", "until"), [(60, 60), (None, None)])
def test_an_explanation_has_the_earliest_time_at_which_the_host_may_go(
    control_plane: ScriptedControlPlane, second: int | None, until: int | None
) -> None:
    """Two holds: the later end counts, and the detail names the other hold. One without an end: there is no time."""
    rollout_id = control_plane.publish("r1")
    _hold(control_plane, "fleet:all", minutes=30)
    _hold(control_plane, operator="bo", minutes=second)
    (block,) = explain(control_plane.state.view, {}, "web-01")[rollout_id]

    expected = None if until is None else control_plane.now + timedelta(minutes=until)
    assert block.until == expected
    assert block.reason == "an operator holds the fleet until 2026-05-16 01:30Z: ada: moving racks"
    assert block.detail.startswith("also: an operator ")
    assert block.detail.endswith("bo: moving racks")


@pytest.mark.parametrize(
    "text", ["wave:x:stable@r1", f"wave:{'9' * 5_000}:stable@r1", "wave:1:stable"]
)
def test_a_text_that_is_no_scope_of_a_wave_is_refused(text: str) -> None:
    """Whatever its length: operators send it."""
    with pytest.raises(InvalidRolloutId):
        parse_scope(text)
