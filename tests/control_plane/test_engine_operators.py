"""The engine obeys operators, or tells them why not."""

import pytest

from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    CommandOutcome,
    OperatorCommand,
    PauseScope,
    ResumeScope,
    RetireQuarantine,
)
from nixfleet_control_plane.messages.log_entry import Commanded, RolloutMoved
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.scope import ChannelScope, parse_scope
from nixfleet_state_machine.rollout.event import OperatorClearance
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

STABLE_R1 = RolloutId("stable@r1")


def _refusal(control_plane: ScriptedControlPlane, command: OperatorCommand) -> str | None:
    """Return why `command` is refused, once it is certain that it changed nothing."""
    before, rows = likeness(control_plane.state), len(control_plane.log())
    refusal = control_plane.command(command).refusal
    assert (likeness(control_plane.state), len(control_plane.log())) == (before, rows)
    return refusal


def _halted(control_plane: ScriptedControlPlane) -> RolloutId:
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    return rollout_id


def test_a_command_is_logged_with_who_gave_it_and_why(control_plane: ScriptedControlPlane) -> None:
    """A command that is carried out is a row of the log, with operator and reason."""
    control_plane.publish("r1")
    command = PauseScope(ChannelScope("stable"), "ada", "smells odd")

    assert control_plane.command(command) == CommandOutcome()
    assert control_plane.logged(Commanded) == [Commanded(command)]


@pytest.mark.parametrize("scope", ["stable", "stable@r1"])
def test_a_pause_of_a_channel_or_rollout_holds_its_hosts(
    control_plane: ScriptedControlPlane, scope: str
) -> None:
    """Nobody of a paused channel or rollout is dispatched, and the reason says by whom and why."""
    control_plane.publish("r1")
    control_plane.pause(scope)

    assert control_plane.queued() == []
    deferrals = list(control_plane.state.deferrals.values())
    assert {deferral.gate for deferral in deferrals} == {Gate.OPERATOR_HOLD}
    assert all("ada: smells odd" in deferral.reason for deferral in deferrals)


def test_a_pause_of_a_rollout_ends_with_it(control_plane: ScriptedControlPlane) -> None:
    """The rollout after a paused one is not paused."""
    control_plane.publish("r1")
    control_plane.pause("stable@r1")
    second = control_plane.publish("r2")

    assert control_plane.queued() == [("web-01", second)]


def test_a_pause_of_a_channel_holds_the_next_rollout_too(
    control_plane: ScriptedControlPlane,
) -> None:
    """A channel stays paused whatever is published on it."""
    control_plane.publish("r1")
    control_plane.pause("stable")
    control_plane.publish("r2")

    assert control_plane.queued() == []


def test_a_resume_lets_the_hosts_go_on(control_plane: ScriptedControlPlane) -> None:
    """What a pause held goes on with the resume."""
    rollout_id = control_plane.publish("r1")
    control_plane.pause("stable")
    control_plane.resume("stable")

    assert control_plane.queued() == [("web-01", rollout_id)]


def test_a_channel_and_its_rollout_can_be_paused_each_for_itself(
    control_plane: ScriptedControlPlane,
) -> None:
    """A rollout that is paused twice over goes on when both pauses are over."""
    rollout_id = control_plane.publish("r1")
    control_plane.pause("stable")
    control_plane.pause("stable@r1")
    control_plane.resume("stable")
    before = control_plane.queued()
    control_plane.resume("stable@r1")

    assert (before, control_plane.queued()) == ([], [("web-01", rollout_id)])


def test_a_second_pause_is_refused_with_the_name_of_who_was_first(
    control_plane: ScriptedControlPlane,
) -> None:
    """Who pauses what is paused already is told by whom."""
    control_plane.publish("r1")
    control_plane.pause("stable")

    assert _refusal(control_plane, PauseScope(ChannelScope("stable"), "bo", "me too")) == (
        "stable is already paused, by ada"
    )


@pytest.mark.parametrize("scope", ["unknown", "stable@r9", "host:web-99", ""])
def test_a_pause_of_what_does_not_exist_is_refused(
    control_plane: ScriptedControlPlane, scope: str
) -> None:
    """A scope that is no channel and no rollout is refused by its name."""
    control_plane.publish("r1")

    assert _refusal(control_plane, PauseScope(parse_scope(scope), "ada", "typo")) == (
        f"expected a channel, a rollout or a host (host:NAME), found {scope!r}"
    )


def test_a_resume_of_what_is_not_paused_is_refused(control_plane: ScriptedControlPlane) -> None:
    """There is nothing to resume in a scope that is not paused."""
    control_plane.publish("r1")

    assert (
        _refusal(control_plane, ResumeScope(ChannelScope("stable"), "ada", "typo"))
        == "stable is not paused"
    )


def test_a_clearance_excuses_who_failed_and_the_rollout_goes_on(
    control_plane: ScriptedControlPlane,
) -> None:
    """A cleared rollout is Active without the hosts that failed, and its next wave is dispatched."""
    rollout_id = _halted(control_plane)
    control_plane.clear(rollout_id)

    record = control_plane.rollout(rollout_id)
    assert (record.state, record.excused_hosts) == (
        RolloutState.ACTIVE,
        frozenset({"web-01"}),
    )
    assert record.current_wave == 1
    assert control_plane.queued() == [("web-02", rollout_id), ("web-03", rollout_id)]


def test_a_clearance_is_logged_as_command_and_as_event(control_plane: ScriptedControlPlane) -> None:
    """The log says what the operator asked for, and whom that excused."""
    rollout_id = _halted(control_plane)
    control_plane.clear(rollout_id)

    assert control_plane.logged(Commanded)[-1].command == ClearRollout(
        rollout_id, "ada", "seen to it"
    )
    moved = [each.event for each in control_plane.logged(RolloutMoved)]
    assert (
        OperatorClearance(rollout_id, "ada", "seen to it", frozenset({"web-01"}), control_plane.now)
        in moved
    )


