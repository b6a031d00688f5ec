"""A rollout finishes although some hosts fail, are off, or come late; and stops when too many do."""

from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_control_plane.messages.inputs import (
    CommandOutcome,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.log_entry import RolloutMoved
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import Edge
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry, RolloutPolicy
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.scope import RolloutScope
from nixfleet_state_machine.planner.rollout_status import overdue_hosts
from nixfleet_state_machine.rollout.event import (
    HostsLapsed,
    OperatorClearance,
    RetryOrdered,
    RolloutEvent,
    Stage,
    StandingChanged,
    WaveBroken,
)
from nixfleet_state_machine.rollout.state import (
    RETENTION_DEFAULT,
    RETENTION_MAX,
    RolloutState,
    Standing,
)
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

CANARY, REST = ("web-01",), ("web-02", "web-03", "web-04")
ONE_MAY_FAIL = RolloutPolicy(max_failures=1)
ACK_SKIP = Deadlines(ack=Deadline(10, AtDeadline.SKIP))


class Fleet(ScriptedControlPlane):
    """One canary and three others, under a policy."""

    def __init__(
        self,
        directory: Path,
        policy: RolloutPolicy,
        *,
        halt: bool = False,
        edges: tuple[Edge, ...] = (),
    ) -> None:
        on_failure = OnHealthFailure.HALT if halt else OnHealthFailure.ROLLBACK_AND_HALT
        waves = (CANARY, REST)
        super().__init__(
            directory,
            Layout(
                waves=waves,
                on_health_failure=on_failure,
                policy=policy,
                closure="shared",
                edges=edges,
            ),
        )
        self.r1 = self.publish("r1")

    def host(self, name: str) -> ScriptedHost:
        return ScriptedHost(self, self.r1, name)

    def finish(self, *names: str) -> None:
        for name in names:
            self.host(name).finish()

    def state_now(self) -> RolloutState:
        return self.rollout(self.r1).state

    def standing(self, name: str) -> Standing:
        return self.rollout(self.r1).standing_of(name)

    def pass_minutes(self, minutes: float) -> None:
        self.wait(minutes=minutes)
        self.tick()

    def moved(self, kind: type[RolloutEvent]) -> list[RolloutEvent]:
        events = (entry.event for entry in self.logged(RolloutMoved))
        return [event for event in events if isinstance(event, kind)]

    def counted_late(self) -> tuple[dict[Stage, int], dict[Standing, int]]:
        """As `/metrics` counts hosts that are overdue, and those with a standing."""
        engine = self.engine
        overdue, standings = engine.overdue_by_stage(self.now), engine.hosts_by_standing()
        return dict(overdue), {each: count for each, count in standings.items() if count}

    def check_restart(self) -> None:
        """The views are what the log says, and a start brings the same state back."""
        assert self.check_store().differences == ()
        before = likeness(self.state)
        self.restart_control_plane()
        assert likeness(self.state) == before


def test_a_failure_that_is_tolerated_stops_nothing(scratch: Path) -> None:
    """The rollout completes with one failed host, and its closure is not barred for the others."""
    fleet = Fleet(scratch, ONE_MAY_FAIL)
    fleet.finish("web-01")
    fleet.host("web-02").revert()
    fleet.finish("web-03", "web-04")

    assert fleet.state_now() is RolloutState.TERMINAL
    assert fleet.state.quarantines.get("stable", frozenset()) == frozenset()
    fleet.check_restart()


def test_a_failure_beyond_the_tolerance_halts_and_bars_the_closure(scratch: Path) -> None:
    """The event says how many failed of how many allowed."""
    fleet = Fleet(scratch, ONE_MAY_FAIL)
    fleet.finish("web-01")
    for name in ("web-02", "web-03"):
        fleet.host(name).revert()

    (broken,) = fleet.moved(WaveBroken)
    assert isinstance(broken, WaveBroken)
    assert (broken.wave, broken.failed, broken.allowed) == (1, 2, 1)
    assert fleet.state_now() is RolloutState.REVERTED
    assert fleet.state.quarantines["stable"] == frozenset({"shared"})
    fleet.check_restart()


def test_a_canary_that_fails_alone_breaks_its_wave_whatever_is_tolerated(scratch: Path) -> None:
    """A wave of which nobody converged is not done."""
    fleet = Fleet(scratch, ONE_MAY_FAIL)
    fleet.host("web-01").revert()

    assert fleet.state_now() is not RolloutState.ACTIVE
    assert fleet.queued() == []


def test_a_host_that_regresses_counts_as_failed(scratch: Path) -> None:
    """Converged is not the end of looking: where no host may fail, the rollout stops."""
    fleet = Fleet(scratch, RolloutPolicy())
    canary = fleet.host("web-01")
    canary.finish()
    canary.regress()

    assert fleet.state_now() is RolloutState.FAILED
    assert fleet.states(fleet.r1)["web-01"] is HostState.FAILED
    fleet.check_restart()


def test_a_host_that_is_off_is_not_waited_for_past_its_deadline(scratch: Path) -> None:
    """The others finish, and so does the rollout; the dispatch of the host is withdrawn."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.finish("web-01", "web-02", "web-03")
    fleet.pass_minutes(11)

    assert fleet.standing("web-04") is Standing.AWAY
    assert fleet.state_now() is RolloutState.TERMINAL
    assert fleet.queued() == []
    fleet.check_restart()


def test_a_host_that_comes_after_the_end_is_served_late(scratch: Path) -> None:
    """It is heard of, dispatched, and converges; the rollout stays Terminal."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.finish("web-01", "web-02", "web-03")
    fleet.pass_minutes(11)
    fleet.wait(minutes=3 * 7 * 24 * 60)
    fleet.tick()
    fleet.heartbeat("web-04", {})

    assert fleet.standing("web-04") is Standing.LATE
    assert fleet.queued() == [("web-04", fleet.r1)]
    fleet.host("web-04").finish()
    assert fleet.states(fleet.r1)["web-04"] is HostState.CONVERGED
    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.check_restart()


def test_a_late_host_that_fails_stops_and_bars_nothing(scratch: Path) -> None:
    """What becomes of it counts for nothing, where no host may fail either."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.finish("web-01", "web-02", "web-03")
    fleet.pass_minutes(11)
    fleet.heartbeat("web-04", {})
    fleet.host("web-04").revert()

    assert fleet.state_now() is RolloutState.TERMINAL
    assert fleet.state.quarantines.get("stable", frozenset()) == frozenset()


def test_a_finished_rollout_is_kept_for_late_hosts_and_not_for_ever(scratch: Path) -> None:
    """Past its retention while one is outstanding, and no longer than ninety days."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.finish("web-01", "web-02", "web-03")
    fleet.pass_minutes(11)
    fleet.pass_minutes(RETENTION_DEFAULT.total_seconds() / 60)
    assert fleet.state_now() is RolloutState.TERMINAL

    fleet.pass_minutes(RETENTION_MAX.total_seconds() / 60)
    assert fleet.state_now() is RolloutState.PRUNED


def test_a_canary_that_is_off_is_no_evidence(scratch: Path) -> None:
    """A wave in which nobody did anything is broken, and the next one does not begin."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.pass_minutes(11)

    (broken,) = fleet.moved(WaveBroken)
    assert isinstance(broken, WaveBroken)
    assert (broken.wave, broken.failed, broken.absent) == (0, 0, 1)
    assert fleet.state_now() is RolloutState.FAILED
    assert fleet.queued() == []


def test_a_canary_that_is_off_is_served_when_it_comes_though_its_rollout_was_cleared(
    scratch: Path,
) -> None:
    """Nobody waits for it, it takes no slot, and the end of the rollout does not forget it."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.pass_minutes(11)
    fleet.clear(fleet.r1)
    (cleared,) = fleet.moved(OperatorClearance)
    assert isinstance(cleared, OperatorClearance)
    assert (cleared.excused_hosts, cleared.cleared_waves) == (frozenset(), (0,))
    assert (fleet.standing("web-01"), fleet.dispatch_of("web-01")) == (Standing.AWAY, None)
    fleet.check_restart()
    fleet.finish(*REST)
    assert fleet.state_now() is RolloutState.TERMINAL

    fleet.heartbeat("web-01", {})

    assert fleet.standing("web-01") is Standing.LATE
    fleet.finish("web-01")
    assert fleet.states(fleet.r1)["web-01"] is HostState.CONVERGED
    fleet.check_restart()


def test_a_last_wave_that_is_off_is_cleared_and_served_when_it_comes(scratch: Path) -> None:
    """One that comes and is off again breaks nothing a second time."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    canary = fleet.host("web-01")
    canary.acknowledge()
    canary.start()
    canary.defer()
    fleet.pass_minutes(11)
    assert fleet.state_now() is RolloutState.FAILED
    fleet.clear(fleet.r1)
    assert fleet.state_now() in (RolloutState.ACTIVE, RolloutState.CONVERGING)
    fleet.heartbeat("web-02", {})
    assert fleet.standing("web-02") is Standing.COUNTED

    fleet.pass_minutes(11)

    assert fleet.standing("web-02") is Standing.AWAY
    assert fleet.state_now() in (RolloutState.ACTIVE, RolloutState.CONVERGING)
    fleet.check_restart()


def test_a_clearance_of_failures_waives_no_evidence_of_those_who_are_to_come(
    scratch: Path,
) -> None:
    """Of the second wave one failed and two are under way: if those go off, the wave is broken again."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.finish("web-01")
    fleet.host("web-02").revert()
    fleet.clear(fleet.r1)
    (cleared,) = fleet.moved(OperatorClearance)
    assert isinstance(cleared, OperatorClearance)
    assert cleared.cleared_waves == ()

    fleet.command(RetireQuarantine("stable", "shared", "ada", "known"))
    fleet.pass_minutes(11)

    assert fleet.state_now() is RolloutState.FAILED
    assert len(fleet.moved(WaveBroken)) == 1


def test_a_clearance_that_lets_a_wave_be_skipped_as_a_whole_says_at_once_that_it_is_broken(
    scratch: Path,
) -> None:
    """All of the second wave wait for the canary, which is off. A second clearance goes on without them."""
    edges = tuple(Edge("web-01", name) for name in REST)
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP), edges=edges)
    fleet.pass_minutes(11)
    fleet.clear(fleet.r1)
    assert [fleet.standing(name) for name in REST] == [Standing.SKIPPED] * 3
    assert fleet.state_now() is RolloutState.FAILED

    fleet.clear(fleet.r1)

    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.heartbeat("web-01", {})
    fleet.finish("web-01", *REST)
    fleet.check_restart()


