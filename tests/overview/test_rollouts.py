"""What an overview says of a rollout: headline, waves, what needs a person, why hosts wait, what comes next."""

from datetime import datetime, timedelta

import pytest

from nixfleet_control_plane.engine.command_checks import command_objection
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    PlaceHold,
    RetireQuarantine,
    RetryHosts,
)
from nixfleet_control_plane.overview.advice import host_commands
from nixfleet_proto.fleet import Edge, OnDrift
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, RolloutPolicy
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_runtime.http.overview import Course, EdgeKind, Need, NeedKind, RolloutOverview
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.scope import parse_scope
from nixfleet_state_machine.planner.rollout_status import WaveState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.overview_walk import overview_differences
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost

WAVES = (("web-01",), ("web-02", "web-03", "web-04"))


def overview(fleet: ScriptedControlPlane, stale_at: datetime | None = None) -> RolloutOverview:
    """The only rollout there is. stale_at: until when hosts accept it."""
    known = {} if stale_at is None else dict.fromkeys(fleet.state.view.rollouts, stale_at)
    (shown,) = fleet.engine.overviews(fleet.now, known)
    assert overview_differences(fleet.state) == []
    return shown


def needs(shown: RolloutOverview) -> dict[NeedKind, Need]:
    return {need.kind: need for need in shown.needs_you}


def finish(fleet: ScriptedControlPlane, *names: str) -> None:
    (rollout_id,) = fleet.state.view.live_rollouts()
    for name in names:
        ScriptedHost(fleet, rollout_id, name).finish()


def revert(fleet: ScriptedControlPlane, name: str) -> None:
    (rollout_id,) = fleet.state.view.live_rollouts()
    ScriptedHost(fleet, rollout_id, name).revert()


def test_a_rollout_without_failures_is_going_well(control_plane: ScriptedControlPlane) -> None:
    control_plane.publish("r1", Layout(waves=WAVES, closure="shared"))
    finish(control_plane, "web-01", "web-02")

    shown = overview(control_plane)

    assert shown.headline == "stable@r1 is going well: 2 of 4 hosts have converged, none failed."
    assert (shown.course, shown.percent) == (Course.GOING_WELL, 50)
    assert (shown.closure, shown.closures, shown.needs_you) == ("shared", 1, ())
    assert [(wave.text, wave.percent, wave.verdict) for wave in shown.waves] == [
        ("done", 100, WaveState.DONE),
        ("now", 33, WaveState.GOING),
    ]
    assert shown.waves[1].states == {**dict.fromkeys(shown.states, 0), "Pending": 2, "Converged": 1}


def test_a_rollout_of_which_all_converged_is_complete(control_plane: ScriptedControlPlane) -> None:
    control_plane.publish("r1", Layout(waves=WAVES))
    finish(control_plane, "web-01", "web-02", "web-03", "web-04")

    shown = overview(control_plane)

    assert shown.headline == "stable@r1 is complete: all 4 hosts have converged."
    assert (shown.course, shown.percent) == (Course.COMPLETE, 100)


def test_a_rollout_that_tolerated_a_failure_reaches_100_percent(
    control_plane: ScriptedControlPlane,
) -> None:
    """A share of hosts that cannot converge any more would never be whole."""
    control_plane.publish("r1", Layout(waves=WAVES, policy=RolloutPolicy(max_failures=1)))
    finish(control_plane, "web-01")
    revert(control_plane, "web-02")
    assert overview(control_plane).headline == (
        "stable@r1 has failures: 1 of 4 hosts has converged, 1 failed and is tolerated."
    )
    finish(control_plane, "web-03", "web-04")

    shown = overview(control_plane)

    assert shown.headline == (
        "stable@r1 is complete: 3 of 4 hosts have converged, 1 failed and is tolerated."
    )
    assert shown.percent == 100


