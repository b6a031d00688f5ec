"""A host that runs something else than it converged to is noted, and gets its target back where the channel says so."""

from pathlib import Path

from nixfleet_control_plane.messages.inputs import HostList, ListHosts
from nixfleet_control_plane.messages.log_entry import RolloutMoved
from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.policy import Retry, RolloutPolicy
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    RetryOrdered,
    RolloutEvent,
)
from nixfleet_state_machine.rollout.state import Drift, RolloutState, Standing
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

TARGET, BY_HAND = "r1-web-01", "by-hand"


class Fleet(ScriptedControlPlane):
    """Two hosts in two waves; the first one converged. Back-off is ten minutes."""

    def __init__(self, directory: Path, on_drift: OnDrift = OnDrift.REPORT) -> None:
        policy = RolloutPolicy(retry=Retry(attempts=1, backoff_seconds=600))
        layout = Layout(waves=(("web-01",), ("web-02",)), policy=policy, on_drift=on_drift)
        super().__init__(directory, layout)
        self.r1 = self.publish("r1")
        self.canary = ScriptedHost(self, self.r1, "web-01")
        self.canary.finish()

    def beat(self, running: str) -> None:
        self.wait(minutes=1)
        self.heartbeat("web-01", {self.r1: len(self.canary.facts)}, running)

    def drift(self) -> None:
        self.beat(BY_HAND)
        self.beat(BY_HAND)

    def pass_minutes(self, minutes: float) -> None:
        self.wait(minutes=minutes)
        self.tick()

    def moved(self, *kinds: type[RolloutEvent]) -> list[RolloutEvent]:
        events = (entry.event for entry in self.logged(RolloutMoved))
        return [event for event in events if isinstance(event, kinds)]

    def drifted(self) -> dict[str, str]:
        return {host: it.running for host, it in self.rollout(self.r1).drifted.items()}

    def check_restart(self) -> None:
        assert self.check_store().differences == ()
        before = likeness(self.state)
        self.restart_control_plane()
        assert likeness(self.state) == before


def test_a_host_that_runs_something_else_in_two_heartbeats_has_drifted(scratch: Path) -> None:
    """It is in the log once, with what it runs; its state is what it said."""
    fleet = Fleet(scratch)
    fleet.beat(BY_HAND)
    assert fleet.drifted() == {}

    fleet.beat(BY_HAND)
    noted_at = fleet.now
    fleet.drift()
    assert fleet.moved(HostDrifted) == [HostDrifted(fleet.r1, "web-01", BY_HAND, noted_at)]
    assert fleet.rollout(fleet.r1).drifted["web-01"] == Drift(BY_HAND, noted_at)
    assert fleet.states(fleet.r1)["web-01"] is HostState.CONVERGED
    fleet.check_restart()


def test_a_drift_is_in_the_list_of_hosts_and_in_the_totals_until_it_ends(scratch: Path) -> None:
    """Beside the host, and as a number."""
    fleet = Fleet(scratch)
    fleet.drift()
    drift = Drift(BY_HAND, fleet.now)

    assert fleet.ask_for(HostList, ListHosts(None, 9)).drifts == (drift, None)
    assert fleet.engine.totals().drifted == 1
    fleet.beat(TARGET)
    assert fleet.ask_for(HostList, ListHosts(None, 9)).drifts == (None, None)
    assert fleet.engine.totals().drifted == 0


def test_a_host_that_runs_something_else_once_has_not_drifted(scratch: Path) -> None:
    """One heartbeat between two others is no drift, however often."""
    fleet = Fleet(scratch)
    for running in (BY_HAND, TARGET, BY_HAND, TARGET):
        fleet.beat(running)

    assert fleet.moved(HostDrifted, DriftEnded) == []


def test_a_drift_ends_with_the_first_heartbeat_that_shows_the_target(scratch: Path) -> None:
    """And another one is another event."""
    fleet = Fleet(scratch)
    fleet.drift()
    fleet.beat(TARGET)
    assert fleet.drifted() == {}
    fleet.check_restart()

    fleet.drift()
    kinds = [type(event) for event in fleet.moved(HostDrifted, DriftEnded)]
    assert kinds == [HostDrifted, DriftEnded, HostDrifted]