def test_a_silent_host_counts_as_failed_where_its_deadline_says_so(scratch: Path) -> None:
    """Five minutes after the deadline that the host holds itself to."""
    convergence = Deadlines(convergence=Deadline(30, AtDeadline.FAIL))
    fleet = Fleet(scratch, RolloutPolicy(deadlines=convergence))
    fleet.host("web-01").soak()
    fleet.pass_minutes(34)
    assert fleet.moved(HostsLapsed) == []

    fleet.pass_minutes(1)
    (lapsed,) = fleet.moved(HostsLapsed)
    assert isinstance(lapsed, HostsLapsed)
    assert (lapsed.stage, lapsed.standing) == (Stage.CONVERGENCE, Standing.LAPSED)
    assert fleet.states(fleet.r1)["web-01"] is HostState.SOAKING
    assert fleet.state_now() is RolloutState.FAILED
    fleet.check_restart()


def test_a_lapsed_host_that_reports_again_counts_again(scratch: Path) -> None:
    """While its wave is not done; its record was never touched."""
    convergence = Deadlines(convergence=Deadline(30, AtDeadline.SKIP))
    fleet = Fleet(scratch, RolloutPolicy(deadlines=convergence))
    fleet.finish("web-01")
    slow = fleet.host("web-02")
    slow.soak()
    fleet.pass_minutes(35)
    assert fleet.standing("web-02") is Standing.AWAY

    slow.probe()
    assert fleet.standing("web-02") is Standing.COUNTED


