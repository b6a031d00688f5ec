"""What hosts say of time, held against this control plane's own clock."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import (
    FactRefused,
    FactReported,
    FactsReported,
    Stopped,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    Converged,
    DispatchAck,
    ProbeTopologyDeclared,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventEarly, EventsOutcome, ReplayFrom
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START
from tests.engines.scripted_host import ScriptedHost

ACK = DispatchAck("release-0", START, seq=1)
SOAK = timedelta(minutes=5)
YEAR = timedelta(days=365)
MINUTE = timedelta(minutes=1)


def early_of(outcome: EventsOutcome) -> EventEarly:
    assert isinstance(outcome.stopped_by, EventEarly), outcome
    return outcome.stopped_by


def warnings_of(control_plane: ScriptedControlPlane) -> list[EmitLog]:
    return [
        action
        for action in control_plane.actions
        if isinstance(action, EmitLog) and action.target == "nixfleet.clocks"
    ]


def test_a_fact_from_the_future_is_not_taken_and_not_refused_for_good(
    control_plane: ScriptedControlPlane,
) -> None:
    """It has no row and no number; the answer says when it can be true, and then it is taken as it is."""
    rollout_id = control_plane.publish("r1")
    ahead = evolve(ACK, received_at=START + timedelta(minutes=5))
    early = early_of(control_plane.hear("web-01", rollout_id, ahead))
    assert (early.seq, early.retry_after_seconds) == (1, 240)
    assert "set the host's clock" in early.reason
    assert control_plane.logged(FactReported) == []
    assert control_plane.logged(FactRefused) == []

    control_plane.wait(seconds=early.retry_after_seconds)
    assert control_plane.hear("web-01", rollout_id, ahead) == EventsOutcome(1)


def test_a_fact_a_minute_ahead_is_taken(control_plane: ScriptedControlPlane) -> None:
    """Clocks differ, and the clock of a signed request may differ as much."""
    rollout_id = control_plane.publish("r1")
    outcome = control_plane.hear("web-01", rollout_id, evolve(ACK, received_at=START + MINUTE))
    assert outcome == EventsOutcome(1)


def test_what_comes_before_a_fact_from_the_future_is_taken(
    control_plane: ScriptedControlPlane,
) -> None:
    """The row has all that was signed, and where it stopped; the answer names the one to leave out."""
    rollout_id = control_plane.publish("r1")
    ahead = ActivationCompleted("r1-web-01", 0, START + YEAR, seq=2)
    outcome = control_plane.hear("web-01", rollout_id, ACK, ahead)
    assert (outcome.accepted, early_of(outcome).seq) == (1, 2)
    assert [entry.fact for entry in control_plane.logged(FactReported)] == [ACK]
    logged = entry_of(control_plane.rows()[-1]).entry
    assert isinstance(logged, FactsReported)
    assert logged.stopped == Stopped(2, "early")


def test_a_clock_that_was_a_year_ahead_ends_no_soak(control_plane: ScriptedControlPlane) -> None:
    """The host is not Converged, now or for the year that its date is ahead; its operator hears of it once."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.acknowledge()
    host.complete()
    declared = ProbeTopologyDeclared((), START + YEAR, seq=3)
    converged = Converged(START + YEAR, "r1-web-01", seq=4)
    for _ in range(5):
        control_plane.wait(minutes=1)
        control_plane.hear("web-01", rollout_id, declared, converged)
    assert control_plane.states(rollout_id)["web-01"] is HostState.SOAKING
    assert len(warnings_of(control_plane)) == 1


def completed_behind(control_plane: ScriptedControlPlane, rollout_id: RolloutId) -> ScriptedHost:
    """A host that is heard every minute, and whose clock is an hour behind."""
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    control_plane.heartbeat("web-01", {rollout_id: 0})
    control_plane.wait(minutes=1)
    hour = timedelta(hours=1)
    host.tell(lambda seq: DispatchAck("release-0", host.now - hour, seq))
    host.tell(lambda seq: ActivationCompleted(host.target, 0, host.now - hour, seq))
    host.tell(lambda seq: ProbeTopologyDeclared((), host.now - hour, seq))
    return host


def test_a_soak_that_has_not_passed_here_is_not_over(control_plane: ScriptedControlPlane) -> None:
    """By its dates the host has soaked for an hour; it was seen a minute ago, without an activation."""
    rollout_id = control_plane.publish("r1")
    host = completed_behind(control_plane, rollout_id)
    converged = host.live(lambda seq: Converged(host.now, host.target, seq))
    early = early_of(control_plane.hear("web-01", rollout_id, converged))
    assert "by the control plane's clock" in early.reason
    assert control_plane.states(rollout_id)["web-01"] is HostState.SOAKING

    control_plane.wait(seconds=early.retry_after_seconds)
    assert control_plane.hear("web-01", rollout_id, converged) == EventsOutcome(1)
    assert control_plane.states(rollout_id)["web-01"] is HostState.CONVERGED


def test_a_rebuilt_control_plane_takes_a_whole_history_at_once(
    control_plane: ScriptedControlPlane,
) -> None:
    """Its receipts say nothing of a soak; a heartbeat that lists more than it has says that the host is ahead."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.finish()
    control_plane.destroy_control_plane()
    control_plane.publish("r1")
    asked = control_plane.heartbeat("web-01", {rollout_id: len(host.facts)})
    assert asked.replay_from == (ReplayFrom(rollout_id, 1),)
    outcome = control_plane.hear("web-01", rollout_id, *host.facts)
    assert outcome == EventsOutcome(len(host.facts))
    assert control_plane.states(rollout_id)["web-01"] is HostState.CONVERGED


def test_a_host_that_was_cut_off_while_it_soaked_is_believed(
    control_plane: ScriptedControlPlane,
) -> None:
    """It was seen without an activation before it was cut off, and not since."""
    rollout_id = control_plane.publish("r1")
    control_plane.heartbeat("web-01", {rollout_id: 0})
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    control_plane.wait(minutes=1)
    cut_off_at, over_at = control_plane.now, control_plane.now + SOAK
    facts = [
        host.live(lambda seq: DispatchAck("release-0", cut_off_at, seq)),
        host.live(lambda seq: ActivationCompleted("r1-web-01", 0, cut_off_at, seq)),
        host.live(lambda seq: ProbeTopologyDeclared((), cut_off_at, seq)),
        host.live(lambda seq: Converged(over_at, "r1-web-01", seq)),
    ]
    control_plane.wait(minutes=60)
    assert control_plane.hear("web-01", rollout_id, *facts) == EventsOutcome(4)


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_soak_that_passed_on_both_clocks_is_over(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """The usual case, also across a restart of the control plane."""
    rollout_id = control_plane.publish("r1")
    control_plane.heartbeat("web-01", {rollout_id: 0})
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    if restarts:
        control_plane.restart_control_plane()
    control_plane.wait(seconds=SOAK.total_seconds())
    host.converge()
    assert control_plane.states(rollout_id)["web-01"] is HostState.CONVERGED
