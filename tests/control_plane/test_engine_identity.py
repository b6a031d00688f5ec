"""Two machines with one key: a cloned one, or a journal that was set back. Seen once, told once, held."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.inputs import ExplainHost, Explanation
from nixfleet_control_plane.messages.log_entry import FactRefused, IdentityForked
from nixfleet_proto.agent_event import ActivationStarted, DispatchAck
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import (
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    HostHeld,
    SeqForked,
)
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.planner.action import Gate
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START
from tests.engines.scripted_host import ScriptedHost

ACK = DispatchAck("release-0", START, seq=1)
OTHER_ACK = evolve(ACK, received_at=START + timedelta(seconds=1))
STARTED = ActivationStarted(START, "directory", seq=2)


def forked(control_plane: ScriptedControlPlane) -> RolloutId:
    """Have two machines acknowledge the first dispatch of web-01."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    outcome = control_plane.hear("web-01", rollout_id, OTHER_ACK)
    assert outcome == EventsOutcome(0, SeqForked(rollout_id, 1))
    return rollout_id


def beat(control_plane: ScriptedControlPlane, closure: str, seqs: dict[str, int]) -> HeartbeatReply:
    heartbeat = Heartbeat("web-01", closure, FrozenMap(seqs))
    return control_plane.ask_for(HeartbeatReply, heartbeat)