def test_a_host_that_failed_tries_again_after_its_back_off(scratch: Path) -> None:
    """Though the rollout is complete without it: it is late then."""
    policy = RolloutPolicy(max_failures=1, retry=Retry(attempts=2, backoff_seconds=600))
    fleet = Fleet(scratch, policy)
    fleet.finish("web-01", "web-03", "web-04")
    flaky = fleet.host("web-02")
    flaky.revert()
    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.pass_minutes(9)
    assert fleet.moved(RetryOrdered) == []

    fleet.pass_minutes(2)
    (ordered,) = fleet.moved(RetryOrdered)
    assert isinstance(ordered, RetryOrdered)
    assert (ordered.hosts, ordered.attempt) == (("web-02",), 2)
    assert fleet.queued() == [("web-02", fleet.r1)]
    flaky.finish(attempt=2)
    assert fleet.states(fleet.r1)["web-02"] is HostState.CONVERGED


def test_a_retry_that_succeeds_makes_the_host_count_as_converged(scratch: Path) -> None:
    """Its slot, its failure and its record are those of the attempt that succeeded."""
    policy = RolloutPolicy(max_failures=1, retry=Retry(attempts=2, backoff_seconds=60))
    fleet = Fleet(scratch, policy)
    fleet.finish("web-01")
    flaky = fleet.host("web-02")
    flaky.revert()
    fleet.pass_minutes(2)

    dispatch = fleet.dispatch_of("web-02")
    assert dispatch is not None
    assert dispatch.attempt == 2
    fleet.check_restart()
    flaky.finish(attempt=2)
    record = fleet.mirrored(fleet.r1, "web-02")
    assert (record.state, record.attempt, record.failed_at) == (HostState.CONVERGED, 2, None)
    fleet.check_restart()


