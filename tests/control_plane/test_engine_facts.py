"""The engine hears what hosts report: what it takes, what it refuses, and in which words."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_control_plane.engine.intake_limits import PROBES_MAX
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.inputs import HostEvents
from nixfleet_control_plane.messages.log_entry import (
    FactReported,
    FactsReported,
    RolloutMoved,
    Stopped,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    Converged,
    DispatchAck,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
)
from nixfleet_proto.codec.wire import facts_of_payload
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
)
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import DeferDispatch, Gate
from nixfleet_state_machine.rollout.event import HostJoined, HostStateChanged, WaveAdvanced
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import PROBE, ScriptedHost

ACK = DispatchAck("release-0", START, seq=1)
STARTED = ActivationStarted(START, "directory", seq=2)
LATER = START + timedelta(seconds=1)


def test_a_fact_that_applies_is_taken_and_logged(control_plane: ScriptedControlPlane) -> None:
    """A fact moves the host's record and becomes a row of the log."""
    rollout_id = control_plane.publish("r1")
    outcome = control_plane.hear("web-01", rollout_id, ACK)

    assert outcome == EventsOutcome(1)
    assert control_plane.states(rollout_id)["web-01"] is HostState.ACTIVATING
    assert control_plane.logged(FactReported) == [FactReported("web-01", rollout_id, ACK, None)]


def test_a_signed_fact_keeps_its_signature_in_the_log(control_plane: ScriptedControlPlane) -> None:
    """The signature of the envelope is kept beside the fact."""
    rollout_id = control_plane.publish("r1")
    envelope = AgentEventEnvelope("web-01", rollout_id, ACK, "5161")
    control_plane.ask(HostEvents("web-01", (envelope,)))

    assert [entry.signature for entry in control_plane.logged(FactReported)] == ["5161"]


def test_facts_of_one_batch_are_taken_in_order(control_plane: ScriptedControlPlane) -> None:
    """Several facts in one input are taken one after the other."""
    rollout_id = control_plane.publish("r1")

    assert control_plane.hear("web-01", rollout_id, ACK, STARTED) == EventsOutcome(2)
    assert control_plane.mirrored(rollout_id, "web-01").last_event_seq == 2


@pytest.mark.parametrize("rollout_id", ["stable@r9", "other@r1", "no rollout id", "", "@"])
def test_a_fact_of_an_unknown_or_malformed_rollout_is_refused(
    control_plane: ScriptedControlPlane, rollout_id: str
) -> None:
    """A fact of a rollout that is not known, well-formed or not, is refused by that name."""
    control_plane.publish("r1")
    rows = len(control_plane.log())
    outcome = control_plane.hear("web-01", rollout_id, ACK)

    assert outcome == EventsOutcome(0, RolloutUnknown(rollout_id))
    assert len(control_plane.log()) == rows


def test_a_fact_of_a_host_that_is_not_in_the_rollout_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that the manifest does not name has no record in the rollout."""
    rollout_id = control_plane.publish("r1")

    assert control_plane.hear("web-99", rollout_id, ACK) == EventsOutcome(
        0, RolloutUnknown(rollout_id)
    )


def test_a_fact_that_was_taken_before_is_accepted_and_changes_nothing(
    control_plane: ScriptedControlPlane,
) -> None:
    """A duplicate is answered like the first copy, and is no second row."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    before, rows = likeness(control_plane.state), len(control_plane.log())

    assert control_plane.hear("web-01", rollout_id, ACK) == EventsOutcome(1)
    assert (likeness(control_plane.state), len(control_plane.log())) == (before, rows)


def test_a_fact_repeated_within_a_batch_is_taken_once(control_plane: ScriptedControlPlane) -> None:
    """Two copies in one batch are both accepted, and one row."""
    rollout_id = control_plane.publish("r1")

    assert control_plane.hear("web-01", rollout_id, ACK, ACK) == EventsOutcome(2)
    assert len(control_plane.logged(FactReported)) == 1


