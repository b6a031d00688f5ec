"""Who is dispatched, and takes a slot, after a rollout is Terminal; and what a failed host holds up before."""

import pytest
from attrs import evolve

from nixfleet_proto.fleet import Selector
from nixfleet_proto.policy import Retry
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import DeferDispatch, Gate, QueueDispatch
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import explain, plan_next, replan
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutState, Standing
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

HOSTS = ("web-1", "web-2", "web-3")
WEB = Selector(tags=("web",))
TERMINAL = RolloutState.TERMINAL


def _answers(view: FleetView) -> dict[str, Gate | int]:
    """Return what each host is told, as the number of its attempt or the gate that holds it; replans agree."""
    full = plan_next(view, {}, NOW)
    assert replan(view, {}, NOW) == full
    carry_out(view, full)
    answers = [each for each in full if isinstance(each, QueueDispatch | DeferDispatch)]
    return {
        each.host: each.attempt if isinstance(each, QueueDispatch) else each.gate
        for each in answers
    }


def _failed(
    terms: RolloutTerms, name: str, state: HostState = HostState.FAILED
) -> HostRolloutState:
    return evolve(host_of(terms, name, state), failed_at=NOW)


@pytest.mark.parametrize("standing", [Standing.LATE, Standing.SKIPPED])
def test_a_host_that_comes_after_the_end_is_dispatched(standing: Standing) -> None:
    """A Terminal rollout serves those that are late, and those that were skipped."""
    terms = terms_of(waves=(HOSTS,))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, TERMINAL, standings={"web-2": standing}))

    assert _answers(view) == {"web-2": 1}


@pytest.mark.parametrize(
    "standing",
    [Standing.COUNTED, Standing.EXCUSED, Standing.AWAY, Standing.LAPSED, Standing.LEFT],
)
def test_no_other_host_is_dispatched_after_the_end(standing: Standing) -> None:
    """Of those that are excused, silent or gone nobody expects anything any more."""
    terms = terms_of(waves=(HOSTS,))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, TERMINAL, standings={"web-2": standing}))

    assert _answers(view) == {}
    assert explain(view, {}, "web-2") == {}


@pytest.mark.parametrize("standing", [Standing.LATE, Standing.SKIPPED])
def test_hosts_that_come_after_the_end_keep_to_the_budgets(standing: Standing) -> None:
    """One takes the slot when it is dispatched, and the next one waits for it."""
    terms = terms_of(waves=(HOSTS,), budgets=(budget(1, *HOSTS),))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, TERMINAL, standings=dict.fromkeys(HOSTS, standing)))

    assert _answers(view) == {
        "web-1": 1,
        "web-2": Gate.DISRUPTION_BUDGET,
        "web-3": Gate.DISRUPTION_BUDGET,
    }
    assert view.in_flight(WEB) == 1


def test_a_host_that_is_late_keeps_its_slot_over_the_end_of_its_rollout() -> None:
    """It gives it back when it has converged, and not because others have."""
    terms = terms_of(waves=(HOSTS,), budgets=(budget(1, *HOSTS),))
    view = view_of(terms)
    late = {"web-1": Standing.LATE}
    put(view, terms, web_1=HostState.ACTIVATING)
    view.set_rollout(rollout_of(terms, standings=late))
    assert view.in_flight(WEB) == 1
    view.set_rollout(rollout_of(terms, TERMINAL, standings=late))
    assert view.in_flight(WEB) == 1
    put(view, terms, web_1=HostState.CONVERGED)
    assert view.in_flight(WEB) == 0


def test_hosts_of_a_rollout_that_is_superseded_give_back_every_slot() -> None:
    """Also those that are late: the successor dispatches them."""
    terms = terms_of(waves=(HOSTS,), budgets=(budget(1, *HOSTS),))
    view = view_of(terms)
    put(view, terms, web_1=HostState.ACTIVATING)
    late = {"web-1": Standing.LATE}
    view.set_rollout(rollout_of(terms, TERMINAL, standings=late))
    view.set_rollout(rollout_of(terms, RolloutState.SUPERSEDED, standings=late))

    assert view.in_flight(WEB) == 0


def test_a_tolerated_host_may_try_again_after_the_end() -> None:
    """Its back-off may well be longer than what the others needed; it is in flight as any other."""
    terms = terms_of(
        waves=(HOSTS,), allowed=(1,), retry=Retry(attempts=2), budgets=(budget(2, *HOSTS),)
    )
    view = view_of(terms)
    put(view, terms, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED)
    view.set_host(_failed(terms, "web-1", HostState.REVERTED))
    view.set_rollout(rollout_of(terms, TERMINAL))
    assert _answers(view) == {}
    view.set_rollout(rollout_of(terms, TERMINAL, attempts={"web-1": 2}))

    assert _answers(view) == {"web-1": 2}
    assert view.in_flight(WEB) == 1


