"""The disruption-budget gate: only so many hosts at once."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from attrs import evolve

from nixfleet_proto.fleet import Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import ManifestBudget
from nixfleet_proto.policy import Retry
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    GateBlock,
    PlanAction,
    QueueDispatch,
)
from nixfleet_state_machine.planner.gates import gate_disruption_budget
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import explain, plan_next, replan
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutState
from tests.planner.builders import (
    NOW,
    budget,
    detail_of,
    planning,
    put,
    rollout_of,
    terms_of,
    view_of,
)

WEBS = ("web-1", "web-2", "web-3")
PlanFunction: TypeAlias = Callable[..., tuple[PlanAction, ...]]


@pytest.mark.parametrize("state", [HostState.ACTIVATING, HostState.SOAKING])
def test_host_is_held_while_the_budget_is_used_up(state: HostState) -> None:
    """Activating and Soaking hosts take slots; the reason is the limit, the detail the count."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(1, *WEBS),))
    view = view_of(terms)
    put(view, terms, web_1=state)

    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-2")

    assert block == GateBlock(Gate.DISRUPTION_BUDGET, "all 1 slots are taken (tags:web)")
    assert detail_of(block) == "1 of 1 in flight (tags:web)"


def test_host_is_held_while_a_queued_dispatch_takes_the_slot() -> None:
    """A dispatch that was queued and not acknowledged takes a slot: it may be on its way."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(1, *WEBS),))
    view = view_of(terms)
    view.set_queued(terms.rollout_id, "web-1", True)

    assert gate_disruption_budget(planning(view), terms.rollout_id, "web-2") is not None


def test_host_passes_while_others_merely_wait() -> None:
    """A Pending host without a dispatch takes no slot, or it would stand in its own way."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(1, *WEBS),))

    assert gate_disruption_budget(planning(view_of(terms)), terms.rollout_id, "web-1") is None


@pytest.mark.parametrize(
    "state", [HostState.CONVERGED, HostState.DEFERRED, HostState.FAILED, HostState.REVERTED]
)
def test_host_passes_when_others_have_come_to_an_end(state: HostState) -> None:
    """A host that came to rest gives its slot back, however it ended."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(1, *WEBS),))
    view = view_of(terms)
    put(view, terms, web_1=state)

    assert gate_disruption_budget(planning(view), terms.rollout_id, "web-2") is None


def test_host_outside_of_the_budget_passes() -> None:
    """A budget holds its own members alone."""
    terms = terms_of(waves=((*WEBS, "db-1"),), budgets=(budget(1, *WEBS),))
    view = view_of(terms)
    put(view, terms, web_1=HostState.SOAKING)

    assert gate_disruption_budget(planning(view), terms.rollout_id, "db-1") is None


def test_host_in_several_budgets_is_told_of_all_and_which_is_full_in_detail() -> None:
    """Which budget is full changes all the time; that one of them is does not."""
    budgets = (budget(1, *WEBS, tag="db"), budget(2, *WEBS))
    terms = terms_of(waves=(WEBS,), budgets=budgets)
    view = view_of(terms)
    put(view, terms, web_1=HostState.SOAKING)

    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-2")

    assert block == GateBlock(
        Gate.DISRUPTION_BUDGET,
        "all slots of one of its budgets are taken (tags:db: 1, tags:web: 2)",
    )
    assert detail_of(block) == "1 of 1 in flight (tags:db)"


def test_host_whose_budgets_are_all_full_is_told_each_of_their_counts() -> None:
    """The detail names every budget that is full."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(1, *WEBS), budget(1, *WEBS, tag="db")))
    view = view_of(terms)
    put(view, terms, web_1=HostState.SOAKING)

    block = gate_disruption_budget(planning(view), terms.rollout_id, "web-2")

    assert detail_of(block) == "1 of 1 in flight (tags:web); 1 of 1 in flight (tags:db)"