def test_a_halted_rollout_says_why_since_when_and_what_answers_it(
    control_plane: ScriptedControlPlane,
) -> None:
    control_plane.publish("r1", Layout(waves=WAVES, closure="shared"))
    finish(control_plane, "web-01")
    revert(control_plane, "web-02")
    halted_at = control_plane.now
    control_plane.wait(minutes=3)

    shown = overview(control_plane)

    assert shown.headline == "stable@r1 is halted: 1 of 4 hosts has converged, 1 has failed."
    halted = needs(shown)[NeedKind.HALTED]
    assert halted.text == "stable@r1 is halted: 1 of 3 hosts of wave 1 failed, and 0 may."
    assert (halted.since, halted.command) == (halted_at, "clear stable@r1")
    # No `retry`: what failed is quarantined, so it would be refused.
    assert halted.commands == ("clear stable@r1", "abort stable@r1")
    barred = needs(shown)[NeedKind.QUARANTINE]
    assert barred.text == "shared is quarantined on stable: 2 hosts wait for it."
    assert (barred.since, barred.command) == (halted_at, "retire stable shared")
    assert shown.risk is not None
    assert shown.risk.quarantined == ("shared",)


def test_a_quarantine_that_is_retired_needs_no_person(control_plane: ScriptedControlPlane) -> None:
    control_plane.publish("r1", Layout(waves=WAVES, closure="shared"))
    finish(control_plane, "web-01")
    revert(control_plane, "web-02")
    control_plane.command(RetireQuarantine("stable", "shared", "ada", "the switch was it"))

    assert NeedKind.QUARANTINE not in needs(overview(control_plane))


def test_an_aborted_rollout_needs_another_release(control_plane: ScriptedControlPlane) -> None:
    rollout_id = control_plane.publish("r1", Layout(waves=WAVES))
    control_plane.command(AbortRollout(rollout_id, "ada", "it eats disks"))

    shown = overview(control_plane)

    assert shown.headline == "stable@r1 is aborted: 0 of 4 hosts have converged, none failed."
    assert needs(shown)[NeedKind.ABORTED].command is None


def test_a_pause_holds_the_rollout_although_a_host_is_under_way(
    control_plane: ScriptedControlPlane,
) -> None:
    rollout_id = control_plane.publish("r1", Layout(waves=WAVES))
    finish(control_plane, "web-01")
    ScriptedHost(control_plane, rollout_id, "web-02").acknowledge()
    control_plane.pause("stable")

    shown = overview(control_plane)

    assert shown.headline == (
        "stable@r1 is held: 1 of 4 hosts has converged, none failed; "
        "an operator paused channel stable: ada: smells odd."
    )
    assert needs(shown)[NeedKind.HOLD].command == "release stable --of ada"
    (waits,) = shown.waits
    assert (waits.hosts, waits.gate, waits.since) == (2, Gate.OPERATOR_HOLD, control_plane.now)


def test_a_hold_with_an_end_needs_no_person_and_comes_next(
    control_plane: ScriptedControlPlane,
) -> None:
    control_plane.publish("r1", Layout(waves=WAVES))
    until = control_plane.now + timedelta(hours=1)
    control_plane.command(PlaceHold(parse_scope("stable"), "ada", "lunch", until))

    shown = overview(control_plane)

    assert NeedKind.HOLD not in needs(shown)
    assert [(edge.at, edge.kind) for edge in shown.next] == [(until, EdgeKind.HOLD_ENDS)]
    assert shown.waits[0].until == until


def test_a_wave_that_waits_for_its_guards_says_who_may_approve_it(
    control_plane: ScriptedControlPlane,
) -> None:
    guards = WaveGuards(bake_minutes=10, approvals=Approvals(1, ("ada", "bob", "eve")))
    control_plane.publish("r1", Layout(waves=WAVES, guards=(WaveGuards(), guards), author="eve"))
    before = overview(control_plane).waves[1]
    finish(control_plane, "web-01")

    shown = overview(control_plane)

    assert (before.waits_for, before.bake_until) == ("waits for wave 0", None)
    over_at = control_plane.now + timedelta(minutes=10)
    approval = needs(shown)[NeedKind.APPROVAL]
    assert (approval.who, approval.wave, approval.since) == (("ada", "bob"), 1, control_plane.now)
    assert approval.command == "approve stable@r1 --wave 1"
    assert shown.course is Course.HELD
    assert (shown.waves[1].bake_until, shown.waits[0].until) == (over_at, None)
    assert [(edge.at, edge.kind) for edge in shown.next] == [(over_at, EdgeKind.BAKE_ENDS)]


