"""`replan`: after a change, the hosts it concerns are answered anew, and nobody else."""

import pytest

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next, replan
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.pauses import pause, resume
from tests.planner.builders import (
    NOW,
    budget,
    carry_out,
    host_of,
    put,
    rollout_of,
    terms_of,
    view_of,
)

CROWD = tuple(f"web-{number:03}" for number in range(500))


def _replan(view: FleetView) -> tuple[PlanAction, ...]:
    actions = replan(view, {}, NOW)
    carry_out(view, actions)
    return actions


def _told(actions: tuple[PlanAction, ...]) -> dict[str, Gate | None]:
    answers = [action for action in actions if isinstance(action, QueueDispatch | DeferDispatch)]
    return {each.host: each.gate if isinstance(each, DeferDispatch) else None for each in answers}


def test_replanning_for_the_first_time_answers_everybody() -> None:
    """Everything in a view that was just loaded counts as changed."""
    view = view_of(terms_of(waves=(CROWD,), budgets=(budget(3, *CROWD),)))

    assert replan(view, {}, NOW) == plan_next(view, {}, NOW)


def test_replanning_when_nothing_happened_says_nothing() -> None:
    """Once everybody was answered, there is nothing left to say."""
    view = view_of(terms_of(waves=(CROWD,), budgets=(budget(3, *CROWD),)))
    _replan(view)

    assert _replan(view) == ()


def test_replanning_after_one_host_finished_lets_the_next_one_go_and_tells_nobody_else() -> None:
    """A freed slot goes to the next host by name; all the others wait for what they waited for."""
    terms = terms_of(waves=(CROWD,), budgets=(budget(3, *CROWD),))
    view = view_of(terms)
    _replan(view)
    view.set_queued(terms.rollout_id, "web-001", False)
    put(view, terms, web_001=HostState.CONVERGED)

    assert _told(_replan(view)) == {"web-003": None}
    assert _replan(view) == ()


def test_replanning_after_a_promotion_answers_the_wave_that_was_reached() -> None:
    """The hosts of the new current wave hear anew; those of later waves do not."""
    terms = terms_of(waves=(("web-1",), ("web-2", "web-3"), ("web-4",)))
    view = view_of(terms)
    _replan(view)
    put(view, terms, web_1=HostState.CONVERGED)
    view.set_rollout(rollout_of(terms, wave=1))

    assert _told(_replan(view)) == {"web-2": None, "web-3": None}


def test_replanning_after_a_gating_host_is_done_answers_the_host_it_gates() -> None:
    """An edge wakes the host at its end."""
    terms = terms_of(waves=(("db-1", "web-1", "web-2"),), edges=(("db-1", "web-1"),))
    view = view_of(terms)
    assert _told(_replan(view))["web-1"] is Gate.HOST_EDGE
    view.set_queued(terms.rollout_id, "db-1", False)
    put(view, terms, db_1=HostState.DEFERRED)

    assert _told(_replan(view)) == {"web-1": None}


def test_replanning_after_a_gating_host_was_excused_answers_the_host_it_gates() -> None:
    """A clearance wakes whoever waits for the hosts that it excuses, and nobody else."""
    terms = terms_of(
        waves=(("db-1", "db-2", "web-1", "web-2"),), edges=(("db-1", "web-1"), ("db-2", "web-2"))
    )
    view = view_of(terms)
    _replan(view)
    for name in ("db-1", "db-2"):
        view.set_queued(terms.rollout_id, name, False)
    put(view, terms, db_1=HostState.FAILED, db_2=HostState.ACTIVATING)
    view.set_rollout(rollout_of(terms, excused={"db-1"}))

    assert _told(_replan(view)) == {"web-1": None}


def test_replanning_after_an_excused_gating_host_reverted_says_nothing() -> None:
    """What becomes of an excused host is nothing to those that waited for it."""
    terms = terms_of(waves=(("db-1", "web-1"),), edges=(("db-1", "web-1"),))
    view = view_of(terms)
    put(view, terms, db_1=HostState.FAILED)
    view.set_rollout(rollout_of(terms, excused={"db-1"}))
    assert _told(_replan(view)) == {"web-1": None}
    put(view, terms, db_1=HostState.REVERTED)

    assert _replan(view) == ()


