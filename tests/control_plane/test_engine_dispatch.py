"""The engine hands out dispatches, takes them back, and says why a host gets none."""

from datetime import timedelta

from nixfleet_control_plane.messages.inputs import ExplainHost, Explanation, WakeHost
from nixfleet_control_plane.messages.log_entry import Deferred, Planned
from nixfleet_proto.agent_event import ActivationStarted, Converged, DispatchAck
from nixfleet_proto.fleet import Edge
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    QueueDispatch,
    WithdrawDispatch,
)
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost

PAIR = Layout(waves=(("web-01", "web-02"),))
SOAK = timedelta(minutes=5)


def test_a_host_that_may_go_is_handed_its_dispatch(control_plane: ScriptedControlPlane) -> None:
    """A poll answers with closure, end of the soak, and when the dispatch was made."""
    rollout_id = control_plane.publish("r1")

    assert control_plane.dispatch_of("web-01") == Dispatch(
        "web-01", rollout_id, "r1-web-01", START + SOAK, START
    )


def test_a_host_that_has_to_wait_is_handed_nothing(control_plane: ScriptedControlPlane) -> None:
    """A poll of a host of a later wave finds no dispatch."""
    control_plane.publish("r1")

    assert control_plane.dispatch_of("web-02") is None


def test_a_host_that_nobody_knows_is_handed_nothing(control_plane: ScriptedControlPlane) -> None:
    """A poll of a host without a rollout finds no dispatch."""
    assert control_plane.dispatch_of("web-99") is None


def test_a_poll_writes_nothing(control_plane: ScriptedControlPlane) -> None:
    """Polling leaves no trace in the log."""
    control_plane.publish("r1")
    rows = len(control_plane.log())
    control_plane.dispatch_of("web-01")

    assert len(control_plane.log()) == rows


def test_a_queued_dispatch_wakes_its_host_by_name(control_plane: ScriptedControlPlane) -> None:
    """After the commit the pollers of the dispatched hosts are woken, and nobody else's."""
    control_plane.publish("r1")

    wakes = [action for action in control_plane.actions if isinstance(action, WakeHost)]
    assert wakes == [WakeHost("web-01")]


def test_a_dispatch_is_handed_out_until_it_is_acknowledged(
    control_plane: ScriptedControlPlane,
) -> None:
    """The same dispatch is the answer to every poll before its acknowledgement, and to none after it."""
    rollout_id = control_plane.publish("r1")
    polls = [control_plane.dispatch_of("web-01"), control_plane.dispatch_of("web-01")]
    ScriptedHost(control_plane, rollout_id, "web-01").acknowledge()

    assert polls[0] is not None
    assert polls[0] == polls[1]
    assert control_plane.dispatch_of("web-01") is None


def test_a_refused_acknowledgement_leaves_the_dispatch_in_the_queue(
    control_plane: ScriptedControlPlane,
) -> None:
    """Only an acknowledgement that is durable takes a dispatch out of the queue."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ActivationStarted(START, "directory", seq=1))

    assert control_plane.queued() == [("web-01", rollout_id)]


def test_a_halt_takes_back_what_was_not_acknowledged(control_plane: ScriptedControlPlane) -> None:
    """When a host fails, the dispatches that still wait in its rollout are withdrawn, and the log says why."""
    rollout_id = control_plane.publish("r1", PAIR)
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.acknowledge()
    host.break_down()

    assert control_plane.queued() == []
    withdrawn = control_plane.logged(Planned)[-1].action
    assert withdrawn == WithdrawDispatch(
        "web-02",
        rollout_id,
        Gate.ROLLOUT_HALTED,
        "rollout stable@r1 is halted until an operator clears it",
    )


def test_a_pause_takes_back_what_was_not_acknowledged(control_plane: ScriptedControlPlane) -> None:
    """An operator's pause withdraws the dispatches that still wait, in one commit with the pause."""
    control_plane.publish("r1", PAIR)
    control_plane.pause("stable")

    assert control_plane.queued() == []
    assert control_plane.dispatch_of("web-01") is None


def test_a_quarantine_takes_back_dispatches_of_its_closure(
    control_plane: ScriptedControlPlane,
) -> None:
    """A closure that is quarantined by a host of an older rollout is not handed out by a newer one."""
    same = Layout(waves=(("web-01", "web-02"),), closure="bad")
    first = control_plane.publish("r1", same)
    host = ScriptedHost(control_plane, first, "web-01")
    host.soak()
    second = control_plane.publish("r2", same)
    assert control_plane.queued() == [("web-01", second), ("web-02", second)]
    host.fail()
    host.roll_back()

    assert control_plane.queued() == []
    reasons = {deferral.gate for deferral in control_plane.state.deferrals.values()}
    assert reasons == {Gate.QUARANTINE}