def test_a_fact_after_a_gap_asks_for_a_replay_from_the_first_that_is_missing(
    control_plane: ScriptedControlPlane,
) -> None:
    """A fact that skips a number is not taken; the answer says from which on to send again."""
    rollout_id = control_plane.publish("r1")

    assert control_plane.hear("web-01", rollout_id, STARTED) == EventsOutcome(
        0, ReplayFrom(rollout_id, 1)
    )
    assert control_plane.logged(FactReported) == []


def test_what_comes_before_a_gap_in_a_batch_is_taken(control_plane: ScriptedControlPlane) -> None:
    """The row has all that was said, where it stopped, and why."""
    rollout_id = control_plane.publish("r1")
    completed = ActivationCompleted("r1-web-01", 0, START, seq=3)
    converged = Converged(START, "r1-web-01", seq=4)
    control_plane.hear("web-01", rollout_id, ACK)

    outcome = control_plane.hear("web-01", rollout_id, ACK, STARTED, converged)
    assert outcome == EventsOutcome(2, ReplayFrom(rollout_id, 3))
    assert [entry.fact for entry in control_plane.logged(FactReported)] == [ACK, STARTED]
    logged = entry_of(control_plane.rows()[-1]).entry
    assert isinstance(logged, FactsReported)
    assert (logged.facts, logged.stopped) == ((STARTED,), Stopped(4, "gap"))
    assert facts_of_payload(logged.payload.encode()) == (ACK, STARTED, converged)
    assert control_plane.hear("web-01", rollout_id, STARTED, completed) == EventsOutcome(2)


def test_another_fact_under_a_known_number_is_no_duplicate(
    control_plane: ScriptedControlPlane,
) -> None:
    """The first is durable and stays; the sender is told that its own is not, and nothing after it is taken."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)

    outcome = control_plane.hear("web-01", rollout_id, evolve(ACK, received_at=LATER), STARTED)
    assert outcome == EventsOutcome(0, SeqForked(rollout_id, 1))
    assert [entry.fact for entry in control_plane.logged(FactReported)] == [ACK]


def test_another_fact_under_the_number_of_a_refused_one_is_no_copy_of_it(
    control_plane: ScriptedControlPlane,
) -> None:
    """What is refused has used its number up."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, evolve(STARTED, seq=1))

    outcome = control_plane.hear("web-01", rollout_id, ACK)
    assert outcome == EventsOutcome(0, SeqForked(rollout_id, 1))


def test_a_fork_is_reported_to_the_operator_once(control_plane: ScriptedControlPlane) -> None:
    """However often the host repeats it."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    forked = AgentEventEnvelope("web-01", rollout_id, evolve(ACK, received_at=LATER))
    for _ in range(3):
        control_plane.ask(HostEvents("web-01", (forked,)))

    (logged,) = [it for it in control_plane.actions if isinstance(it, EmitLog)]
    why = f"it has told two facts of {rollout_id} by the number 1"
    assert dict(logged.fields) == {"host": "web-01", "why": why}


def test_a_fact_that_is_illegal_in_the_state_is_refused_by_name(
    control_plane: ScriptedControlPlane,
) -> None:
    """A fact that has no meaning in the host's state is refused in words, and nothing is logged."""
    rollout_id = control_plane.publish("r1")
    outcome = control_plane.hear("web-01", rollout_id, ActivationStarted(START, "directory", seq=1))

    assert outcome == EventsOutcome(
        0,
        EventRefused(
            rollout_id,
            1,
            "ActivationStarted is not legal from Pending (rollout stable@r1, host web-01, seq 1)",
        ),
    )
    assert control_plane.logged(FactReported) == []