def test_a_retry_by_an_operator_takes_one_attempt_more(scratch: Path) -> None:
    """Of a host that failed without rolling back; the log has the name and the reason."""
    fleet = Fleet(scratch, ONE_MAY_FAIL, halt=True)
    fleet.finish("web-01")
    host = fleet.host("web-02")
    host.soak()
    host.fail(OnHealthFailure.HALT)
    command = RetryHosts(fleet.r1, frozenset(), "ada", "disk has room again")

    assert fleet.command(command) == CommandOutcome()
    assert ("web-02", fleet.r1) in fleet.queued()
    (ordered,) = fleet.moved(RetryOrdered)
    assert isinstance(ordered, RetryOrdered)
    assert ordered.reason == "ada: disk has room again"
    fleet.check_restart()


def test_an_excused_host_of_a_live_rollout_holds_it_no_longer(scratch: Path) -> None:
    """Whatever it does afterwards."""
    fleet = Fleet(scratch, RolloutPolicy())
    fleet.finish("web-01", "web-02", "web-03")
    command = ExcuseHosts(fleet.r1, frozenset({"web-04"}), "ada", "it is scrap")

    assert fleet.command(command) == CommandOutcome()
    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.check_restart()


def test_who_waits_for_a_host_that_is_away_goes_on_when_that_one_is_excused(
    scratch: Path,
) -> None:
    """A clearance has to name hosts that did not come, and then nobody waits for them."""
    convergence = Deadlines(convergence=Deadline(30, AtDeadline.SKIP))
    edges = (Edge(gates="web-02", gated="web-04"),)
    fleet = Fleet(scratch, RolloutPolicy(deadlines=convergence), edges=edges)
    fleet.finish("web-01")
    fleet.host("web-02").soak()
    fleet.host("web-03").revert()
    fleet.pass_minutes(40)
    assert fleet.standing("web-02") is Standing.AWAY

    fleet.clear(fleet.r1, "web-03", "web-02")
    assert fleet.state_now() is RolloutState.ACTIVE
    assert fleet.standing("web-04") is Standing.COUNTED


