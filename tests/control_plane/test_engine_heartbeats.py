"""The engine compares what a host remembers with what it remembers itself."""

from nixfleet_proto.agent_event import DispatchAck
from nixfleet_runtime.transport import HeartbeatReply, ReplayFrom
from nixfleet_state_machine.host.state import HostState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost


def test_a_host_that_remembers_the_same_is_only_greeted(
    control_plane: ScriptedControlPlane,
) -> None:
    """When both sides are at the same fact the answer says no more than when it was heard."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").soak()

    assert control_plane.heartbeat("web-01", {rollout_id: 5}) == HeartbeatReply(START)


def test_a_host_that_remembers_more_is_asked_for_the_rest(
    control_plane: ScriptedControlPlane,
) -> None:
    """A journal that is ahead is asked to be sent from the first fact that is missing here."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").soak()

    assert control_plane.heartbeat("web-01", {rollout_id: 7}) == HeartbeatReply(
        START, replay_from=(ReplayFrom(rollout_id, 6),)
    )


def test_a_host_that_remembers_less_is_given_its_record(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host whose disk was replaced gets its record, to continue its numbering."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").soak()

    record = control_plane.mirrored(rollout_id, "web-01")
    assert record.last_event_seq == 5
    assert control_plane.heartbeat("web-01", {}) == HeartbeatReply(START, (record,))
    assert control_plane.heartbeat("web-01", {rollout_id: 4}) == HeartbeatReply(START, (record,))


def test_a_host_that_has_said_nothing_is_given_nothing(control_plane: ScriptedControlPlane) -> None:
    """A record that no fact has touched is nothing to remember."""
    control_plane.publish("r1")

    assert control_plane.heartbeat("web-01", {}) == HeartbeatReply(START)


def test_a_host_is_given_nothing_of_a_rollout_that_was_superseded(
    control_plane: ScriptedControlPlane,
) -> None:
    """A replaced disk must not take up what a newer rollout has ended: it would switch back."""
    first = control_plane.publish("r1")
    ScriptedHost(control_plane, first, "web-01").acknowledge()
    second = control_plane.publish("r2")
    ScriptedHost(control_plane, second, "web-01").acknowledge()

    reply = control_plane.heartbeat("web-01", {})
    assert [record.rollout_id for record in reply.bootstrap_rollouts] == [second]


def test_a_host_is_asked_for_the_rest_of_a_rollout_that_was_superseded(
    control_plane: ScriptedControlPlane,
) -> None:
    """History of an older rollout is wanted all the same."""
    first = control_plane.publish("r1")
    control_plane.publish("r2")

    assert control_plane.heartbeat("web-01", {first: 3}).replay_from == (ReplayFrom(first, 1),)


def test_a_rollout_that_is_not_known_is_not_asked_for(control_plane: ScriptedControlPlane) -> None:
    """What a host remembers of a rollout that was forgotten here stays where it is."""
    control_plane.publish("r1")

    assert control_plane.heartbeat("web-01", {"stable@r0": 9, "nonsense": 1}) == HeartbeatReply(
        START, resting=("nonsense", "stable@r0")
    )


def test_rollouts_are_compared_each_for_itself(control_plane: ScriptedControlPlane) -> None:
    """One host may be ahead in one rollout and behind in another."""
    stable = control_plane.publish("r1")
    late = control_plane.publish("r1", Layout(waves=(("web-01",),), channel="late"))
    ScriptedHost(control_plane, stable, "web-01").soak()

    reply = control_plane.heartbeat("web-01", {late: 2})
    assert [record.rollout_id for record in reply.bootstrap_rollouts] == [stable]
    assert reply.replay_from == (ReplayFrom(late, 1),)


def test_a_heartbeat_moves_nothing(control_plane: ScriptedControlPlane) -> None:
    """However far apart the two sides are, a heartbeat by itself changes nothing and writes nothing."""
    rollout_id = control_plane.publish("r1")
    before, rows = likeness(control_plane.state), len(control_plane.log())
    control_plane.heartbeat("web-01", {rollout_id: 9})

    assert (likeness(control_plane.state), len(control_plane.log())) == (before, rows)


def test_a_replay_brings_both_sides_together(control_plane: ScriptedControlPlane) -> None:
    """A rebuilt control plane that hears the history again is where the host is."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    control_plane.wait(minutes=1)
    host.soak()
    control_plane.destroy_control_plane()
    control_plane.publish("r1")
    (asked,) = control_plane.heartbeat("web-01", {rollout_id: 5}).replay_from
    control_plane.hear("web-01", rollout_id, *host.facts[asked.first_missing_seq - 1 :])

    assert control_plane.states(rollout_id)["web-01"] is HostState.SOAKING
    assert isinstance(host.facts[0], DispatchAck)
    assert control_plane.heartbeat("web-01", {rollout_id: 5}).replay_from == ()