def test_a_convergence_within_the_soak_is_refused_by_rule(
    control_plane: ScriptedControlPlane,
) -> None:
    """A Converged before the soak is over is refused, and the refusal names the rule."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    outcome = host.tell(lambda seq: Converged(control_plane.now, "r1-web-01", seq))

    refusal = outcome.stopped_by
    assert isinstance(refusal, EventRefused)
    assert (outcome.accepted, refusal.seq) == (0, 6)
    assert "Converged breaks rule soak-elapsed" in refusal.reason
    assert control_plane.states(rollout_id)["web-01"] is HostState.SOAKING


def test_a_refused_fact_within_a_batch_keeps_what_came_before_it(
    control_plane: ScriptedControlPlane,
) -> None:
    """Facts before a refused one are taken, and the refused one has its number."""
    rollout_id = control_plane.publish("r1")
    again = DispatchAck("release-0", START, seq=2)
    outcome = control_plane.hear("web-01", rollout_id, ACK, again)

    assert outcome.accepted == 1
    assert isinstance(outcome.stopped_by, EventRefused)
    assert len(control_plane.logged(FactReported)) == 1
    assert control_plane.mirrored(rollout_id, "web-01").last_event_seq == 2


def test_the_first_fact_of_a_rollout_whose_queue_is_empty_makes_the_host_join(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that reports before anybody was dispatched joins the rollout by that."""
    control_plane.publish("r0")
    control_plane.pause("stable")
    rollout_id = control_plane.publish("r1")
    assert control_plane.rollout(rollout_id).state is RolloutState.OPENING
    control_plane.hear("web-02", rollout_id, ACK)

    assert control_plane.rollout(rollout_id).state is RolloutState.ACTIVE
    joined = [each.event for each in control_plane.logged(RolloutMoved)][-1]
    assert joined == HostJoined(rollout_id, "web-02", 1, control_plane.now)


def test_a_rollout_event_that_changes_no_record_is_no_row(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that moves on without moving its rollout adds its fact to the log, and nothing else."""
    rollout_id = control_plane.publish("r1")
    rows = len(control_plane.log())
    control_plane.hear("web-01", rollout_id, ACK)

    assert [type(each.entry) for each in control_plane.log(rows)] == [FactReported]


def test_the_last_host_of_a_wave_that_converges_opens_the_next_wave(
    control_plane: ScriptedControlPlane,
) -> None:
    """When every host of the wave has converged the rollout advances and the next wave is dispatched."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").finish()

    advanced = [each.event for each in control_plane.logged(RolloutMoved)][-1]
    assert advanced == WaveAdvanced(rollout_id, 0, 1, control_plane.now)
    assert control_plane.queued() == [("web-02", rollout_id), ("web-03", rollout_id)]


