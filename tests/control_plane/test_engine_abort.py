"""An operator ends a rollout: nothing begins any more, and what is under way ends by itself."""

import pytest

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    OperatorCommand,
    RetryHosts,
)
from nixfleet_control_plane.messages.log_entry import Commanded
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.scripted_host import ScriptedHost

STABLE_R1 = RolloutId("stable@r1")


def _abort(control_plane: ScriptedControlPlane, rollout_id: RolloutId = STABLE_R1) -> None:
    command = AbortRollout(rollout_id, "ada", "it eats disks")
    assert control_plane.command(command).refusal is None


def _refusal(control_plane: ScriptedControlPlane, command: OperatorCommand) -> str | None:
    before, rows = likeness(control_plane.state), len(control_plane.log())
    refusal = control_plane.command(command).refusal
    assert (likeness(control_plane.state), len(control_plane.log())) == (before, rows)
    return refusal


def test_an_abort_withdraws_what_is_queued_and_holds_everybody(
    control_plane: ScriptedControlPlane,
) -> None:
    """The command is logged with its reason, and the reason of the hold names the way on."""
    control_plane.publish("r1")
    _abort(control_plane)

    assert control_plane.queued() == []
    assert control_plane.rollout(STABLE_R1).state is RolloutState.ABORTED
    held = list(control_plane.state.deferrals.values())
    assert {each.gate for each in held} == {Gate.ROLLOUT_HALTED}
    assert all("was aborted; release another ref" in each.reason for each in held)
    assert control_plane.logged(Commanded) == [
        Commanded(AbortRollout(STABLE_R1, "ada", "it eats disks"))
    ]


def test_a_host_in_flight_when_the_rollout_is_aborted_finishes(
    control_plane: ScriptedControlPlane,
) -> None:
    """Its facts are taken, and no further host is dispatched for them."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    _abort(control_plane)
    due = soak_end_of(control_plane.mirrored(rollout_id, "web-01"))
    assert due is not None
    control_plane.now = due
    host.converge()

    record = control_plane.state.view.host(rollout_id, "web-01")
    assert record is not None
    assert record.state is HostState.CONVERGED
    assert control_plane.queued() == []
    assert control_plane.rollout(rollout_id).state is RolloutState.ABORTED


def test_the_next_release_supersedes_an_aborted_rollout(
    control_plane: ScriptedControlPlane,
) -> None:
    """A successor is what clears an abort."""
    control_plane.publish("r1")
    _abort(control_plane)
    second = control_plane.publish("r2")

    assert control_plane.rollout(STABLE_R1).state is RolloutState.SUPERSEDED
    assert control_plane.queued() == [("web-01", second)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (
            ClearRollout(STABLE_R1, "ada", "typo"),
            "stable@r1 was aborted, which no clearance takes back; release another ref",
        ),
        (
            RetryHosts(STABLE_R1, frozenset(), "ada", "typo"),
            "stable@r1 was aborted and dispatches no host; release another ref",
        ),
        (AbortRollout(STABLE_R1, "ada", "twice"), "stable@r1 is Aborted already"),
        (
            AbortRollout(RolloutId("stable@r9"), "ada", "typo"),
            "no rollout stable@r9 exists",
        ),
        (AbortRollout(STABLE_R1, "ada", " "), "expected a reason, found none"),
    ],
)
def test_a_command_that_an_abort_rules_out_is_refused_with_the_way_on(
    control_plane: ScriptedControlPlane, command: OperatorCommand, reason: str
) -> None:
    """Nothing takes an abort back, and nothing is aborted twice."""
    control_plane.publish("r1")
    _abort(control_plane)

    assert _refusal(control_plane, command) == reason


def test_an_abort_of_a_superseded_rollout_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """What is over begins nothing."""
    control_plane.publish("r1")
    control_plane.publish("r2")

    assert _refusal(control_plane, AbortRollout(STABLE_R1, "ada", "late")) == (
        "expected stable@r1 to be live or Terminal, found Superseded"
    )