def test_a_wave_whose_time_is_to_come_says_when(control_plane: ScriptedControlPlane) -> None:
    at = START + timedelta(hours=2)
    control_plane.publish("r1", Layout(waves=WAVES, not_before=(None, at)))
    finish(control_plane, "web-01")

    shown = overview(control_plane)

    assert shown.waves[1].text == "begins not before 2026-05-16 03:00 UTC"
    assert [(edge.at, edge.kind) for edge in shown.next] == [(at, EdgeKind.WAVE_BEGINS)]
    assert shown.waits[0].until == at


def test_hosts_that_wait_for_different_hosts_are_one_group(
    control_plane: ScriptedControlPlane,
) -> None:
    edges = (Edge("web-01", "web-02"), Edge("web-01", "web-03"))
    control_plane.publish("r1", Layout(waves=(("web-01", "web-02", "web-03"),), edges=edges))

    (waits,) = overview(control_plane).waits

    assert (waits.hosts, waits.reason) == (2, "each waits for another host to be Converged")


def test_hosts_that_are_held_themselves_are_one_group_and_need_a_person(
    control_plane: ScriptedControlPlane,
) -> None:
    control_plane.publish("r1", Layout(waves=(("web-01", "web-02", "web-03"),)))
    control_plane.pause("host:web-01")
    control_plane.pause("host:web-02")

    assert [(it.hosts, it.reason) for it in overview(control_plane).waits] == [
        (2, "each is held itself")
    ]


@pytest.mark.parametrize("then", list(AtDeadline))
def test_a_silent_host_is_lapsed_away_or_overdue(
    control_plane: ScriptedControlPlane, then: AtDeadline
) -> None:
    """What lapsed or is overdue needs a person; what is away is served once it comes."""
    deadlines = Deadlines(ack=Deadline(10, then))
    control_plane.publish("r1", Layout(waves=WAVES, policy=RolloutPolicy(deadlines=deadlines)))
    assert EdgeKind.DEADLINE in {edge.kind for edge in overview(control_plane).next} or (
        then is AtDeadline.WAIT
    )
    control_plane.wait(minutes=11)
    control_plane.tick()

    kinds = needs(overview(control_plane))

    match then:
        case AtDeadline.WAIT:
            text = "web-01 of stable@r1 is past a deadline, and nothing follows from it."
            overdue = kinds[NeedKind.OVERDUE]
            assert overdue.text == text
            # No `skip`: nobody would be left in its wave.
            assert overdue.commands == ("excuse stable@r1 web-01",)
            assert overdue.answer == "Look at them, and excuse those that do not come."
        case AtDeadline.FAIL:
            assert kinds[NeedKind.LAPSED].hosts == 1
            assert kinds[NeedKind.LAPSED].command == "excuse stable@r1 web-01"
        case AtDeadline.SKIP:
            assert kinds.keys() == {NeedKind.HALTED}


def test_a_host_that_is_overdue_and_heard_of_is_excused_and_one_that_is_silent_may_be_skipped(
    control_plane: ScriptedControlPlane,
) -> None:
    """A skip is refused of a host that can be heard of: it would be given back at once."""
    deadlines = Deadlines(ack=Deadline(10, AtDeadline.WAIT))
    layout = Layout(waves=(("web-01", "web-02"),), policy=RolloutPolicy(deadlines=deadlines))
    rollout_id = control_plane.publish("r1", layout)
    control_plane.wait(minutes=11)
    control_plane.heartbeat("web-01", {rollout_id: 0}, "before")
    state, now = control_plane.state, control_plane.now

    heard, silent = (host_commands(state, rollout_id, host, now) for host in ("web-01", "web-02"))

    assert heard == ("excuse stable@r1 web-01",)
    assert silent == ("skip stable@r1 web-02", "excuse stable@r1 web-02")
    (overdue,) = (it for it in overview(control_plane).needs_you if it.kind is NeedKind.OVERDUE)
    assert overdue.commands == ("excuse stable@r1 web-01 web-02",)