def test_a_deferred_host_counts_as_done_for_the_next_wave(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that waits for its reboot does not hold up the wave after it."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.acknowledge()
    host.defer()

    assert control_plane.rollout(rollout_id).current_wave == 1


def test_all_hosts_converged_ends_the_rollout(control_plane: ScriptedControlPlane) -> None:
    """A rollout of which every host has converged is Terminal, since when the last did."""
    rollout_id = control_plane.publish("r1")
    for hostname in ("web-01", "web-02"):
        ScriptedHost(control_plane, rollout_id, hostname).finish()
    control_plane.wait(minutes=60)
    ScriptedHost(control_plane, rollout_id, "web-03").finish()

    record = control_plane.rollout(rollout_id)
    assert (record.state, record.terminal_at) == (RolloutState.TERMINAL, control_plane.now)


def test_a_failed_host_halts_the_rollout_and_a_late_revert_marks_it_reverted(
    control_plane: ScriptedControlPlane,
) -> None:
    """A failure halts the rollout as Failed; the rollback that ends later turns that into Reverted."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.fail()
    after_failure = control_plane.rollout(rollout_id).state
    host.roll_back()

    assert (after_failure, control_plane.rollout(rollout_id).state) == (
        RolloutState.FAILED,
        RolloutState.REVERTED,
    )
    changes = [each.event for each in control_plane.logged(RolloutMoved)][-2:]
    assert [type(change) for change in changes] == [HostStateChanged, HostStateChanged]


def test_a_rollback_that_failed_quarantines_nothing(control_plane: ScriptedControlPlane) -> None:
    """A host that could not go back stays Failed, and its closure is not quarantined."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.fail()
    host.roll_back(exit_code=1)

    assert control_plane.states(rollout_id)["web-01"] is HostState.FAILED
    assert dict(control_plane.state.quarantines) == {}


def test_a_fact_of_a_superseded_rollout_is_still_taken(control_plane: ScriptedControlPlane) -> None:
    """A host that is still busy with an older rollout is heard; the rollout's record does not move."""
    first = control_plane.publish("r1")
    host = ScriptedHost(control_plane, first, "web-01")
    host.acknowledge()
    control_plane.publish("r2")
    host.start()
    host.break_down()

    assert control_plane.states(first)["web-01"] is HostState.FAILED
    assert control_plane.rollout(first).state is RolloutState.SUPERSEDED


def test_a_dispatch_that_was_made_before_its_acknowledgement_keeps_its_times(
    control_plane: ScriptedControlPlane,
) -> None:
    """An acknowledgement leaves the dispatch's own times and soak window as they were."""
    rollout_id = control_plane.publish("r1")
    control_plane.wait(minutes=1)
    ScriptedHost(control_plane, rollout_id, "web-01").acknowledge()

    record = control_plane.mirrored(rollout_id, "web-01")
    assert (record.dispatched_at, record.soak_due_at) == (START, START + timedelta(minutes=5))


def test_failing_controls_hold_the_next_wave_until_they_pass(
    control_plane: ScriptedControlPlane,
) -> None:
    """While an enforce control of an earlier wave fails nobody of a later one is dispatched."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.probe(ProbeStatus.PASS, ProbeMode.ENFORCE, _control("A", ProbeStatus.FAIL))
    control_plane.wait(minutes=5)
    host.converge()

    assert _gates_of(control_plane) == {Gate.COMPLIANCE_WAVE}


def test_a_later_pass_of_a_control_clears_its_failure(control_plane: ScriptedControlPlane) -> None:
    """A control that failed and passes again is outstanding no more."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.probe(ProbeStatus.FAIL, ProbeMode.ENFORCE, _control("A", ProbeStatus.FAIL))
    host.probe(ProbeStatus.PASS, ProbeMode.ENFORCE, _control("A", ProbeStatus.PASS))

    assert not any(control_plane.state.outstanding.values())


def test_controls_of_one_name_in_two_frameworks_are_two_controls(
    control_plane: ScriptedControlPlane,
) -> None:
    """Controls that share a name but not a framework fail, and pass again, each for itself."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    failing = [_control("4.1", ProbeStatus.FAIL, name) for name in ("iso-27001", "nis2")]
    host.probe(ProbeStatus.FAIL, ProbeMode.ENFORCE, *failing)
    passing = _control("4.1", ProbeStatus.PASS, "nis2")
    host.probe(ProbeStatus.FAIL, ProbeMode.ENFORCE, passing)

    (controls,) = control_plane.state.outstanding.values()
    assert [(each.control_id, each.framework) for each in controls] == [("4.1", "iso-27001")]
    assert control_plane.check_store().differences == ()


def test_a_probe_that_could_not_run_is_cleared_by_a_run_that_reports_controls(
    control_plane: ScriptedControlPlane,
) -> None:
    """A failure of the probe as a whole is over once the probe runs and reports its controls."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.probe(ProbeStatus.FAIL)
    host.probe(ProbeStatus.PASS, ProbeMode.ENFORCE, _control("A", ProbeStatus.PASS))

    assert not any(control_plane.state.outstanding.values())


@pytest.mark.parametrize("mode", [ProbeMode.OBSERVE, ProbeMode.DISABLED])
def test_a_failure_that_is_only_observed_is_not_outstanding(
    control_plane: ScriptedControlPlane, mode: ProbeMode
) -> None:
    """Probes that do not enforce never hold anybody."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.probe(ProbeStatus.FAIL, mode)

    assert not any(control_plane.state.outstanding.values())


def test_a_control_that_does_not_enforce_is_not_outstanding_though_its_probe_does(
    control_plane: ScriptedControlPlane,
) -> None:
    """A control may be excepted from what its probe enforces."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    excepted = ProbeSubResult(
        "A", ProbeStatus.FAIL, "nis2", effective_mode=ProbeMode.OBSERVE, override_reason="planned"
    )
    host.probe(ProbeStatus.FAIL, ProbeMode.ENFORCE, excepted)

    assert not any(control_plane.state.outstanding.values())


