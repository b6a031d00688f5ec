"""Waves with a signed earliest time: nothing of one is dispatched before it, whatever comes in between."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.inputs import ExplainHost, Explanation
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import Gate
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost

HOUR = timedelta(hours=1)
TIMED = Layout(not_before=(START + HOUR, START + 3 * HOUR))


def blocked(control_plane: ScriptedControlPlane, rollout_id: RolloutId, host: str) -> str:
    """The reason of the one gate that holds a host."""
    explanation = control_plane.ask_for(Explanation, ExplainHost(host))
    (block,) = explanation.blocks[rollout_id]
    assert block.gate is Gate.WAVE_PROMOTION
    return block.reason


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_wave_begins_at_the_first_tick_after_its_time(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """The first one too, and a later one that is promoted before; the reason is in the explanation."""
    rollout_id = control_plane.publish("r1", TIMED)
    control_plane.tick()
    assert control_plane.queued() == []
    if restarts:
        control_plane.restart_control_plane()
    control_plane.tick()
    assert control_plane.queued() == []
    begins = "wave 0 of stable@r1 begins not before 2026-05-16T02:00:00Z"
    assert blocked(control_plane, rollout_id, "web-01") == begins

    control_plane.wait(minutes=60)
    control_plane.tick()
    assert control_plane.queued() == [("web-01", rollout_id)]
    ScriptedHost(control_plane, rollout_id, "web-01").finish()
    control_plane.tick()
    assert control_plane.rollout(rollout_id).current_wave == 1
    assert control_plane.queued() == []
    assert "begins not before 2026-05-16T04:00:00Z" in blocked(control_plane, rollout_id, "web-02")

    control_plane.wait(minutes=120)
    control_plane.tick()
    assert [host for host, _ in control_plane.queued()] == ["web-02", "web-03"]
    assert control_plane.check_store().differences == ()


def test_a_wave_that_is_held_until_its_time_says_so_to_operators(
    control_plane: ScriptedControlPlane,
) -> None:
    """In the list of rollouts, and as the next change by itself of each of its hosts."""
    rollout_id = control_plane.publish("r1", TIMED)
    control_plane.tick()

    assert control_plane.engine.begins_at(rollout_id) == START + HOUR
    explained = control_plane.ask_for(Explanation, ExplainHost("web-01")).status
    assert explained is not None
    (here,) = explained.rollouts
    assert here.until == START + HOUR
    control_plane.wait(minutes=60)
    control_plane.tick()
    assert control_plane.engine.begins_at(rollout_id) is None


def test_a_pause_and_a_time_are_both_waited_for(control_plane: ScriptedControlPlane) -> None:
    """Whichever ends first, and in whichever order they came."""
    rollout_id = control_plane.publish("r1", TIMED)
    control_plane.pause(rollout_id)
    control_plane.resume(rollout_id)
    assert control_plane.queued() == []
    control_plane.pause(rollout_id)
    control_plane.wait(minutes=61)
    control_plane.tick()
    assert control_plane.queued() == []
    control_plane.resume(rollout_id)
    assert control_plane.queued() == [("web-01", rollout_id)]


def test_a_time_can_be_moved_by_signing_the_release_again(
    control_plane: ScriptedControlPlane,
) -> None:
    """Under the same ref: a date is no term of the rollout, and moving it moves no host to another closure."""
    rollout_id = control_plane.publish("r1", TIMED)
    control_plane.wait(minutes=1)
    control_plane.publish("r1", evolve(TIMED, not_before=()))
    assert control_plane.queued() == [("web-01", rollout_id)]
