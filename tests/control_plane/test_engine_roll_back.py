"""The engine takes back what did not become durable, and what an input did before the engine failed on it."""

from typing import cast

import pytest

from nixfleet_control_plane.messages.inputs import HostEvents, Input, PauseScope
from nixfleet_proto.agent_event import AgentEvent, DispatchAck
from nixfleet_proto.drafting import maker
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START
from tests.engines.scripted_host import ScriptedHost

NO_FACT = cast("AgentEvent", object())
# A record that a check would refuse, as a bug of ours could make one.
unchecked_envelope = maker(AgentEventEnvelope)


def _poisonous(rollout_id: str) -> Input:
    """Facts of which the first is good and the engine fails on the second."""
    good = AgentEventEnvelope("web-01", rollout_id, DispatchAck("release-0", START, seq=1))
    return HostEvents("web-01", (good, unchecked_envelope("web-01", rollout_id, NO_FACT)))


def test_an_input_on_which_the_engine_fails_leaves_it_as_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """What a poisonous input did before the engine failed on it is undone."""
    rollout_id = control_plane.publish("r1")
    before = likeness(control_plane.state)
    with pytest.raises(AttributeError):
        control_plane.engine.handle(_poisonous(rollout_id), control_plane.now)

    assert likeness(control_plane.state) == before


def test_an_input_on_which_the_engine_fails_leaves_those_before_it(
    control_plane: ScriptedControlPlane,
) -> None:
    """A poisonous input undoes nothing of its batch but itself."""
    rollout_id = control_plane.publish("r1")
    commit = control_plane.engine.handle(
        PauseScope(ChannelScope("stable"), "ada", "why"), control_plane.now
    )
    paused = likeness(control_plane.state)
    with pytest.raises(AttributeError):
        control_plane.engine.handle(_poisonous(rollout_id), control_plane.now)
    assert likeness(control_plane.state) == paused
    control_plane.store.commit(commit.writes)
    control_plane.engine.settle()

    assert control_plane.check_store().differences == ()


def test_a_batch_that_is_taken_back_leaves_the_engine_as_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """After `roll_back` nothing of a batch has happened, opened and superseded rollouts included."""
    control_plane.publish("r1")
    before = likeness(control_plane.state)
    release = control_plane.ci.release(control_plane.layout, "r2", control_plane.now)
    for input in (release, PauseScope(ChannelScope("stable"), "ada", "why")):
        control_plane.engine.handle(input, control_plane.now)
    control_plane.engine.roll_back()

    assert likeness(control_plane.state) == before


def test_a_batch_that_is_taken_back_comes_to_the_same_the_second_time(
    control_plane: ScriptedControlPlane,
) -> None:
    """Inputs that are tried again after a failed write are decided as they were the first time."""
    control_plane.publish("r1")
    release = control_plane.ci.release(control_plane.layout, "r2", control_plane.now)
    inputs: tuple[Input, ...] = (PauseScope(ChannelScope("stable"), "ada", "why"), release)
    first = [control_plane.engine.handle(input, control_plane.now) for input in inputs]
    control_plane.engine.roll_back()
    second = [control_plane.engine.handle(input, control_plane.now) for input in inputs]

    assert second == first


def test_what_is_durable_cannot_be_taken_back(control_plane: ScriptedControlPlane) -> None:
    """`roll_back` goes back to the last `settle`, and no further."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").acknowledge()
    before = likeness(control_plane.state)
    control_plane.engine.roll_back()

    assert likeness(control_plane.state) == before