def test_a_clearance_that_excuses_everybody_ends_the_rollout(
    control_plane: ScriptedControlPlane,
) -> None:
    """A rollout of which every host is excused is Terminal."""
    rollout_id = _halted(control_plane)
    control_plane.clear(rollout_id, "web-01", "web-02", "web-03")

    assert control_plane.rollout(rollout_id).state is RolloutState.TERMINAL
    assert control_plane.queued() == []


def test_a_cleared_rollout_converges_without_those_who_are_excused(
    control_plane: ScriptedControlPlane,
) -> None:
    """Hosts that are excused are not waited for."""
    rollout_id = _halted(control_plane)
    control_plane.clear(rollout_id)
    for hostname in ("web-02", "web-03"):
        ScriptedHost(control_plane, rollout_id, hostname).finish()

    assert control_plane.rollout(rollout_id).state is RolloutState.TERMINAL


def test_a_rollback_that_ends_after_the_clearance_does_not_halt_anew(
    control_plane: ScriptedControlPlane,
) -> None:
    """What an excused host still has to say quarantines its closure, but does not stop the others."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.fail()
    control_plane.clear(rollout_id)
    host.roll_back()

    assert control_plane.rollout(rollout_id).state is RolloutState.ACTIVE
    assert control_plane.state.quarantines["stable"] == {"r1-web-01"}


def test_a_cleared_rollout_that_fails_again_is_halted_again(
    control_plane: ScriptedControlPlane,
) -> None:
    """A clearance is for what failed before it, not for what fails after it."""
    rollout_id = _halted(control_plane)
    control_plane.clear(rollout_id)
    ScriptedHost(control_plane, rollout_id, "web-02").revert()

    assert control_plane.rollout(rollout_id).state is RolloutState.REVERTED
    assert control_plane.queued() == []


@pytest.mark.parametrize(
    ("rollout_id", "reason"),
    [
        (RolloutId("stable@r9"), "no rollout stable@r9 exists"),
        (STABLE_R1, "expected stable@r1 to be Reverted or Failed, found Active"),
    ],
)
def test_a_clearance_of_what_is_not_halted_is_refused(
    control_plane: ScriptedControlPlane, rollout_id: RolloutId, reason: str
) -> None:
    """Only a rollout that was halted can be cleared."""
    control_plane.publish("r1")

    assert _refusal(control_plane, ClearRollout(rollout_id, "ada", "typo")) == reason


def test_a_clearance_that_excuses_a_stranger_is_refused_by_its_name(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that the rollout does not have cannot be excused from it."""
    rollout_id = _halted(control_plane)
    excused = frozenset({"web-01", "wbe-02", "db-01"})

    assert _refusal(control_plane, ClearRollout(rollout_id, "ada", "typo", excused)) == (
        "expected hosts of stable@r1, found db-01, wbe-02"
    )


def test_a_clearance_that_leaves_a_failed_host_in_the_count_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """A failed host that is not excused would hold the rollout for ever, so it has to be named too."""
    rollout_id = _halted(control_plane)
    command = ClearRollout(rollout_id, "ada", "wrong one", frozenset({"web-02"}))

    assert _refusal(control_plane, command) == (
        "expected web-01 too: they failed, and would keep stable@r1 halted for ever"
    )


def test_a_second_clearance_may_leave_out_who_was_excused_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that one clearance excused need not be named again in the next."""
    rollout_id = _halted(control_plane)
    control_plane.clear(rollout_id)
    ScriptedHost(control_plane, rollout_id, "web-02").revert()
    control_plane.clear(rollout_id, "web-02")

    assert control_plane.rollout(rollout_id).excused_hosts == {"web-01", "web-02"}
    assert control_plane.rollout(rollout_id).state is RolloutState.ACTIVE


def test_a_retired_quarantine_lets_the_closure_be_handed_out_again(
    control_plane: ScriptedControlPlane,
) -> None:
    """After an operator retired it, a quarantine holds nobody."""
    same = Layout(waves=(("web-01", "web-02"),), closure="suspect")
    rollout_id = control_plane.publish("r1", same)
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    control_plane.clear(rollout_id)
    before = control_plane.queued()
    outcome = control_plane.command(RetireQuarantine("stable", "suspect", "ada", "was the disk"))

    assert (outcome.refusal, before) == (None, [])
    assert control_plane.queued() == [("web-02", rollout_id)]


def test_a_closure_that_reverts_after_its_quarantine_was_retired_is_quarantined_again(
    control_plane: ScriptedControlPlane,
) -> None:
    """A retired quarantine comes back with the next revert."""
    same = Layout(waves=(("web-01", "web-02"),), closure="suspect")
    rollout_id = control_plane.publish("r1", same)
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    control_plane.clear(rollout_id)
    control_plane.command(RetireQuarantine("stable", "suspect", "ada", "was the disk"))
    ScriptedHost(control_plane, rollout_id, "web-02").revert()

    assert control_plane.state.quarantines["stable"] == {"suspect"}
    assert control_plane.check_store().differences == ()


@pytest.mark.parametrize(
    ("channel", "closure"), [("stable", "r9-web-01"), ("unknown", "r1-web-01")]
)
def test_a_retirement_of_what_is_not_quarantined_is_refused(
    control_plane: ScriptedControlPlane, channel: str, closure: str
) -> None:
    """There is nothing to retire for a closure that is not quarantined on the channel."""
    _halted(control_plane)
    command = RetireQuarantine(channel, closure, "ada", "typo")

    assert _refusal(control_plane, command) == f"{closure} is not quarantined on {channel}"
