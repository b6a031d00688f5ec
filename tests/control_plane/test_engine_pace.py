"""The engine keeps to the pace of budgets, and a restart and a replay know how far it is."""

from datetime import timedelta

from attrs import evolve

from nixfleet_control_plane.messages.inputs import PauseScope, ResumeScope
from nixfleet_control_plane.messages.log_entry import Deferred, Planned, Returned
from nixfleet_proto.fleet import Ramp
from nixfleet_state_machine.planner.action import Gate, QueueDispatch
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

HOSTS = tuple(f"web-{number:02}" for number in range(1, 9))
PLAIN = Layout(waves=(HOSTS,), soak_minutes=0)
TWO_A_MINUTE = evolve(PLAIN, max_per_minute=2)
DOUBLING = evolve(PLAIN, ramp=Ramp(1, 2))


def _queued(control_plane: ScriptedControlPlane) -> list[str]:
    return [host for host, _ in control_plane.queued()]


def _wait(control_plane: ScriptedControlPlane, seconds: float) -> None:
    control_plane.wait(seconds=seconds)
    control_plane.tick()


def test_two_hosts_a_minute_begin_by_the_clock_alone(control_plane: ScriptedControlPlane) -> None:
    """No host does anything; the slots come back with a row of the log, and the next two hosts begin."""
    control_plane.publish("r1", TWO_A_MINUTE)
    assert _queued(control_plane) == ["web-01", "web-02"]

    _wait(control_plane, 59)
    assert _queued(control_plane) == ["web-01", "web-02"]

    began_at = control_plane.log()[-1].at
    _wait(control_plane, 1)
    assert _queued(control_plane) == ["web-01", "web-02", "web-03", "web-04"]
    (returned,) = control_plane.logged(Returned)
    assert returned == Returned(SlotsReturned("all", began_at, 2, began_at + timedelta(seconds=60)))


def test_a_restart_knows_the_beginnings_of_the_last_minute(
    control_plane: ScriptedControlPlane,
) -> None:
    """Neither more nor fewer slots are free than before, and the views are those of the log."""
    control_plane.publish("r1", TWO_A_MINUTE)
    _wait(control_plane, 30)
    control_plane.restart_control_plane()
    control_plane.tick()
    assert _queued(control_plane) == ["web-01", "web-02"]

    _wait(control_plane, 30)
    assert len(_queued(control_plane)) == 4
    assert control_plane.check_store().differences == ()


def test_a_pause_withdraws_and_gives_no_beginning_back(
    control_plane: ScriptedControlPlane,
) -> None:
    """A withdrawn dispatch may have been handed out; its host begins again when a slot is free."""
    control_plane.publish("r1", TWO_A_MINUTE)
    control_plane.command(PauseScope(ChannelScope("stable"), "ada", "lunch"))
    assert _queued(control_plane) == []
    control_plane.command(ResumeScope(ChannelScope("stable"), "ada", "back"))
    assert _queued(control_plane) == []

    _wait(control_plane, 60)
    assert _queued(control_plane) == ["web-01", "web-02"]


def test_a_new_release_begins_no_faster(control_plane: ScriptedControlPlane) -> None:
    """The slots of the minute belong to the budget, not to a rollout."""
    control_plane.publish("r1", TWO_A_MINUTE)
    _wait(control_plane, 10)
    control_plane.publish("r2", TWO_A_MINUTE)
    assert _queued(control_plane) == []

    _wait(control_plane, 50)
    assert _queued(control_plane) == ["web-01", "web-02"]


def test_the_slots_of_a_ramp_double_as_hosts_converge(control_plane: ScriptedControlPlane) -> None:
    """One host, then two, then four, then the last; a restart in between changes nothing."""
    rollout_id = control_plane.publish("r1", DOUBLING)
    steps: list[int] = []
    while waiting := _queued(control_plane):
        steps.append(len(waiting))
        control_plane.restart_control_plane()
        hosts = [ScriptedHost(control_plane, rollout_id, host) for host in waiting]
        for host in hosts:
            host.soak()
        assert _queued(control_plane) == []
        for host in hosts:
            host.converge()

    assert steps == [1, 2, 4, 1]
    assert control_plane.check_store().differences == ()


def test_the_reason_of_a_wait_is_logged_once(control_plane: ScriptedControlPlane) -> None:
    """A slot that comes back and is taken by another host changes no reason."""
    control_plane.publish("r1", TWO_A_MINUTE)
    _wait(control_plane, 60)
    _wait(control_plane, 60)

    deferrals = [it.action for it in control_plane.logged(Deferred)]
    assert [it.gate for it in deferrals if it.host == HOSTS[-1]] == [Gate.DISRUPTION_BUDGET]
    planned = [it.action for it in control_plane.logged(Planned)]
    assert sum(isinstance(action, QueueDispatch) for action in planned) == 6