def told(control_plane: ScriptedControlPlane) -> list[EmitLog]:
    return [
        action
        for action in control_plane.actions
        if isinstance(action, EmitLog) and action.target == "nixfleet.identity"
    ]


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_host_that_contradicts_itself_is_held(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """Nothing new is taken from it and nothing handed to it, also after a restart; what was durable stays accepted."""
    rollout_id = forked(control_plane)
    if restarts:
        control_plane.restart_control_plane()
    outcome = control_plane.hear("web-01", rollout_id, ACK, STARTED)
    assert outcome.accepted == 1
    assert isinstance(outcome.stopped_by, HostHeld)
    newer = control_plane.publish("r2")
    assert control_plane.dispatch_of("web-01") is None
    explanation = control_plane.ask_for(Explanation, ExplainHost("web-01"))
    (block,) = [each for each in explanation.blocks[newer] if each.gate is Gate.OPERATOR_HOLD]
    assert "host web-01 is held" in block.reason
    control_plane.check_store()


def test_a_fork_is_one_row_and_is_told_once(control_plane: ScriptedControlPlane) -> None:
    """However often both machines report."""
    rollout_id = forked(control_plane)
    rows = len(control_plane.log())
    for _ in range(20):
        control_plane.wait(minutes=1)
        control_plane.hear("web-01", rollout_id, OTHER_ACK, STARTED)
        control_plane.hear("web-01", rollout_id, ACK, STARTED)
        beat(control_plane, "any", {rollout_id: 9})
    assert len(control_plane.log()) == rows
    assert len(control_plane.logged(IdentityForked)) == 1
    assert len(told(control_plane)) == 1


def test_a_held_host_goes_on_when_an_operator_resumes_it(
    control_plane: ScriptedControlPlane,
) -> None:
    """Its facts are taken from where they stopped, and its next dispatch is handed to it."""
    rollout_id = forked(control_plane)
    control_plane.resume("host:web-01")
    assert control_plane.hear("web-01", rollout_id, STARTED) == EventsOutcome(1)
    control_plane.publish("r2")
    assert control_plane.dispatch_of("web-01") is not None


def test_an_operator_holds_one_host(control_plane: ScriptedControlPlane) -> None:
    """The others of its rollout go; its own facts are taken as before."""
    control_plane.publish("r1")
    control_plane.pause("host:web-01")
    newer = control_plane.publish("r2")
    assert control_plane.dispatch_of("web-01") is None
    host = ScriptedHost(control_plane, newer, "web-01")
    host.acknowledge()


def test_a_history_of_another_machine_is_seen_though_its_numbers_are_new(
    control_plane: ScriptedControlPlane,
) -> None:
    """After a restart facts are not compared any more; that none of them applies shows it, after a few rows."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    control_plane.restart_control_plane()
    first = control_plane.mirrored(rollout_id, "web-01").last_event_seq + 1
    for seq in range(first, first + 30):
        control_plane.hear("web-01", rollout_id, evolve(STARTED, seq=seq))
    assert len(control_plane.logged(FactRefused)) == 8
    assert len(control_plane.logged(IdentityForked)) == 1


def test_heartbeats_of_two_machines_contradict_each_other(
    control_plane: ScriptedControlPlane,
) -> None:
    """One has more facts of a rollout than the other: by turns, and longer than a heartbeat can be late."""
    rollout_id = control_plane.publish("r1")
    for _ in range(4):
        control_plane.wait(minutes=1)
        beat(control_plane, "old", {rollout_id: 7})
        beat(control_plane, "old", {rollout_id: 5})
    (entry,) = control_plane.logged(IdentityForked)
    assert entry.reason == f"its journal had 7 facts of {rollout_id}, and has 5"


def test_two_machines_that_run_different_closures_are_seen(
    control_plane: ScriptedControlPlane,
) -> None:
    """A machine does not change its closure again and again without a fact."""
    rollout_id = control_plane.publish("r1")
    for _ in range(2):
        beat(control_plane, "new", {rollout_id: 7})
        beat(control_plane, "old", {rollout_id: 7})
    (entry,) = control_plane.logged(IdentityForked)
    assert entry.reason == "it runs new and old by turns, without new facts"


def test_a_replaced_disk_and_a_late_heartbeat_are_no_contradiction(
    control_plane: ScriptedControlPlane,
) -> None:
    """A new journal has no facts, and then those that it took over; a heartbeat may overtake another."""
    rollout_id = control_plane.publish("r1")
    beat(control_plane, "old", {rollout_id: 7})
    control_plane.wait(seconds=120)
    beat(control_plane, "old", {rollout_id: 6})
    control_plane.wait(minutes=10)
    beat(control_plane, "old", {})
    beat(control_plane, "old", {rollout_id: 2})
    assert control_plane.logged(IdentityForked) == []


def test_a_rollout_whose_first_facts_both_sides_lost_begins_anew_without_a_contradiction(
    control_plane: ScriptedControlPlane,
) -> None:
    """It took 9 over, of a database that is lost, was asked for all of them, and has 2; a late heartbeat says 9."""
    rollout_id = control_plane.publish("r1")
    beat(control_plane, "old", {rollout_id: 9})
    control_plane.hear("web-01", rollout_id, ACK, STARTED)
    beat(control_plane, "old", {rollout_id: 9})
    for _ in range(3):
        control_plane.wait(minutes=3)
        beat(control_plane, "old", {rollout_id: 2})
    assert control_plane.logged(IdentityForked) == []


def test_a_journal_that_is_set_back_after_its_rollout_began_anew_is_another_one(
    control_plane: ScriptedControlPlane,
) -> None:
    """The number may fall once, when the first fact comes."""
    rollout_id = control_plane.publish("r1")
    beat(control_plane, "old", {rollout_id: 9})
    control_plane.hear("web-01", rollout_id, ACK, STARTED)
    beat(control_plane, "old", {rollout_id: 4})
    beat(control_plane, "old", {rollout_id: 4})
    control_plane.wait(minutes=3)
    beat(control_plane, "old", {rollout_id: 3})
    (entry,) = control_plane.logged(IdentityForked)
    assert entry.reason == f"its journal had 4 facts of {rollout_id}, and has 3"


def test_a_host_whose_facts_are_taken_changes_its_closure_as_often_as_it_likes(
    control_plane: ScriptedControlPlane,
) -> None:
    """It began its rollout anew, so its numbers are lower than they were."""
    rollout_id = control_plane.publish("r1")
    beat(control_plane, "old", {rollout_id: 9})
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    for step in (host.acknowledge, host.start, host.complete, host.declare, host.probe):
        step()
        running = "new" if len(host.facts) % 2 else "old"
        beat(control_plane, running, {rollout_id: len(host.facts)})
    assert control_plane.logged(IdentityForked) == []


def test_a_journal_that_lacks_facts_which_are_durable_is_another_one(
    control_plane: ScriptedControlPlane,
) -> None:
    """Also after a restart, when its facts cannot be compared any more; a heartbeat that is late is not enough."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    control_plane.restart_control_plane()
    for _ in range(3):
        beat(control_plane, "new", {rollout_id: 4})
        assert control_plane.logged(IdentityForked) == []
        control_plane.wait(minutes=1)
    beat(control_plane, "new", {rollout_id: 4})
    (entry,) = control_plane.logged(IdentityForked)
    assert entry.reason == f"its journal has 4 facts of {rollout_id}, of which 7 were accepted"