def test_a_host_that_acts_has_not_drifted(scratch: Path) -> None:
    """What it runs on the way is the business of its switch: web-02 waits, and runs what it ran."""
    fleet = Fleet(scratch)
    for _ in range(3):
        fleet.wait(minutes=1)
        fleet.heartbeat("web-02", {}, "release-0")

    assert fleet.moved(HostDrifted) == []


def test_a_host_that_regresses_has_drifted_no_longer(scratch: Path) -> None:
    """It acts: it goes back."""
    fleet = Fleet(scratch)
    fleet.drift()
    fleet.canary.regress()

    assert fleet.drifted() == {}
    fleet.check_restart()


def test_the_successor_of_a_rollout_takes_its_drifts_over(scratch: Path) -> None:
    """A host of a superseded rollout runs what the next one says, or what it ran."""
    fleet = Fleet(scratch)
    fleet.drift()
    fleet.publish("r2")
    assert fleet.drifted() == {}

    fleet.drift()
    assert len(fleet.moved(HostDrifted)) == 1


def test_a_channel_that_reports_orders_nothing(scratch: Path) -> None:
    """However long the drift lasts."""
    fleet = Fleet(scratch)
    fleet.drift()
    fleet.pass_minutes(10_000)

    assert fleet.moved(RetryOrdered) == []


def test_a_channel_that_restores_orders_another_attempt_after_the_back_off(scratch: Path) -> None:
    """One, with the reason; it is dispatched through all gates, and ends the drift."""
    fleet = Fleet(scratch, OnDrift.RESTORE)
    fleet.drift()
    fleet.pass_minutes(9)
    assert fleet.moved(RetryOrdered) == []

    fleet.pass_minutes(3)
    fleet.pass_minutes(60)
    (ordered,) = fleet.moved(RetryOrdered)
    assert isinstance(ordered, RetryOrdered)
    assert (ordered.hosts, ordered.attempt, ordered.reason) == (("web-01",), 2, "it runs by-hand")
    dispatch = fleet.dispatch_of("web-01")
    assert dispatch is not None
    assert (dispatch.attempt, dispatch.target_closure) == (2, TARGET)
    fleet.check_restart()
    fleet.canary.finish(attempt=2)
    assert fleet.drifted() == {}
    assert fleet.mirrored(fleet.r1, "web-01").attempt == 2
    fleet.check_restart()


def test_each_restore_waits_twice_as_long_as_the_one_before(scratch: Path) -> None:
    """Whoever moves the host away again is not fought every minute."""
    fleet = Fleet(scratch, OnDrift.RESTORE)
    fleet.drift()
    fleet.pass_minutes(12)
    fleet.canary.finish(attempt=2)
    fleet.drift()
    fleet.pass_minutes(19)
    assert len(fleet.moved(RetryOrdered)) == 1

    fleet.pass_minutes(4)
    assert len(fleet.moved(RetryOrdered)) == 2


def test_a_drift_in_a_terminal_rollout_is_restored_late(scratch: Path) -> None:
    """The rollout stays Terminal, and what becomes of the host stops nobody."""
    fleet = Fleet(scratch, OnDrift.RESTORE)
    ScriptedHost(fleet, fleet.r1, "web-02").finish()
    assert fleet.rollout(fleet.r1).state is RolloutState.TERMINAL
    fleet.drift()
    fleet.pass_minutes(12)

    assert fleet.rollout(fleet.r1).standing_of("web-01") is Standing.LATE
    assert fleet.queued() == [("web-01", fleet.r1)]
    fleet.canary.finish(attempt=2)
    assert fleet.rollout(fleet.r1).state is RolloutState.TERMINAL
    assert fleet.drifted() == {}
    fleet.check_restart()


def test_a_host_that_left_has_not_drifted(scratch: Path) -> None:
    """Nobody says any more what it should run."""
    fleet = Fleet(scratch)
    fleet.drift()
    fleet.wait(minutes=1)
    fleet.publish("r1", Layout(waves=(("web-00",), ("web-02",)), policy=fleet.layout.policy))

    assert fleet.drifted() == {}
    fleet.drift()
    assert len(fleet.moved(HostDrifted)) == 1
    fleet.check_restart()
