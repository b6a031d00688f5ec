"""`plan_next`: what opens, who goes, who waits, and whose dispatch is taken back."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.pauses import pause
from tests.planner.builders import (
    NOW,
    host_of,
    open_rollout,
    put,
    rollout_of,
    terms_of,
    view_of,
)


def test_planning_an_empty_fleet_decides_nothing() -> None:
    """Where there is nothing, nothing is due."""
    assert plan_next(FleetView(UndoLog()), {}, NOW) == ()


def test_planning_opens_what_manifests_name_and_no_record_has() -> None:
    """A rollout is opened once, whatever became of it; by channel, not by id."""
    view = FleetView(UndoLog())
    for rollout_id in ("ops-eu@b2", "ops@b2", "app@b2"):
        view.offer(terms_of(rollout_id))
    done = terms_of("app@b2")
    open_rollout(view, done)
    view.set_rollout(rollout_of(done, RolloutState.TERMINAL))

    assert plan_next(view, {}, NOW) == (
        OpenRollout(RolloutId("ops@b2"), "ops", "b2"),
        OpenRollout(RolloutId("ops-eu@b2"), "ops-eu", "b2"),
    )


def test_planning_answers_rollouts_by_id_and_hosts_by_name() -> None:
    """Rollouts come in the order of their ids, in which `-` is before `@`; hosts in that of their names."""
    app = terms_of("ops@b2", waves=(("web-2", "web-10"),))
    view = view_of(app, terms_of("ops-eu@b2", waves=(("web-3",),)))

    answers = [each for each in plan_next(view, {}, NOW) if isinstance(each, QueueDispatch)]

    assert [(answer.rollout_id, answer.host) for answer in answers] == [
        ("ops-eu@b2", "web-3"),
        ("ops@b2", "web-10"),
        ("ops@b2", "web-2"),
    ]


def test_planning_lets_a_host_go_with_its_closure_and_the_soak_of_its_wave() -> None:
    """A dispatch says what to run, and until when the host soaks, from now."""
    terms = terms_of(waves=(("web-1",), ("web-2",)), soak_minutes=(5, 30))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, wave=1))
    put(view, terms, web_1=HostState.CONVERGED)

    assert plan_next(view, {}, NOW) == (
        QueueDispatch("web-2", terms.rollout_id, "a1-web-2", NOW + timedelta(minutes=30)),
    )


def test_planning_keeps_the_soak_that_a_record_has() -> None:
    """A record that says until when its host soaks is taken at its word."""
    terms = terms_of(waves=(("web-1",),))
    view = view_of(terms)
    due = NOW + timedelta(hours=1)
    view.set_host(evolve(host_of(terms, "web-1"), soak_due_at=due))

    assert plan_next(view, {}, NOW) == (QueueDispatch("web-1", terms.rollout_id, "a1-web-1", due),)


def test_planning_leaves_out_hosts_that_do_not_wait() -> None:
    """A host that is queued, acknowledged, or further on is not answered."""
    terms = terms_of(waves=(("web-1", "web-2", "web-3"),))
    view = view_of(terms)
    view.set_queued(terms.rollout_id, "web-1", True)
    view.set_host(evolve(host_of(terms, "web-2"), dispatch_acked_at=NOW))
    put(view, terms, web_3=HostState.FAILED)

    assert plan_next(view, {}, NOW) == ()


@pytest.mark.parametrize(
    "state", [RolloutState.TERMINAL, RolloutState.SUPERSEDED, RolloutState.PRUNED]
)
def test_planning_leaves_out_rollouts_that_are_over(state: RolloutState) -> None:
    """Nobody waits in a rollout that is over."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, state))

    assert plan_next(view, {}, NOW) == ()


def test_planning_tells_the_hosts_of_a_halted_rollout_why_they_wait() -> None:
    """A halted rollout is not over: its hosts are answered, and go nowhere."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, RolloutState.FAILED))

    answers = plan_next(view, {}, NOW)

    reason = "rollout stable@a1 is halted until an operator clears it"
    assert answers == tuple(
        DeferDispatch(host, terms.rollout_id, Gate.ROLLOUT_HALTED, reason)
        for host in ("web-1", "web-2")
    )


def test_planning_does_not_change_the_view() -> None:
    """A whole plan may be asked for at any time, and twice."""
    view = view_of(terms_of())

    assert plan_next(view, {}, NOW) == plan_next(view, {}, NOW)


def _queued() -> FleetView:
    view = view_of(terms_of(waves=(("web-1",),)))
    view.set_queued(RolloutId("stable@a1"), "web-1", True)
    return view


def _withdrawn(gate: Gate, reason: str) -> tuple[WithdrawDispatch]:
    return (WithdrawDispatch("web-1", RolloutId("stable@a1"), gate, reason),)


def test_planning_takes_back_a_queued_dispatch_of_a_halted_rollout() -> None:
    """A halt counts for what is queued already."""
    view = _queued()
    view.set_rollout(rollout_of(terms_of(), RolloutState.REVERTED))

    assert plan_next(view, {}, NOW) == _withdrawn(
        Gate.ROLLOUT_HALTED, "rollout stable@a1 is halted until an operator clears it"
    )


@pytest.mark.parametrize(
    ("scope", "words"), [("stable", "channel stable"), ("stable@a1", "rollout stable@a1")]
)
def test_planning_takes_back_a_queued_dispatch_in_a_paused_scope(scope: str, words: str) -> None:
    """A pause counts for what is queued already."""
    view = _queued()
    pause(view, scope)

    assert plan_next(view, {}, NOW) == _withdrawn(Gate.OPERATOR_HOLD, f"an operator paused {words}")


def test_planning_takes_back_a_queued_dispatch_of_a_superseded_rollout() -> None:
    """A successor counts for what is queued already."""
    view = _queued()
    view.set_rollout(rollout_of(terms_of(), RolloutState.SUPERSEDED))

    assert plan_next(view, {}, NOW) == _withdrawn(
        Gate.ROLLOUT_HALTED, "rollout stable@a1 is Superseded"
    )


def test_planning_takes_back_a_queued_dispatch_of_a_quarantined_closure() -> None:
    """A quarantine counts for what is queued already."""
    assert plan_next(_queued(), {"stable": {"a1-web-1"}}, NOW) == _withdrawn(
        Gate.QUARANTINE, "closure a1-web-1 is quarantined on channel stable; release another one"
    )


def test_planning_leaves_alone_what_was_acknowledged() -> None:
    """An acknowledgement that was on its way is accepted: the host acts on the signed manifest."""
    view = _queued()
    put(view, terms_of(), web_1=HostState.ACTIVATING)
    pause(view, "stable")

    assert plan_next(view, {}, NOW) == ()


def test_planning_leaves_alone_what_is_queued_when_a_gate_of_order_holds() -> None:
    """Waves, edges and budgets decide who is queued, not who stays so."""
    view = _queued()
    view.offer(terms_of("infra@c3"))
    view.offer(terms_of(predecessors=("infra",)))

    actions = plan_next(view, {}, NOW)

    assert [type(action) for action in actions] == [OpenRollout]