def test_nothing_is_advised_for_a_host_that_failed_in_a_rollout_that_is_done(
    control_plane: ScriptedControlPlane,
) -> None:
    """An excuse is refused there, and a retry of what is quarantined."""
    tolerant = RolloutPolicy(max_failures=1)
    layout = Layout(waves=(("web-01", "web-02"),), closure="shared", policy=tolerant)
    rollout_id = control_plane.publish("r1", layout)
    revert(control_plane, "web-01")
    state, now = control_plane.state, control_plane.now

    assert host_commands(state, rollout_id, "web-01", now) == ("excuse stable@r1 web-01",)
    finish(control_plane, "web-02")
    assert host_commands(control_plane.state, rollout_id, "web-01", now) == ()


def test_a_host_that_drifted_is_named(control_plane: ScriptedControlPlane) -> None:
    rollout_id = control_plane.publish("r1", Layout(waves=WAVES, on_drift=OnDrift.REPORT))
    finish(control_plane, "web-01")
    for _ in range(2):
        control_plane.wait(minutes=1)
        control_plane.heartbeat("web-01", {rollout_id: 9}, "by-hand")

    drift = needs(overview(control_plane))[NeedKind.DRIFT]

    assert drift.text == ("web-01 of stable@r1 runs another closure than the one converged to.")
    retry = RetryHosts(rollout_id, frozenset({"web-01"}), "anna", "it drifted")
    assert command_objection(control_plane.state, retry, control_plane.now) is not None
    assert drift.command is None


@pytest.mark.parametrize(
    ("window", "left"),
    [(timedelta(hours=3), timedelta(minutes=45)), (timedelta(days=30), timedelta(hours=24))],
)
def test_a_release_is_to_be_signed_again_in_the_last_quarter_of_its_freshness_and_a_day_before(
    window: timedelta, left: timedelta, control_plane: ScriptedControlPlane
) -> None:
    """One that is signed anew every hour, and accepted for three, asks for nothing."""
    control_plane.publish("r1", Layout(waves=WAVES))
    signed_at = overview(control_plane).signed_at
    assert signed_at is not None
    stale_at = signed_at + window

    control_plane.now = stale_at - left - timedelta(seconds=1)
    before = overview(control_plane, stale_at)
    control_plane.now = stale_at - left
    soon = needs(overview(control_plane, stale_at))[NeedKind.FRESHNESS]
    control_plane.now = stale_at
    over = needs(overview(control_plane, stale_at))[NeedKind.FRESHNESS]

    assert NeedKind.FRESHNESS not in needs(before)
    assert EdgeKind.GOES_STALE in {edge.kind for edge in before.next}
    assert (soon.until, soon.since) == (stale_at, None)
    assert (over.until, over.since) == (None, stale_at)


def test_a_tolerant_wave_says_how_many_failures_are_left(
    control_plane: ScriptedControlPlane,
) -> None:
    control_plane.publish(
        "r1", Layout(waves=WAVES, policy=RolloutPolicy(max_failures=2), max_in_flight=2)
    )
    finish(control_plane, "web-01")
    revert(control_plane, "web-02")

    risk = overview(control_plane).risk

    assert risk is not None
    assert (risk.failed, risk.allowed, risk.tolerance_left) == (1, 2, 1)
    assert (risk.in_flight, risk.worst_case) == (2, 3)
    assert "2 of 2 slots taken (all)" in risk.lines


def test_a_start_knows_since_when_hosts_wait_and_closures_are_barred(
    control_plane: ScriptedControlPlane,
) -> None:
    control_plane.publish("r1", Layout(waves=WAVES, closure="shared"))
    finish(control_plane, "web-01")
    revert(control_plane, "web-02")
    before = overview(control_plane)
    control_plane.wait(minutes=1)
    control_plane.restart_control_plane()

    assert overview(control_plane) == before