def test_a_skipped_host_is_served_once_it_is_heard_of(scratch: Path) -> None:
    """A host that is off and skipped frees its place in the queue."""
    fleet = Fleet(scratch, RolloutPolicy())
    fleet.finish("web-01")
    fleet.wait(minutes=4)
    command = SkipHosts(fleet.r1, frozenset({"web-04"}), "ada", "on leave")
    assert fleet.command(command) == CommandOutcome()
    assert ("web-04", fleet.r1) not in fleet.queued()

    fleet.heartbeat("web-04", {})
    (skipped, back) = fleet.moved(StandingChanged)
    assert isinstance(skipped, StandingChanged)
    assert isinstance(back, StandingChanged)
    assert (skipped.standing, back.standing) == (Standing.AWAY, Standing.COUNTED)
    assert ("web-04", fleet.r1) in fleet.queued()


def test_who_waits_for_a_host_that_was_skipped_before_the_rollout_began_is_skipped_with_it(
    scratch: Path,
) -> None:
    """While a rollout is Opening nobody is skipped with another; its first host says who waits in vain."""
    control_plane = ScriptedControlPlane(
        scratch,
        Layout(waves=(("web-01", "web-02", "web-03"),), edges=(Edge("web-01", "web-02"),)),
    )
    control_plane.publish("r0")
    control_plane.pause("stable")
    rollout_id = control_plane.publish("r1")
    control_plane.wait(minutes=4)
    command = SkipHosts(rollout_id, frozenset({"web-01"}), "ada", "on leave")
    assert control_plane.command(command) == CommandOutcome()
    record = control_plane.state.view.rollouts[rollout_id]
    assert (record.state, record.standing_of("web-02")) == (RolloutState.OPENING, Standing.COUNTED)

    control_plane.resume("stable")

    record = control_plane.state.view.rollouts[rollout_id]
    assert (record.state, record.standing_of("web-02")) == (RolloutState.ACTIVE, Standing.SKIPPED)
    ScriptedHost(control_plane, rollout_id, "web-03").finish()
    assert control_plane.state.view.rollouts[rollout_id].state is RolloutState.TERMINAL
    control_plane.check_store()


R1 = RolloutId("stable@r1")
NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (ExcuseHosts(R1, NOBODY, "ada", "why"), "expected hosts, found none"),
        (
            ExcuseHosts(R1, frozenset({"web-01"}), "ada", " "),
            "expected a reason, found none",
        ),
        (
            ExcuseHosts(R1, frozenset({"wbe-01"}), "ada", "why"),
            "expected hosts of stable@r1, found wbe-01",
        ),
        (
            ExcuseHosts(RolloutId("stable@r9"), frozenset({"web-01"}), "ada", "why"),
            "no rollout stable@r9 exists",
        ),
        (
            SkipHosts(R1, frozenset({"web-01"}), "ada", "why"),
            "expected hosts that were silent for 180 s, found web-01, heard of 0 s ago: "
            "wait until it was, or excuse it",
        ),
        (
            RetryHosts(R1, NOBODY, "ada", "why"),
            "expected failed hosts of stable@r1 that may try again, found none",
        ),
        (
            RetryHosts(R1, frozenset({"web-01"}), "ada", "why"),
            "web-01 cannot try again: expected a host that failed, found it Pending",
        ),
    ],
)
def test_a_command_that_fits_nothing_is_refused_and_changes_nothing(
    scratch: Path, command: OperatorCommand, refusal: str
) -> None:
    """The refusal says what was expected and what was found."""
    fleet = Fleet(scratch, RolloutPolicy())
    fleet.heartbeat("web-01", {})
    rows = len(fleet.log())

    assert fleet.command(command).refusal == refusal
    assert len(fleet.log()) == rows