def _view_without(unheard: str, terms: RolloutTerms) -> FleetView:
    """Return a view in which everybody was answered, and of one host nothing is known."""
    view = FleetView(UndoLog())
    view.open(rollout_of(terms), terms)
    for name in {*terms.targets} - {unheard}:
        view.set_host(host_of(terms, name))
    _replan(view)
    return view


@pytest.mark.parametrize(
    ("first_state", "answered"), [(HostState.CONVERGED, "web-1"), (HostState.PENDING, "db-1")]
)
def test_replanning_after_the_first_record_of_a_gating_host_answers_whom_it_changes_something_for(
    first_state: HostState, answered: str
) -> None:
    """A gating host that appears and is done wakes whoever waits for it; one that appears and waits does not."""
    terms = terms_of(waves=(("db-1", "web-1"),), edges=(("db-1", "web-1"),))
    view = _view_without("db-1", terms)
    put(view, terms, db_1=first_state)

    assert _told(_replan(view)) == {answered: None}


def test_replanning_after_a_gating_host_without_a_record_was_excused_answers_the_host_it_gates() -> (
    None
):
    """A host that was never heard of can be excused as well, and whoever waits for it goes."""
    terms = terms_of(waves=(("db-1", "web-1"),), edges=(("db-1", "web-1"),))
    view = _view_without("db-1", terms)
    view.set_rollout(rollout_of(terms, excused={"db-1"}))

    assert _told(_replan(view)) == {"web-1": None}


def test_replanning_after_an_earlier_wave_changed_answers_the_hosts_of_later_ones() -> None:
    """What fails, or is silent, in an earlier wave is told to whoever waits behind it, and so is its end."""
    terms = terms_of(waves=(("db-1",), ("web-1",)))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, wave=1))
    view.set_host(host_of(terms, "db-1", HostState.SOAKING, declared=None))
    told = [_told(_replan(view))]
    for failing in (1, 0):
        view.set_outstanding(terms.rollout_id, "db-1", failing)
        told.append(_told(_replan(view)))
    put(view, terms, db_1=HostState.SOAKING)
    told.append(_told(_replan(view)))

    assert told == [
        {"web-1": Gate.PROBE_TOPOLOGY},
        {"web-1": Gate.COMPLIANCE_WAVE},
        {"web-1": Gate.PROBE_TOPOLOGY},
        {"web-1": None},
    ]


def test_replanning_after_a_waiting_host_failed_a_control_says_nothing() -> None:
    """A host that waits for something else, and holds nobody, need not hear of it."""
    terms = terms_of()
    view = view_of(terms)
    pause(view, "stable")
    _replan(view)
    view.set_outstanding(terms.rollout_id, "web-1", 1)

    assert _replan(view) == ()


def test_replanning_after_a_quarantine_was_cleared_answers_the_hosts_of_that_closure() -> None:
    """A closure that may be handed out again wakes those that are to get it."""
    terms = terms_of()
    view = view_of(terms)
    quarantined = replan(view, {"stable": {"a1-web-1", "a1-web-2"}}, NOW)
    assert set(_told(quarantined).values()) == {Gate.QUARANTINE}
    view.quarantine_changed("stable", "a1-web-2")

    assert _told(replan(view, {"stable": {"a1-web-1"}}, NOW)) == {"web-2": None}


def test_replanning_after_a_predecessor_is_done_answers_its_followers() -> None:
    """A channel edge wakes the channel at its end."""
    infra = terms_of("infra@c3", waves=(("db-1",),))
    view = view_of(infra, terms_of(predecessors=("infra",)))
    _replan(view)
    view.set_rollout(rollout_of(infra, RolloutState.TERMINAL))

    told = _told(_replan(view))

    assert told == {"web-1": None, "web-2": None}


