"""A rollout that is Opening: what operators say of its first wave counts, and time goes on for all others."""

from pathlib import Path

from nixfleet_control_plane.messages.inputs import ExcuseHosts
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE, RolloutState
from tests.control_plane.test_engine_guards import OPEN, TWO_APPROVE, Approved, Fleet

LEFT_OUT = frozenset({"web-01"})


def test_excusing_the_hosts_of_a_first_wave_that_bakes_stops_no_time(scratch: Path) -> None:
    """When the bake is over there is nobody in the wave: it begins, and the next one does."""
    fleet = Fleet(scratch, WaveGuards(bake_minutes=10), OPEN)
    assert fleet.wave == BEFORE_FIRST_WAVE
    fleet.command(ExcuseHosts(fleet.r1, LEFT_OUT, "ada", "broken disk"))

    for _ in range(30):
        fleet.pass_minutes(1)

    assert fleet.wave == 1
    assert fleet.dispatch_of("web-02") is not None
    fleet.check_restart()


def test_a_canary_that_was_excused_while_the_channel_was_paused_holds_nobody(scratch: Path) -> None:
    """The rollout is Opening until its first host joins; then its waves are looked at."""
    fleet = Fleet(scratch)
    fleet.pause("stable")
    r2 = fleet.publish("r2")
    fleet.command(ExcuseHosts(r2, LEFT_OUT, "ada", "dead"))

    fleet.resume("stable")

    assert fleet.rollout(r2).current_wave == 1
    assert fleet.dispatch_of("web-02") is not None


def test_a_denial_while_the_rollout_is_opening_halts_it_before_a_host_begins(scratch: Path) -> None:
    """It is taken while the channel is paused, and nobody is dispatched afterwards."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.pause("stable")
    fleet.r1 = fleet.publish("r2")
    fleet.give(fleet.approval("bob", Decision.DENY))

    fleet.resume("stable")
    fleet.pass_minutes(1)

    assert fleet.rollout(fleet.r1).state is RolloutState.FAILED
    assert fleet.queued() == []


def test_a_denial_after_a_promotion_breaks_the_wave_all_the_same(scratch: Path) -> None:
    """What was waived is the waiting: one who says no is heard."""
    approvals = Approvals(2, ("ada", "bob"))
    guards = WaveGuards(bake_minutes=30, approvals=approvals, waivable=("approvals",))
    fleet = Approved(scratch, OPEN, guards)
    fleet.finish("web-01")
    fleet.give(fleet.approval("ada", Decision.PROMOTE))

    fleet.give(fleet.approval("bob", Decision.DENY))

    assert fleet.rollout(fleet.r1).state is RolloutState.FAILED