def test_a_skip_of_the_only_host_of_a_wave_is_refused(scratch: Path) -> None:
    """A wave of which nobody came is broken: the command would halt what it is to help along."""
    fleet = Fleet(scratch, RolloutPolicy())
    fleet.wait(minutes=4)

    assert fleet.command(SkipHosts(R1, frozenset({"web-01"}), "ada", "on leave")).refusal == (
        "nobody would be left to converge in wave 0, which halts the rollout: excuse, or wait"
    )


def test_a_skip_that_would_leave_failed_hosts_alone_in_their_wave_is_refused(scratch: Path) -> None:
    """The verdict is the planner's: a wave of which nobody converged is broken, whatever is tolerated."""
    fleet = Fleet(scratch, RolloutPolicy(max_failures=2))
    fleet.finish("web-01")
    fleet.host("web-02").revert()
    fleet.wait(minutes=4)
    both = SkipHosts(fleet.r1, frozenset({"web-03", "web-04"}), "ada", "on leave")

    refusal = fleet.command(both).refusal
    fleet.finish("web-03")
    fleet.wait(minutes=4)
    one = SkipHosts(fleet.r1, frozenset({"web-04"}), "ada", "on leave")

    assert refusal == (
        "nobody would be left to converge in wave 1, which halts the rollout: excuse, or wait"
    )
    assert fleet.command(one).refusal is None
    assert fleet.state_now() is RolloutState.TERMINAL


def test_a_host_that_may_have_been_heard_of_before_a_restart_is_not_skipped(scratch: Path) -> None:
    """What was heard of before is not stored, so silence is counted from the start."""
    fleet = Fleet(scratch, RolloutPolicy())
    fleet.wait(minutes=4)
    fleet.restart_control_plane()
    command = SkipHosts(R1, frozenset({"web-04"}), "ada", "on leave")

    refusal = fleet.command(command).refusal
    assert refusal is not None
    assert "found web-04, heard of 0 s ago" in refusal
    fleet.wait(minutes=4)
    assert fleet.command(command).refusal is None


def test_a_host_at_its_last_attempt_is_waited_for(scratch: Path) -> None:
    """It may succeed yet; who waits for it is skipped when it has failed."""
    policy = RolloutPolicy(max_failures=2, retry=Retry(attempts=2, backoff_seconds=60))
    fleet = Fleet(scratch, policy, edges=(Edge(gates="web-02", gated="web-04"),))
    fleet.finish("web-01")
    flaky = fleet.host("web-02")
    flaky.revert()
    fleet.pass_minutes(2)
    flaky.soak(attempt=2)
    fleet.heartbeat("web-04", {})
    assert fleet.standing("web-04") is Standing.COUNTED

    flaky.fail()
    assert fleet.standing("web-04") is Standing.SKIPPED


def test_a_host_that_used_up_its_attempts_is_not_retried(scratch: Path) -> None:
    """It rolled back, and would refuse: another release has to bring the closure."""
    fleet = Fleet(scratch, ONE_MAY_FAIL)
    fleet.finish("web-01")
    fleet.host("web-02").revert()
    command = RetryHosts(fleet.r1, frozenset({"web-02"}), "ada", "please")

    assert fleet.command(command).refusal == (
        "web-02 cannot try again: it rolled back, and made 1 of the 1 attempts that were signed; "
        "release its closure under a new ref"
    )


def test_tolerated_failures_absent_and_waiting_hosts_are_counted(scratch: Path) -> None:
    """By the waves of served rollouts, and by the gates of the hosts that wait."""
    policy = RolloutPolicy(max_failures=1, deadlines=ACK_SKIP)
    fleet = Fleet(scratch, policy)
    assert dict(fleet.engine.waiting_by_gate()) == {Gate.WAVE_PROMOTION: 3}
    fleet.finish("web-01")
    fleet.host("web-02").revert()
    fleet.pass_minutes(11)

    totals = fleet.engine.wave_totals()
    assert (totals.tolerated, totals.absent) == (1, 2)
    assert set(fleet.engine.waiting_by_gate().values()) == {0}
    first, second = fleet.engine.waves(fleet.r1)
    assert (first.converged, second.failed, second.allowed, second.absent) == (1, 1, 1, 2)
    assert fleet.engine.waves(RolloutId("stable@r9")) == ()


