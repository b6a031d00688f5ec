"""The engine forgets rollouts whose time is over, and knows afterwards what it must still know."""

import pytest

from nixfleet_control_plane.messages.inputs import ManifestAnswer, ManifestPoll, PauseScope
from nixfleet_control_plane.messages.log_entry import RolloutMoved
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.acceptance import NEW_REF
from nixfleet_runtime.transport import EventsOutcome, RolloutUnknown
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_state_machine.rollout.event import RetentionExpired
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

RETENTION_MINUTES = 72 * 60
ONE_HOST = Layout(waves=(("web-01",),))


def _finished(control_plane: ScriptedControlPlane, channel_ref: str) -> RolloutId:
    rollout_id = control_plane.publish(channel_ref, ONE_HOST)
    ScriptedHost(control_plane, rollout_id, "web-01").finish()
    return rollout_id


def _halted(control_plane: ScriptedControlPlane, channel_ref: str) -> RolloutId:
    rollout_id = control_plane.publish(channel_ref)
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    return rollout_id


def _manifest(control_plane: ScriptedControlPlane, rollout_id: RolloutId) -> ManifestAnswer:
    return control_plane.ask_for(ManifestAnswer, ManifestPoll(rollout_id))


def test_a_rollout_is_kept_until_its_retention_is_over(control_plane: ScriptedControlPlane) -> None:
    """A tick within the retention leaves a finished rollout as it is."""
    rollout_id = _finished(control_plane, "r1")
    control_plane.wait(minutes=RETENTION_MINUTES, seconds=-1)
    control_plane.tick()

    assert control_plane.rollout(rollout_id).state is RolloutState.TERMINAL


def test_a_finished_rollout_is_pruned_when_its_retention_is_over(
    control_plane: ScriptedControlPlane,
) -> None:
    """The first tick after the retention prunes a Terminal rollout, and the log says so."""
    rollout_id = _finished(control_plane, "r1")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()

    assert control_plane.rollout(rollout_id).state is RolloutState.PRUNED
    moved = [each.event for each in control_plane.logged(RolloutMoved)][-1]
    assert moved == RetentionExpired(rollout_id, control_plane.now)


def test_a_halted_rollout_is_pruned_when_its_retention_is_over(
    control_plane: ScriptedControlPlane,
) -> None:
    """A halted rollout that nobody cleared is pruned, with the hosts that still waited in it."""
    rollout_id = _halted(control_plane, "r1")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()

    assert control_plane.rollout(rollout_id).state is RolloutState.PRUNED
    assert dict(control_plane.state.deferrals) == {}


def test_a_superseded_rollout_is_pruned_and_its_manifest_forgotten(
    control_plane: ScriptedControlPlane,
) -> None:
    """Of a rollout that was superseded and pruned nothing is handed out, and nothing is taken any more."""
    first = _finished(control_plane, "r1")
    control_plane.publish("r2", ONE_HOST)
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()

    assert first not in control_plane.state.view.rollouts
    assert _manifest(control_plane, first) == ManifestAnswer(None)
    late = DispatchAck("release-0", control_plane.now, seq=7)
    assert control_plane.hear("web-01", first, late) == EventsOutcome(0, RolloutUnknown(first))


def test_a_rollout_that_was_cleared_is_not_pruned_by_the_halt_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """A clearance takes back the pruning that the halt had announced."""
    rollout_id = _halted(control_plane, "r1")
    control_plane.clear(rollout_id)
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()

    assert control_plane.rollout(rollout_id).state is RolloutState.ACTIVE


def test_the_manifest_of_a_pruned_rollout_that_its_channel_still_names_stays(
    control_plane: ScriptedControlPlane,
) -> None:
    """Hosts can fetch what their channel names for as long as it does."""
    rollout_id = _finished(control_plane, "r1")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    while_named = _manifest(control_plane, rollout_id)
    control_plane.publish("r2", ONE_HOST)

    (signed,) = control_plane.released[rollout_id].manifests
    assert while_named == ManifestAnswer(SignedArtefact(signed.artefact, signed.signature))
    assert _manifest(control_plane, rollout_id) == ManifestAnswer(None)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_pruned_rollout_that_is_signed_again_is_not_opened_again(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """A rollout that is over stays over though CI signs its manifest anew, before a restart and after."""
    rollout_id = _finished(control_plane, "r1")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    if restarts:
        control_plane.restart_control_plane()
    again = control_plane.ci.signed_again(control_plane.released[rollout_id], control_plane.now)
    outcome = control_plane.offer(again)
    if restarts:
        control_plane.restart_control_plane()
    control_plane.tick()

    assert outcome.refused == ()
    assert control_plane.rollout(rollout_id).state is RolloutState.PRUNED
    assert control_plane.queued() == []


def test_a_rollout_id_that_was_used_up_is_refused(control_plane: ScriptedControlPlane) -> None:
    """A rollout that was superseded and pruned cannot come again under its old name."""
    first = _finished(control_plane, "r1")
    _finished(control_plane, "r2")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    outcome = control_plane.offer(control_plane.ci.release(ONE_HOST, "r1", control_plane.now))

    assert outcome.refused == ((first, f"stable@r1 has ended and was pruned: {NEW_REF}"),)


@pytest.mark.parametrize("restarts", [False, True])
def test_an_older_manifest_is_refused_though_the_newest_rollout_is_pruned(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """What a channel's newest manifest superseded does not come back when that one's rollout is over."""
    older = control_plane.ci.release(ONE_HOST, "r1", control_plane.now)
    control_plane.wait(minutes=1)
    _finished(control_plane, "r2")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    if restarts:
        control_plane.restart_control_plane()
    outcome = control_plane.offer(older)

    ((_, reason),) = outcome.refused
    assert "as the one in force for channel stable, or later; found" in reason


@pytest.mark.parametrize("restarts", [False, True])
def test_a_channel_keeps_waiting_for_one_whose_rollout_was_halted_and_pruned(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """Pruning a rollout that was never done does not let those go who wait for its channel."""
    _halted(control_plane, "r1")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    if restarts:
        control_plane.restart_control_plane()
    follower = Layout(waves=(("db-01",),), channel="late", after=("stable",))
    control_plane.publish("r1", follower)

    assert control_plane.queued() == []


def test_a_restart_after_pruning_changes_nothing(control_plane: ScriptedControlPlane) -> None:
    """A control plane that starts again knows the same of rollouts that are over."""
    _finished(control_plane, "r1")
    control_plane.wait(minutes=1)
    _halted(control_plane, "r2")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    before = likeness(control_plane.state)
    control_plane.restart_control_plane()

    assert likeness(control_plane.state) == before


def test_a_pause_of_a_rollout_is_forgotten_with_it(control_plane: ScriptedControlPlane) -> None:
    """An operator's hold on a rollout does not outlive the rollout."""
    rollout_id = _halted(control_plane, "r1")
    control_plane.pause(rollout_id)
    control_plane.pause("stable")
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()

    assert [hold.scope for hold in control_plane.state.view.holds] == [ChannelScope("stable")]
    assert control_plane.check_store().differences == ()
    assert (
        control_plane.command(PauseScope(ChannelScope("stable"), "bo", "again")).refusal is not None
    )


def test_pruning_leaves_the_views_as_the_log_says(control_plane: ScriptedControlPlane) -> None:
    """After pruning, with records flushed before and after, the stored views equal the log's."""
    _finished(control_plane, "r1")
    control_plane.flush()
    control_plane.wait(minutes=1)
    _halted(control_plane, "r2")
    control_plane.flush(limit=1)
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()
    control_plane.flush()

    assert control_plane.check_store().differences == ()