def test_a_successor_takes_back_what_was_not_acknowledged(
    control_plane: ScriptedControlPlane,
) -> None:
    """A newer rollout withdraws the dispatches of the one before; each host is handed the newer one."""
    control_plane.publish("r1", PAIR)
    second = control_plane.publish("r2", PAIR)

    assert control_plane.queued() == [("web-01", second), ("web-02", second)]


def test_an_acknowledgement_after_the_withdrawal_is_accepted(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that had its dispatch before it was withdrawn acts on the signed manifest, and is heard."""
    rollout_id = control_plane.publish("r1", PAIR)
    control_plane.pause("stable")
    ScriptedHost(control_plane, rollout_id, "web-01").acknowledge()

    assert control_plane.states(rollout_id)["web-01"] is HostState.ACTIVATING


def test_an_acknowledgement_after_the_withdrawal_counts_as_in_flight(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that goes though its dispatch was withdrawn takes a slot like any other."""
    layout = Layout(waves=(("web-01", "web-02"),), max_in_flight=1)
    rollout_id = control_plane.publish("r1", layout)
    control_plane.pause("stable")
    ScriptedHost(control_plane, rollout_id, "web-01").acknowledge()
    control_plane.resume("stable")

    assert control_plane.queued() == []
    (deferral,) = control_plane.state.deferrals.values()
    assert deferral.gate is Gate.DISRUPTION_BUDGET


def test_a_dispatch_that_is_queued_again_is_the_same_as_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """Withdrawn and queued again, a dispatch keeps its times: the host may have the first copy."""
    control_plane.publish("r1")
    first = control_plane.dispatch_of("web-01")
    control_plane.pause("stable")
    control_plane.wait(minutes=3)
    control_plane.resume("stable")

    assert control_plane.dispatch_of("web-01") == first


def test_a_host_that_went_by_the_first_copy_converges_by_its_soak_window(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that acknowledged before its dispatch was queued again is judged by the window it was given."""
    rollout_id = control_plane.publish("r1")
    control_plane.wait(minutes=1)
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    facts = [host.live(lambda seq: DispatchAck("release-0", control_plane.now, seq))]
    control_plane.pause("stable")
    control_plane.wait(minutes=1)
    control_plane.resume("stable")
    control_plane.hear("web-01", rollout_id, *facts)
    host.start()
    host.complete()
    control_plane.now += SOAK
    outcome = host.tell(lambda seq: Converged(control_plane.now, "r1-web-01", seq))

    assert outcome == EventsOutcome(1)
    assert control_plane.mirrored(rollout_id, "web-01").dispatched_at == START


def test_a_dispatch_made_after_its_acknowledgement_takes_its_time_from_that(
    control_plane: ScriptedControlPlane,
) -> None:
    """A rebuilt control plane that hears an old acknowledgement dates its dispatch back to that."""
    control_plane.publish("r1")
    control_plane.destroy_control_plane()
    control_plane.wait(minutes=60)
    rollout_id = control_plane.publish("r1")
    received_at = START + timedelta(minutes=1)
    control_plane.hear("web-01", rollout_id, DispatchAck("release-0", received_at, seq=1))

    assert control_plane.mirrored(rollout_id, "web-01").dispatched_at == received_at


def test_a_convergence_that_is_told_again_is_taken_by_a_rebuilt_control_plane(
    control_plane: ScriptedControlPlane,
) -> None:
    """What a host converged by, a dispatch older than its acknowledgement, is not known any more, and trusted."""
    rollout_id = control_plane.publish("r1")
    control_plane.wait(minutes=4)
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    control_plane.wait(minutes=SOAK // timedelta(minutes=1))
    host.converge()
    control_plane.destroy_control_plane()
    control_plane.wait(minutes=1)
    control_plane.publish("r1")
    outcome = control_plane.hear("web-01", rollout_id, *host.facts)

    assert outcome == EventsOutcome(len(host.facts))
    assert control_plane.states(rollout_id)["web-01"] is HostState.CONVERGED


def test_a_full_budget_lets_the_next_host_go_when_one_is_through(
    control_plane: ScriptedControlPlane,
) -> None:
    """With one slot the second host is dispatched when the first has converged, not before."""
    layout = Layout(waves=(("web-01", "web-02"),), max_in_flight=1)
    rollout_id = control_plane.publish("r1", layout)
    before = control_plane.queued()
    ScriptedHost(control_plane, rollout_id, "web-01").finish()

    assert before == [("web-01", rollout_id)]
    assert control_plane.queued() == [("web-02", rollout_id)]


def test_a_host_edge_lets_the_gated_host_go_when_the_gating_one_is_through(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host that is gated by another is dispatched once that one has converged."""
    layout = Layout(waves=(("web-01", "web-02"),), edges=(Edge("web-01", "web-02"),))
    rollout_id = control_plane.publish("r1", layout)
    before = control_plane.queued()
    ScriptedHost(control_plane, rollout_id, "web-01").finish()

    assert before == [("web-01", rollout_id)]
    assert control_plane.queued() == [("web-02", rollout_id)]


def test_a_channel_goes_when_the_one_before_it_is_done(
    control_plane: ScriptedControlPlane,
) -> None:
    """A channel that waits for another is dispatched when that one's rollout is Terminal."""
    first = control_plane.publish("r1", Layout(waves=(("web-01",),)))
    late = control_plane.publish(
        "r1", Layout(waves=(("db-01",),), channel="late", after=("stable",))
    )
    before = control_plane.queued()
    ScriptedHost(control_plane, first, "web-01").finish()

    assert before == [("web-01", first)]
    assert control_plane.queued() == [("db-01", late)]


def test_a_reason_to_wait_is_logged_once(control_plane: ScriptedControlPlane) -> None:
    """A host that waits for the same reason tick after tick has one row that says so."""
    rollout_id = control_plane.publish("r1")
    for _ in range(3):
        control_plane.wait(minutes=1)
        control_plane.tick()

    assert control_plane.logged(Deferred) == [
        Deferred(DeferDispatch(host, rollout_id, Gate.WAVE_PROMOTION, "wave 1 waits for wave 0"))
        for host in ("web-02", "web-03")
    ]


def test_a_new_reason_to_wait_is_a_new_row(control_plane: ScriptedControlPlane) -> None:
    """When the gate that holds a host is another one, the log says so."""
    control_plane.publish("r1")
    rows = len(control_plane.log())
    control_plane.pause("stable")

    gates = {(each.action.host, each.action.gate) for each in control_plane.logged(Deferred, rows)}
    assert gates == {(host, Gate.OPERATOR_HOLD) for host in ("web-01", "web-02", "web-03")}


def test_a_restart_repeats_no_reason(control_plane: ScriptedControlPlane) -> None:
    """A control plane that starts again knows what it has said."""
    control_plane.publish("r1")
    rows = len(control_plane.log())
    control_plane.restart_control_plane()
    control_plane.tick()

    assert control_plane.log(rows) == ()


def test_a_host_that_goes_waits_no_more(control_plane: ScriptedControlPlane) -> None:
    """A dispatched host has no reason to wait on record."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").finish()

    assert dict(control_plane.state.deferrals) == {}


def test_a_dispatch_is_logged_with_its_closure_and_soak(
    control_plane: ScriptedControlPlane,
) -> None:
    """The log says who was dispatched to what, and until when it soaks."""
    rollout_id = control_plane.publish("r1")

    assert Planned(QueueDispatch("web-01", rollout_id, "r1-web-01", START + SOAK)) in (
        control_plane.logged(Planned)
    )


def test_an_operator_is_told_every_gate_that_holds_a_host(
    control_plane: ScriptedControlPlane,
) -> None:
    """An explanation names all gates that hold a host, in order, not only the first."""
    rollout_id = control_plane.publish("r1")
    control_plane.pause("stable")
    explanation = control_plane.ask_for(Explanation, ExplainHost("web-02"))

    assert [block.gate for block in explanation.blocks[rollout_id]] == [
        Gate.OPERATOR_HOLD,
        Gate.WAVE_PROMOTION,
    ]


def test_an_operator_is_told_nothing_of_a_host_that_does_not_wait(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host with a dispatch, and one that nobody knows, are held by nothing."""
    control_plane.publish("r1")

    for hostname in ("web-01", "web-99"):
        assert control_plane.ask_for(Explanation, ExplainHost(hostname)).blocks == {}


def test_a_release_right_after_a_restart_leaves_nobody_waiting_in_the_rollout_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """Hosts of a rollout that a plan supersedes are not told why they wait by that same plan."""
    control_plane.publish("r1")
    control_plane.restart_control_plane()
    rows = len(control_plane.log())
    second = control_plane.publish("r2")

    assert {rollout_id for rollout_id, _ in control_plane.state.deferrals} == {second}
    assert {each.action.rollout_id for each in control_plane.logged(Deferred, rows)} == {second}


def test_a_host_that_changed_channels_is_handed_the_newer_dispatch_also_after_a_restart(
    control_plane: ScriptedControlPlane,
) -> None:
    """Of two dispatches that wait for a host the one that was made last is handed out."""
    control_plane.publish("r1")
    newer = control_plane.publish("r1", Layout(waves=(("web-01",),), channel="late"))
    handed_out = [control_plane.dispatch_of("web-01")]
    control_plane.restart_control_plane()
    handed_out.append(control_plane.dispatch_of("web-01"))

    assert [None if each is None else each.rollout_id for each in handed_out] == [newer, newer]
