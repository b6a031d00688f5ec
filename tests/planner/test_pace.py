"""The pace of a budget: its slots grow as hosts converge, and only so many hosts begin in a minute."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import Ramp, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import ManifestBudget
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import DeferDispatch, Gate, GateBlock, QueueDispatch
from nixfleet_state_machine.planner.gates import gate_disruption_budget
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.budget_use import budget_use
from nixfleet_state_machine.planner.pace.minute import MINUTE, SlotsReturned
from nixfleet_state_machine.planner.pace.ramp import ramp_step
from nixfleet_state_machine.planner.pace.status import (
    BudgetStatus,
    Shortage,
    budget_statuses,
    shortage_counts,
)
from nixfleet_state_machine.planner.passing_time import next_time, slots_due
from nixfleet_state_machine.planner.plan import explain, plan_next, replan
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_state_machine.undo import UndoLog
from tests.planner.builders import (
    NOW,
    budget,
    detail_of,
    host_of,
    planning,
    put,
    rollout_of,
    terms_of,
    view_of,
)

WEBS = tuple(f"web-{number}" for number in range(1, 10))
DOUBLING = Ramp(1, 2)
SECOND = timedelta(seconds=1)


def _terms(
    rollout_id: str = "stable@a1",
    *,
    limit: int = 8,
    ramp: Ramp | None = None,
    per_minute: int | None = None,
    allowed: int = 0,
) -> RolloutTerms:
    paced = evolve(budget(limit, *WEBS), ramp=ramp, max_per_minute=per_minute)
    return terms_of(rollout_id, waves=(WEBS,), budgets=(paced,), allowed=(allowed,))


def _begun(view: FleetView, count: int, at: int = 0) -> None:
    for _ in range(count):
        view.note_beginning("tags:web", NOW + at * SECOND)


def _dispatched(view: FleetView) -> list[str]:
    return [each.host for each in plan_next(view, {}, NOW) if isinstance(each, QueueDispatch)]


# --- the ramp --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("converged", "slots", "grows_at"),
    [(0, 1, 1), (1, 2, 3), (2, 2, 3), (3, 4, 7), (6, 4, 7), (7, 8, 15), (15, 10, None)],
)
def test_a_doubling_ramp_has_the_steps_of_its_table(
    converged: int, slots: int, grows_at: int | None
) -> None:
    """A step lasts until as many hosts have converged as it has slots; the limit ends the growth."""
    assert ramp_step(Ramp(1, 2), 10, converged) == (slots, grows_at)


@pytest.mark.parametrize(
    ("ramp", "limit", "steps"),
    [
        (Ramp(2, 3), 100, [2, 2, 6, 6, 6, 6, 6, 6, 18]),
        (Ramp(3, 1), 10, [3] * 9),
        (Ramp(4, 2), 2, [2] * 9),
        (Ramp(1, 10), 5, [1, 5, 5, 5, 5, 5, 5, 5, 5]),
    ],
)
def test_a_ramp_begins_with_its_start_and_grows_by_its_factor(
    ramp: Ramp, limit: int, steps: list[int]
) -> None:
    """A factor of 1 never grows, and no step has more slots than the limit."""
    assert [ramp_step(ramp, limit, converged).slots for converged in range(9)] == steps


@pytest.mark.parametrize("ramp", [(0, 2), (-1, 2), (1, 0)])
def test_a_ramp_without_slots_or_that_shrinks_is_refused(ramp: tuple[int, int]) -> None:
    """Such a ramp would hold its hosts for ever."""
    with pytest.raises(InvalidValue):
        Ramp(*ramp)


def test_only_as_many_hosts_begin_as_the_ramp_has_slots() -> None:
    """The first step lets one host go; the reason names the whole budget, the detail what the growth needs."""
    terms = _terms(ramp=DOUBLING)
    view = view_of(terms)

    assert _dispatched(view) == ["web-1"]

    put(view, terms, web_1=HostState.SOAKING)
    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-2")
    assert block == GateBlock(
        Gate.DISRUPTION_BUDGET,
        "no further host may begin yet (tags:web: 8, growing from 1 by a factor of 2)",
    )
    assert detail_of(block) == "1 of 1 under way (tags:web), more slots after 1 more have converged"


def test_the_slots_grow_when_hosts_converge() -> None:
    """After one host two begin, and after three four."""
    terms = _terms(ramp=DOUBLING)
    view = view_of(terms)
    put(view, terms, web_1=HostState.CONVERGED)
    assert _dispatched(view) == ["web-2", "web-3"]

    put(view, terms, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED)
    assert _dispatched(view) == ["web-4", "web-5", "web-6", "web-7"]


def test_a_host_that_failed_and_is_tolerated_neither_grows_the_ramp_nor_stands_in_its_way() -> None:
    """It takes a slot of the limit as long as it is down, and none of the ramp: the next host begins."""
    terms = _terms(ramp=DOUBLING, limit=3, allowed=4)
    view = view_of(terms)
    put(view, terms, web_1=HostState.FAILED, web_2=HostState.FAILED)
    assert _dispatched(view) == ["web-3"]

    put(view, terms, web_3=HostState.FAILED)
    assert _dispatched(view) == []


def test_a_deferred_host_frees_its_slot_and_does_not_grow_the_ramp() -> None:
    """A host that waits for its reboot has shown nothing yet."""
    terms = _terms(ramp=DOUBLING)
    view = view_of(terms)
    put(view, terms, web_1=HostState.DEFERRED)

    assert _dispatched(view) == ["web-2"]


def test_a_host_that_regresses_takes_its_growth_back_and_nothing_is_withdrawn() -> None:
    """The slots are a function of the hosts that are Converged now; hosts under way go on."""
    terms = _terms(ramp=DOUBLING, allowed=2)
    view = view_of(terms)
    put(view, terms, web_1=HostState.CONVERGED, web_2=HostState.SOAKING)
    view.set_queued(terms.rollout_id, "web-3", True)
    put(view, terms, web_1=HostState.FAILED)

    assert budget_use(view, terms.rollout_id, terms.budgets[0]).slots == 1
    assert all(isinstance(each, DeferDispatch) for each in plan_next(view, {}, NOW))


def test_a_new_rollout_begins_anew() -> None:
    """What converged to another release says nothing of this one."""
    old, new = _terms("stable@a0", ramp=DOUBLING), _terms(ramp=DOUBLING)
    view = view_of(old, new)
    put(view, old, web_1=HostState.CONVERGED, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED)
    view.set_rollout(rollout_of(old, RolloutState.SUPERSEDED))

    assert _dispatched(view) == ["web-1"]


def test_each_rollout_has_its_own_ramp_under_a_limit_that_all_share() -> None:
    """A rollout that has grown does not hold the first host of another one, as long as the limit has room."""
    stable = _terms(ramp=DOUBLING, limit=3)
    edge = _terms("edge@c3", ramp=DOUBLING, limit=3)
    view = view_of(stable, edge)
    put(view, edge, web_1=HostState.CONVERGED, web_2=HostState.SOAKING, web_3=HostState.SOAKING)

    dispatched = [each for each in plan_next(view, {}, NOW) if isinstance(each, QueueDispatch)]

    assert [(each.rollout_id, each.host) for each in dispatched] == [(stable.rollout_id, "web-1")]


def test_a_silent_host_takes_no_slot_of_the_ramp() -> None:
    """A host that is away is not under way."""
    terms = _terms(ramp=DOUBLING)
    view = view_of(terms)
    put(view, terms, web_1=HostState.ACTIVATING)
    view.set_rollout(rollout_of(terms, standings={"web-1": Standing.AWAY}))

    assert _dispatched(view) == ["web-2"]


def test_a_replan_after_a_failure_lets_the_next_host_go() -> None:
    """A tolerated failure changes no host in flight, and frees a slot of the ramp all the same."""
    terms = _terms(ramp=DOUBLING, allowed=3)
    view = view_of(terms)
    put(view, terms, web_1=HostState.SOAKING)
    replan(view, {}, NOW)
    put(view, terms, web_1=HostState.FAILED)

    queued = [each.host for each in replan(view, {}, NOW) if isinstance(each, QueueDispatch)]

    assert queued == ["web-2"]


def test_who_joins_or_leaves_does_not_reset_the_ramp() -> None:
    """An amended rollout has the same hosts under way and converged, but for those that left."""
    terms = _terms(ramp=DOUBLING)
    view = view_of(terms)
    put(view, terms, web_1=HostState.CONVERGED, web_2=HostState.CONVERGED, web_3=HostState.SOAKING)

    members = frozenset(WEBS) - {"web-1"}
    left = evolve(
        terms,
        targets=FrozenMap({host: terms.targets[host] for host in members}),
        wave_of=FrozenMap(dict.fromkeys(members, 0)),
        budgets=(evolve(terms.budgets[0], hosts=members),),
    )
    view.amend(left)

    use = budget_use(view, terms.rollout_id, left.budgets[0])
    assert (use.under_way, use.converged) == (1, 1)


def test_explain_names_the_hosts_under_way_that_the_ramp_waits_for() -> None:
    """Of a ramp these are hosts of this rollout alone."""
    terms, edge = _terms(ramp=DOUBLING), _terms("edge@c3", ramp=DOUBLING)
    view = view_of(terms, edge)
    put(view, terms, web_1=HostState.SOAKING)
    put(view, edge, web_2=HostState.SOAKING)

    (block,) = explain(view, {}, "web-3")[terms.rollout_id]

    assert block.detail.endswith("have converged: web-1 (Soaking)")


# --- beginnings in a minute ------------------------------------------------------------------------


def test_only_so_many_hosts_begin_until_slots_come_back() -> None:
    """A plan counts its own dispatches; the detail says when the first slot comes back."""
    terms = _terms(per_minute=2)
    view = view_of(terms)
    assert _dispatched(view) == ["web-1", "web-2"]

    _begun(view, 1)
    assert _dispatched(view) == ["web-1"]

    _begun(view, 1, at=30)
    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-1")
    assert block == GateBlock(
        Gate.DISRUPTION_BUDGET, "no further host may begin yet (tags:web: 8, 2 a minute)"
    )
    assert (
        detail_of(block)
        == "2 of 2 begun within a minute (tags:web), the next slot at 2026-05-26T12:01:00Z"
    )
    assert block is not None
    assert block.until == NOW + MINUTE


def test_a_host_that_also_waits_for_a_slot_in_flight_does_not_wait_for_time_alone() -> None:
    """No time is known at which that changes."""
    terms = _terms(per_minute=1, limit=1)
    view = view_of(terms)
    _begun(view, 1)
    put(view, terms, web_1=HostState.SOAKING)

    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-2")
    assert block is not None
    assert block.until is None


def test_a_dispatch_that_is_withdrawn_gives_its_slot_of_the_minute_not_back() -> None:
    """It may have been handed out: only the minute gives it back."""
    terms = _terms(per_minute=1)
    view = view_of(terms)
    _begun(view, 1)
    view.set_queued(terms.rollout_id, "web-1", True)
    view.set_queued(terms.rollout_id, "web-1", False)

    assert _dispatched(view) == []


def test_slots_come_back_a_minute_after_their_beginnings_by_one_event_for_a_budget() -> None:
    """Nothing is due before, nothing twice, and the view says when there is something next."""
    view = view_of(_terms(per_minute=3))
    _begun(view, 2)
    _begun(view, 1, at=30)

    assert next_time(view) == NOW + MINUTE
    assert slots_due(view, NOW + MINUTE - SECOND) == ()
    (event,) = slots_due(view, NOW + MINUTE)
    assert event == SlotsReturned("tags:web", NOW, 2, NOW + MINUTE)
    view.return_slots(event.budget, event.begun_by)
    assert slots_due(view, NOW + MINUTE) == ()
    assert next_time(view) == NOW + MINUTE + 30 * SECOND


def test_a_replan_after_slots_came_back_dispatches() -> None:
    """The event is all that changes: the hosts that waited for the minute are evaluated again."""
    view = view_of(_terms(per_minute=1))
    _begun(view, 1)
    assert all(isinstance(each, DeferDispatch) for each in replan(view, {}, NOW))

    view.return_slots("tags:web", NOW)

    queued = [each.host for each in replan(view, {}, NOW) if isinstance(each, QueueDispatch)]
    assert queued == ["web-1"]


def test_beginnings_are_counted_over_all_rollouts_that_limit_them() -> None:
    """A new release does not give the slots of the last minute back."""
    old, new = _terms("stable@a0", per_minute=2), _terms(per_minute=2)
    view = view_of(old, new)
    _begun(view, 2)
    view.set_rollout(rollout_of(old, RolloutState.SUPERSEDED))

    assert _dispatched(view) == []


def test_a_beginning_that_is_undone_takes_no_slot() -> None:
    """Neither does undoing a return lose one, though a clock was set back in between."""
    undo = UndoLog()
    view = view_of(_terms(per_minute=3), undo=undo)
    _begun(view, 1, at=5)
    mark = undo.mark()
    _begun(view, 1)
    view.return_slots("tags:web", NOW + 5 * SECOND)
    assert view.beginnings.by_budget() == {}

    undo.undo_to(mark)

    assert view.beginnings.by_budget() == {"tags:web": (NOW + 5 * SECOND,)}


def test_a_budget_has_the_pace_that_was_signed() -> None:
    """The terms have ramp and minute of the manifest, beside the limit."""
    declared = ManifestBudget(Selector(all=True), WEBS, None, 50, DOUBLING, 3)

    terms = BudgetTerms.of(declared)

    assert (terms.limit, terms.ramp, terms.max_per_minute, terms.has_pace) == (4, DOUBLING, 3, True)


@pytest.mark.parametrize("per_minute", [0, -1])
def test_a_minute_without_slots_is_refused(per_minute: int) -> None:
    """Such a budget would hold its hosts for ever."""
    with pytest.raises(InvalidValue):
        ManifestBudget(Selector(all=True), WEBS, max_per_minute=per_minute)


def test_a_host_of_two_budgets_waits_for_the_slower_one() -> None:
    """The reason names the pace of both."""
    slow = evolve(budget(8, *WEBS, tag="db"), ramp=DOUBLING)
    terms = terms_of(waves=(WEBS,), budgets=(budget(5, *WEBS), slow))
    view = view_of(terms)
    view.set_host(host_of(terms, "web-1", HostState.SOAKING))

    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-2")

    assert block is not None
    assert block.reason == (
        "one of its budgets lets no further host begin yet "
        "(tags:web: 5, tags:db: 8, growing from 1 by a factor of 2)"
    )


# --- how it is shown -------------------------------------------------------------------------------


def test_a_budget_is_shown_with_its_slots_now_and_what_gives_more() -> None:
    """What a budget does not limit is not said."""
    plain = budget(5, *WEBS, tag="db")
    paced = evolve(budget(8, *WEBS), ramp=DOUBLING, max_per_minute=3)
    terms = terms_of(waves=(WEBS,), budgets=(plain, paced))
    view = view_of(terms)
    put(view, terms, web_1=HostState.CONVERGED, web_2=HostState.SOAKING, web_3=HostState.SOAKING)
    _begun(view, 1)

    assert budget_statuses(view, terms.rollout_id) == (
        BudgetStatus("tags:db", 2, 5),
        BudgetStatus("tags:web", 2, 8, 2, 2, 2, 1, 3, NOW + MINUTE),
    )
    assert shortage_counts(view) == {Shortage.RAMP: 1}


def test_every_kind_of_slot_that_is_taken_is_counted() -> None:
    """A budget may be short of several kinds."""
    status = BudgetStatus("tags:web", 8, 8, 2, 2, None, 3, 3, NOW)

    assert status.shortages == (Shortage.LIMIT, Shortage.RAMP, Shortage.MINUTE)