def test_hosts_past_a_deadline_are_counted_whether_something_follows_or_not(scratch: Path) -> None:
    """Those of which nothing follows by their stage, as long as they count; the others by their standing."""
    waiting = Deadlines(ack=Deadline(10, AtDeadline.WAIT), convergence=Deadline(5, AtDeadline.FAIL))
    fleet = Fleet(scratch, RolloutPolicy(max_failures=2, deadlines=waiting))
    fleet.finish("web-01")
    fleet.host("web-02").soak()
    assert fleet.counted_late() == ({}, {})
    fleet.pass_minutes(11)

    assert fleet.counted_late() == ({Stage.ACK: 2}, {Standing.LAPSED: 1})
    shown = [each.hostname for each in overdue_hosts(fleet.state.view, fleet.now)]
    assert shown == ["web-03", "web-04"]
    fleet.check_restart()
    assert fleet.counted_late() == ({Stage.ACK: 2}, {Standing.LAPSED: 1})
    fleet.host("web-03").acknowledge()
    fleet.command(ExcuseHosts(fleet.r1, frozenset({"web-04"}), "ada", "why"))
    assert fleet.counted_late() == ({}, {Standing.LAPSED: 1, Standing.EXCUSED: 1})
    fleet.publish("r2")
    fleet.wait(minutes=80 * 60)
    fleet.tick()
    assert fleet.state.standing_counts.keys() == set()


def test_a_wave_that_breaks_bars_no_closure_that_never_ran(scratch: Path) -> None:
    """A switch that failed and was undone says nothing about the closure on the hosts that can start it."""
    fleet = Fleet(scratch, ONE_MAY_FAIL)
    fleet.finish("web-01")
    for name in ("web-02", "web-03"):
        host = fleet.host(name)
        host.acknowledge()
        host.break_down()
        host.roll_back()

    assert fleet.moved(WaveBroken) != []
    assert fleet.state.quarantines.get("stable", frozenset()) == frozenset()
    fleet.check_restart()


def test_another_attempt_of_a_host_whose_clock_is_behind_converges(scratch: Path) -> None:
    """As at the first attempt, a dispatch that is dated after its acknowledgement takes that one's times."""
    policy = RolloutPolicy(max_failures=1, retry=Retry(attempts=2, backoff_seconds=60))
    fleet = Fleet(scratch, policy)
    fleet.finish("web-01")
    flaky = fleet.host("web-02")
    flaky.revert()
    fleet.pass_minutes(2)
    dispatched = fleet.now
    fleet.now = dispatched - timedelta(seconds=20)
    flaky.acknowledge(attempt=2)

    record = fleet.mirrored(fleet.r1, "web-02")
    assert record.dispatched_at == record.soak_due_at == record.dispatch_acked_at
    fleet.check_restart()


def test_a_late_host_that_is_held_waits_for_nothing_once_another_rollout_opened(
    scratch: Path,
) -> None:
    """Its reason goes with the rollout that held it."""
    fleet = Fleet(scratch, RolloutPolicy(deadlines=ACK_SKIP))
    fleet.finish("web-01", "web-02", "web-03")
    fleet.pass_minutes(11)
    fleet.command(PauseScope(RolloutScope(fleet.r1), "ada", "looks wrong"))
    fleet.heartbeat("web-04", {})
    assert (fleet.r1, "web-04") in fleet.state.deferrals
    fleet.publish("r2")

    assert (fleet.r1, "web-04") not in fleet.state.deferrals
    fleet.check_restart()