def test_a_tolerated_host_that_is_down_keeps_its_slot_over_the_end() -> None:
    """Until it is Reverted, excused or silent: it is down, whatever became of the others."""
    terms = terms_of(waves=(HOSTS,), allowed=(1,), budgets=(budget(1, *HOSTS),))
    view = view_of(terms)
    view.set_host(_failed(terms, "web-1"))
    view.set_rollout(rollout_of(terms, TERMINAL))
    assert view.in_flight(WEB) == 1
    view.set_rollout(rollout_of(terms, TERMINAL, standings={"web-1": Standing.EXCUSED}))
    assert view.in_flight(WEB) == 0
    view.set_rollout(rollout_of(terms, TERMINAL, standings={"web-1": Standing.LAPSED}))
    assert view.in_flight(WEB) == 0
    view.set_rollout(rollout_of(terms, TERMINAL))
    view.set_host(_failed(terms, "web-1", HostState.REVERTED))
    assert view.in_flight(WEB) == 0


def test_a_host_that_failed_takes_no_slot_where_no_host_may_fail() -> None:
    """The rollout is halted then, and nobody waits for the slot."""
    terms = terms_of(waves=(HOSTS,), budgets=(budget(1, *HOSTS),))
    view = view_of(terms)
    view.set_host(_failed(terms, "web-1"))

    assert view.in_flight(WEB) == 0


def test_a_host_that_failed_waits_for_nothing_until_it_is_to_try_again() -> None:
    """Then it is dispatched with the number of its attempt, behind the same gates as every other."""
    terms = terms_of(waves=(HOSTS,), allowed=(2,), retry=Retry(attempts=3))
    view = view_of(terms)
    put(view, terms, web_3=HostState.CONVERGED)
    view.set_host(_failed(terms, "web-1", HostState.REVERTED))
    view.set_host(_failed(terms, "web-2", HostState.REVERTED))
    assert _answers(view) == {}
    attempts = {"web-1": 2, "web-2": 2}
    view.set_rollout(rollout_of(terms, attempts=attempts))
    pause(view, "host:web-1")

    assert _answers(view) == {"web-1": Gate.OPERATOR_HOLD, "web-2": 2}


def test_a_host_that_tries_again_has_not_settled() -> None:
    """While it soaks it counts as failed and for nothing else, so the last wave is not settled by it twice."""
    terms = terms_of(waves=(HOSTS,), allowed=(1,))
    view = view_of(terms)
    view.set_host(evolve(_failed(terms, "web-1", HostState.SOAKING), attempt=2))

    tally = view.tally(terms.rollout_id, 0)
    assert (tally.total, tally.settled, tally.failed) == (3, 0, 1)


def test_a_tolerated_host_that_tries_again_holds_no_later_wave() -> None:
    """Nobody waits for it, and so neither for its probes to be declared."""
    terms = terms_of(waves=(("web-1", "web-2"), ("web-3",)), allowed=(1, 0))
    view = view_of(terms)
    put(view, terms, web_2=HostState.CONVERGED)
    again = evolve(_failed(terms, "web-1", HostState.SOAKING), attempt=2, declared_probes=None)
    view.set_host(again)
    view.set_rollout(rollout_of(terms, wave=1))

    assert _answers(view) == {"web-3": 1}


def test_setting_a_record_of_a_later_attempt_in_the_same_state_is_noticed() -> None:
    """Several facts at once may lead from one failure to the next: then the attempt is spent."""
    terms = terms_of(waves=(HOSTS,), allowed=(2,), retry=Retry(attempts=3))
    view = view_of(terms)
    put(view, terms, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED)
    view.set_host(_failed(terms, "web-1"))
    view.set_rollout(rollout_of(terms, attempts={"web-1": 2}))
    pause(view, "stable")
    assert _answers(view) == {"web-1": Gate.OPERATOR_HOLD}
    view.set_host(evolve(_failed(terms, "web-1"), attempt=2))
    resume(view, "stable")

    assert _answers(view) == {}


def test_a_host_that_was_removed_by_an_amendment_waits_again_when_that_is_undone() -> None:
    """What was taken back has to be said again: the host is answered as before."""
    undo = UndoLog()
    terms = terms_of(waves=(HOSTS,), budgets=(budget(1, *HOSTS),))
    view = view_of(terms, undo=undo)
    carry_out(view, replan(view, {}, NOW))
    mark = undo.mark()
    view.amend(terms_of(waves=(HOSTS[:2],), budgets=(budget(1, *HOSTS[:2]),)))
    replan(view, {}, NOW)
    undo.undo_to(mark)
    view.set_queued(terms.rollout_id, "web-1", False)
    put(view, terms, web_1=HostState.CONVERGED, web_2=HostState.CONVERGED)

    assert _answers(view) == {"web-3": 1}