def test_replanning_after_a_pause_takes_back_what_is_queued_and_tells_who_waits() -> None:
    """A pause takes back the dispatches of its scope, and then says why those hosts wait."""
    terms = terms_of(waves=(("web-1", "web-2"),), budgets=(budget(1, "web-1", "web-2"),))
    view = view_of(terms)
    _replan(view)
    pause(view, "stable", "ann: power cut")
    actions = _replan(view)

    reason = "an operator paused channel stable: ann: power cut"
    assert actions == (
        WithdrawDispatch("web-1", terms.rollout_id, Gate.OPERATOR_HOLD, reason),
        DeferDispatch("web-2", terms.rollout_id, Gate.OPERATOR_HOLD, reason),
    )
    assert _told(_replan(view)) == {"web-1": Gate.OPERATOR_HOLD}


def test_replanning_after_an_offer_opens_the_rollout_once() -> None:
    """A manifest is answered when it comes, not at every plan until its rollout is there."""
    view = view_of(terms_of())
    _replan(view)
    successor = terms_of("stable@b2")
    view.offer(successor)

    assert _replan(view) == (OpenRollout(successor.rollout_id, "stable", "b2"),)
    view.open(rollout_of(successor), successor)
    view.offer(successor)
    assert _replan(view) == ()


def test_replanning_when_a_dispatch_takes_the_last_slot_tells_those_behind_it_in_the_same_plan() -> (
    None
):
    """Hosts held by a later gate hear of the budget when it fills up before their turn, not when after."""
    names = ("web-1", "web-2", "web-3")
    terms = terms_of(waves=(("db-1", "web-2"), ("web-1", "web-3")), budgets=(budget(1, *names),))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, wave=1))
    put(view, terms, db_1=HostState.CONVERGED)
    pause(view, "stable")
    _replan(view)
    view.set_outstanding(terms.rollout_id, "db-1", 1)
    resume(view, "stable")

    assert _told(_replan(view)) == {
        "web-1": Gate.COMPLIANCE_WAVE,
        "web-2": None,
        "web-3": Gate.DISRUPTION_BUDGET,
    }
    assert _told(_replan(view)) == {
        "web-1": Gate.DISRUPTION_BUDGET,
        "web-3": Gate.DISRUPTION_BUDGET,
    }
    assert _replan(view) == ()


def test_replanning_when_the_last_slot_is_taken_tells_those_that_had_not_to_be_asked() -> None:
    """A slot taken on the way changes the answer of hosts that nothing else had changed, also elsewhere."""
    names = ("web-1", "web-2", "web-3", "web-7")
    terms = terms_of(
        waves=(("db-1", "db-2", "web-2"), ("web-1", "web-3")),
        budgets=(budget(1, *names),),
        edges=(("db-2", "web-2"),),
    )
    other = terms_of("zeta@c3", waves=(("db-7",), ("web-7",)), budgets=(budget(1, *names),))
    view = view_of(terms, other)
    for each, failing in ((terms, "db-1"), (other, "db-7")):
        view.set_rollout(rollout_of(each, wave=1))
        view.set_host(host_of(each, failing, HostState.CONVERGED))
        view.set_outstanding(each.rollout_id, failing, 1)
    put(view, terms, db_2=HostState.SOAKING)
    first = _told(_replan(view))
    assert first.pop("web-2") is Gate.HOST_EDGE
    assert set(first.values()) == {Gate.COMPLIANCE_WAVE}
    put(view, terms, db_2=HostState.CONVERGED)

    full = Gate.DISRUPTION_BUDGET
    assert _told(_replan(view)) == {"web-2": None, "web-3": full, "web-7": full}
    assert _told(_replan(view))["web-1"] is full


def test_replanning_tells_a_newcomer_though_another_takes_the_slot_it_came_for() -> None:
    """A host that waits again is answered, also when its peers need no answer in the end."""
    app = terms_of("app@c3", waves=(("web-1",),), budgets=(budget(1, "web-1", "web-5", "web-6"),))
    stable = terms_of(waves=(("web-5", "web-6"),), budgets=app.budgets)
    view = view_of(app, stable)
    pause(view, "app")
    assert _told(_replan(view))["web-5"] is None
    view.set_queued(stable.rollout_id, "web-5", False)
    resume(view, "app")

    assert _told(_replan(view)) == {"web-1": None, "web-5": Gate.DISRUPTION_BUDGET}