def test_a_host_that_soaks_without_its_topology_holds_the_next_wave(
    control_plane: ScriptedControlPlane,
) -> None:
    """Nobody of a later wave goes before the hosts of earlier ones have declared their probes."""
    rollout_id = control_plane.publish(
        "r1", Layout(waves=(("web-01",), ("web-02",)), soak_minutes=0)
    )
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.acknowledge()
    host.start()
    host.complete()
    host.converge()

    assert _gates_of(control_plane) == {Gate.PROBE_TOPOLOGY}


def test_a_probe_name_stands_for_the_probe_in_the_view_of_failures(
    control_plane: ScriptedControlPlane,
) -> None:
    """A failing probe without controls is outstanding under its own name."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    host.probe(ProbeStatus.FAIL)

    (controls,) = control_plane.state.outstanding.values()
    assert [(each.probe_name, each.control_id) for each in controls] == [(PROBE, None)]


def _control(control_id: str, status: ProbeStatus, framework: str = "nis2") -> ProbeSubResult:
    return ProbeSubResult(control_id, status, framework)


def _gates_of(control_plane: ScriptedControlPlane) -> set[Gate]:
    deferrals: list[DeferDispatch] = list(control_plane.state.deferrals.values())
    return {deferral.gate for deferral in deferrals}


def soaking_host(control_plane: ScriptedControlPlane) -> ScriptedHost:
    """A host whose probes have begun to run."""
    host = ScriptedHost(control_plane, control_plane.publish("r1"), "web-01")
    host.acknowledge()
    host.start()
    host.complete()
    host.declare(ProbeMode.OBSERVE)
    return host


def test_a_record_holds_no_more_probes_than_a_limit(control_plane: ScriptedControlPlane) -> None:
    """Another probe is refused and logged as such; those that are known go on."""
    host = soaking_host(control_plane)

    def result(index: int) -> Callable[[int], ProbeResult]:
        return lambda seq: ProbeResult(
            f"probe-{index}", ProbeMode.OBSERVE, ProbeStatus.PASS, START, seq=seq
        )

    assert all(host.tell(result(index)) == EventsOutcome(1) for index in range(PROBES_MAX))
    refused = host.tell(result(PROBES_MAX)).stopped_by
    assert isinstance(refused, EventRefused)
    assert refused.reason == "expected at most 256 probes, found another one, 'probe-256'"
    assert host.tell(result(0)) == EventsOutcome(1)
    assert len(control_plane.mirrored(host.rollout_id, "web-01").probes) == PROBES_MAX


def test_a_host_fails_no_more_controls_than_a_limit(control_plane: ScriptedControlPlane) -> None:
    """Names that a host makes up for each result do not add up without end."""
    host = soaking_host(control_plane)

    def result(round_: int) -> Callable[[int], ProbeResult]:
        found = tuple(
            ProbeSubResult(f"{round_}-{index}", ProbeStatus.FAIL, "own") for index in range(1024)
        )
        return lambda seq: ProbeResult(
            PROBE, ProbeMode.ENFORCE, ProbeStatus.FAIL, START, None, found, seq=seq
        )

    assert host.tell(result(0)) == EventsOutcome(1)
    outcomes = [host.tell(result(round_)).stopped_by for round_ in (1, 2)]
    assert isinstance(outcomes[-1], EventRefused)
    assert outcomes[-1].reason.startswith("expected at most 2048 failing controls")