def test_hosts_in_flight_are_counted_over_all_live_rollouts_with_an_equal_selector() -> None:
    """Budgets with one selector, however its lists are ordered, are one; each rollout has its own limit."""
    ours = BudgetTerms(Selector(tags=("eu", "web")), frozenset({"web-1"}), 1)
    theirs = BudgetTerms(Selector(tags=("web", "eu")), frozenset({"web-7"}), 1)
    stable = terms_of(waves=(("web-1",),), budgets=(ours,))
    edge = terms_of("edge@c3", waves=(("web-7",),), budgets=(theirs,))
    view = view_of(stable, edge)
    put(view, edge, web_7=HostState.SOAKING)

    assert view.in_flight(Selector(tags=("web", "eu"))) == 1
    assert gate_disruption_budget(planning(view), stable.rollout_id, "web-1") is not None


def test_hosts_of_a_rollout_that_is_over_take_no_slots() -> None:
    """A superseded rollout's hosts are no longer counted, or they would hold slots for ever."""
    old = terms_of("stable@a0", waves=(WEBS,), budgets=(budget(1, *WEBS),))
    new = terms_of(waves=(WEBS,), budgets=(budget(1, *WEBS),))
    view = view_of(old, new)
    put(view, old, web_1=HostState.SOAKING)
    view.set_rollout(rollout_of(old, RolloutState.SUPERSEDED))

    assert gate_disruption_budget(planning(view), new.rollout_id, "web-2") is None


def test_hosts_that_a_plan_lets_go_take_slots_in_that_plan() -> None:
    """In one plan the first hosts by name get the free slots, and the others are told."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(2, *WEBS),))

    plan = plan_next(view_of(terms), {}, NOW)

    answers = [each for each in plan if isinstance(each, QueueDispatch | DeferDispatch)]
    assert [(type(each), each.host) for each in answers] == [
        (QueueDispatch, "web-1"),
        (QueueDispatch, "web-2"),
        (DeferDispatch, "web-3"),
    ]


@pytest.mark.parametrize(
    ("max_in_flight", "pct", "hosts", "limit"),
    [(2, None, 9, 2), (None, 25, 10, 2), (None, 1, 10, 1), (5, 25, 10, 2), (1, 90, 10, 1)],
)
def test_limit_of_a_budget_is_the_smaller_one_rounded_down_and_at_least_one(
    max_in_flight: int | None, pct: int | None, hosts: int, limit: int
) -> None:
    """A share is of the budget's own hosts, rounded down, and never forbids everything."""
    names = tuple(f"web-{number}" for number in range(hosts))
    declared = ManifestBudget(Selector(all=True), names, max_in_flight, pct)

    assert BudgetTerms.of(declared).limit == limit


# Hosts that are down.


def _view_with_a_host_that_tries_again(limit: int) -> tuple[FleetView, RolloutTerms]:
    """web-1 has failed within the tolerance and is to try again; the others wait."""
    terms = terms_of(
        waves=(WEBS,), budgets=(budget(limit, *WEBS),), allowed=(2,), retry=Retry(attempts=2)
    )
    view = view_of(terms)
    put(view, terms, web_1=HostState.FAILED)
    record = view.rollouts[terms.rollout_id]
    view.set_rollout(evolve(record, attempts=FrozenMap({"web-1": 2})))
    return view, terms


def test_a_host_that_is_down_tries_again_in_its_own_slot() -> None:
    """It would otherwise wait for itself; the others wait for it."""
    view, terms = _view_with_a_host_that_tries_again(limit=1)

    assert gate_disruption_budget(planning(view), terms.rollout_id, "web-1") is None
    assert gate_disruption_budget(planning(view), terms.rollout_id, "web-2") is not None


@pytest.mark.parametrize("of", [plan_next, replan])
def test_a_host_that_tries_again_takes_no_second_slot(of: PlanFunction) -> None:
    """Of two slots one is its own, so another host begins beside it."""
    view, _ = _view_with_a_host_that_tries_again(limit=2)

    actions = of(view, {}, NOW)

    began = [action.host for action in actions if isinstance(action, QueueDispatch)]
    assert began == ["web-1", "web-2"]


def test_explaining_a_host_that_waits_names_the_one_that_is_down() -> None:
    """The slot is taken by a host that failed, and does not answer for itself."""
    view, terms = _view_with_a_host_that_tries_again(limit=1)

    (block,) = explain(view, {}, "web-2")[terms.rollout_id]

    assert "web-1" in (block.detail or "")