def test_replanning_says_nothing_to_hosts_of_a_rollout_that_is_over() -> None:
    """A host whose dispatch was taken back by a successor waits for that one alone."""
    view = view_of(terms_of(waves=(("web-1",),)))
    terms = view.offers["stable"]
    _replan(view)
    view.set_rollout(rollout_of(terms, RolloutState.SUPERSEDED))

    assert [type(action) for action in _replan(view)] == [WithdrawDispatch]
    assert _replan(view) == ()


def test_replanning_remembers_that_hosts_of_one_kind_were_told_differently() -> None:
    """A host that was passed over while its peers were told something else is told that in its turn."""
    names = ("web-1", "web-2", "web-3", "web-4")
    terms = terms_of(
        waves=(("db-1", "web-2", "web-4"), ("web-1", "web-3")), budgets=(budget(1, *names),)
    )
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, wave=1))
    put(view, terms, db_1=HostState.CONVERGED, web_4=HostState.SOAKING)
    view.set_outstanding(terms.rollout_id, "db-1", 1)
    first = _told(_replan(view))
    assert set(first.values()) == {Gate.DISRUPTION_BUDGET}
    put(view, terms, web_4=HostState.CONVERGED)
    # web-1 hears of the failing control; then web-2 takes the slot, and web-3 knows that it is taken.
    assert _told(_replan(view)) == {"web-1": Gate.COMPLIANCE_WAVE, "web-2": None}
    view.set_queued(terms.rollout_id, "web-2", False)
    put(view, terms, web_2=HostState.CONVERGED)

    assert _told(_replan(view))["web-3"] is Gate.COMPLIANCE_WAVE


def test_replanning_after_an_undoing_says_again_what_was_taken_back() -> None:
    """Who was told something in a batch that failed is told it again when it is so again."""
    undo = UndoLog()
    terms = terms_of(waves=(("web-1",), ("web-2",)))
    view = view_of(terms, undo=undo)
    _replan(view)
    mark = undo.mark()
    for _ in range(2):
        pause(view, "stable")
        assert _told(_replan(view)) == {"web-2": Gate.OPERATOR_HOLD}
        undo.undo_to(mark)


def test_replanning_forgets_the_lanes_of_a_forgotten_rollout() -> None:
    """Nothing is kept of hosts that waited in a rollout that is gone."""
    terms = terms_of(edges=(("web-1", "web-2"),))
    view = view_of(terms)
    pause(view, "stable")
    _replan(view)
    view.set_rollout(rollout_of(terms, RolloutState.SUPERSEDED))
    view.forget_rollout(terms.rollout_id)

    assert [*view.lanes.free(terms.rollout_id), *view.lanes.snagged(terms.rollout_id)] == []
    assert _replan(view) == ()


def test_replanning_after_a_host_was_held_tells_that_host_and_nobody_else() -> None:
    """The hosts that wait with it are answered as before, whether it is the first of them or not."""
    terms = terms_of(waves=(("web-0",), ("web-1", "web-2", "web-3")))
    view = view_of(terms)
    _replan(view)
    pause(view, "host:web-1")
    assert _told(_replan(view)) == {"web-1": Gate.OPERATOR_HOLD}
    pause(view, "host:web-3")
    assert _told(_replan(view)) == {"web-3": Gate.OPERATOR_HOLD}
    resume(view, "host:web-1")
    assert _told(_replan(view)) == {"web-1": Gate.WAVE_PROMOTION}
    assert _replan(view) == ()


def test_replanning_dispatches_no_host_that_is_held() -> None:
    """A host that is held has no dispatch, and the others have theirs."""
    terms = terms_of(waves=(("web-1", "web-2", "web-3"),))
    for held, others in (("web-1", ("web-2", "web-3")), ("web-2", ("web-1", "web-3"))):
        view = view_of(terms)
        pause(view, f"host:{held}")
        assert _told(_replan(view)) == {held: Gate.OPERATOR_HOLD, **dict.fromkeys(others)}
