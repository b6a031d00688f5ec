"""The worst case that is computed is the worst that happens: small rollouts are explored with the real planner."""

from collections.abc import Callable, Iterator
from itertools import product

import pytest
from attrs import evolve, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.errors import InvalidValue
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import QueueDispatch
from nixfleet_state_machine.planner.blast_radius import BudgetWedge, budget_wedges, worst_failed
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.planner.verdict import wave_broken
from nixfleet_state_machine.rollout.event import HostStateChanged
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from tests.planner.builders import NOW, budget, host_of, rollout_of, terms_of

HALT, ROLL_BACK = OnHealthFailure.HALT, OnHealthFailure.ROLLBACK_AND_HALT
FAILURES = (HostState.FAILED, HostState.REVERTED)
WAVES = ((("a",),), (("a", "b"),), (("a", "b", "c"),), (("a", "b"), ("c", "d")))


@frozen
class Moment:
    """A rollout, and the state of each of its hosts, by name."""

    rollout: RolloutRecord
    hosts: tuple[tuple[str, HostState], ...]

    @property
    def failed(self) -> int:
        return sum(state in FAILURES for _, state in self.hosts)


def _view(terms: RolloutTerms, moment: Moment) -> FleetView:
    view = FleetView()
    view.open(moment.rollout, terms)
    for name, state in moment.hosts:
        failed_at = NOW if state in FAILURES else None
        view.set_host(evolve(host_of(terms, name, state), failed_at=failed_at))
    return view


def _moments(terms: RolloutTerms, on_failure: OnHealthFailure) -> Iterator[tuple[Moment, bool]]:
    """Yield every moment that can come, and whether anything can happen after it."""
    pending = tuple((name, HostState.PENDING) for name in sorted(terms.targets))
    ahead = [Moment(rollout_of(terms), pending)]
    known = set(ahead)
    for moment in ahead:
        following = list(_following(terms, moment, on_failure))
        yield moment, bool(following)
        for each in following:
            if each not in known:
                known.add(each)
                ahead.append(each)


def _following(
    terms: RolloutTerms, moment: Moment, on_failure: OnHealthFailure
) -> Iterator[Moment]:
    for action in plan_next(_view(terms, moment), {}, NOW):
        if isinstance(action, QueueDispatch):
            yield _moved(terms, moment, action.host, HostState.ACTIVATING)
    for name, state in moment.hosts:
        if state is HostState.ACTIVATING:
            yield _moved(terms, moment, name, HostState.CONVERGED)
            yield _moved(terms, moment, name, HostState.FAILED)
        if state is HostState.FAILED and on_failure is ROLL_BACK:
            yield _moved(terms, moment, name, HostState.REVERTED)


def _moved(terms: RolloutTerms, moment: Moment, name: str, to: HostState) -> Moment:
    hosts = {**dict(moment.hosts), name: to}
    after = evolve(moment, hosts=tuple(sorted(hosts.items())))
    view = _view(terms, after)
    is_tolerant = terms.is_tolerant_of(name)
    from_ = dict(moment.hosts)[name]
    changed = HostStateChanged(terms.rollout_id, name, from_, to, NOW, is_tolerant)
    record, _ = step_rollout(moment.rollout, changed, NOW)
    view.set_rollout(record)
    broken = wave_broken(view, terms.rollout_id, name, NOW) if to in FAILURES else None
    if broken is not None:
        record, _ = step_rollout(record, broken, NOW)
        view.set_rollout(record)
    while events := due_rollout_events(view, terms.rollout_id, NOW):
        for event in events:
            record, _ = step_rollout(record, event, NOW)
        view.set_rollout(record)
    return evolve(after, rollout=record)


def _worlds() -> Iterator[RolloutTerms]:
    for waves, allowed, limit in product(WAVES, (0, 1, 2), (None, 1, 2)):
        hosts = [host for wave in waves for host in wave]
        yield terms_of(
            waves=waves,
            allowed=[allowed] * len(waves),
            budgets=() if limit is None else (budget(limit, *hosts),),
        )


@pytest.mark.parametrize("on_failure", OnHealthFailure)
def test_the_worst_that_happens_is_the_worst_that_was_computed(on_failure: OnHealthFailure) -> None:
    """In each small world: never more hosts have failed, and in some history as many."""
    found = {
        str(terms): max(moment.failed for moment, _ in _moments(terms, on_failure))
        for terms in _worlds()
    }

    assert found == {str(terms): worst_failed(terms, on_failure) for terms in _worlds()}


@pytest.mark.parametrize("on_failure", OnHealthFailure)
def test_a_rollout_stands_still_exactly_where_that_was_computed(
    on_failure: OnHealthFailure,
) -> None:
    """A budget that failed hosts can fill is named, and every other rollout ends or halts."""
    ended = (RolloutState.TERMINAL, RolloutState.FAILED, RolloutState.REVERTED)
    found = {
        str(terms)
        for terms in _worlds()
        for moment, goes_on in _moments(terms, on_failure)
        if not goes_on and moment.rollout.state not in ended
    }

    assert found == {str(terms) for terms in _worlds() if budget_wedges(terms, on_failure)}
    assert bool(found) is (on_failure is HALT)


def test_a_wedge_is_told_with_its_numbers() -> None:
    """How many members may be down, and how many slots they fill."""
    terms = terms_of(waves=(("a", "b", "c"),), allowed=(2,), budgets=(budget(2, "a", "b", "c"),))

    assert budget_wedges(terms, HALT) == (BudgetWedge(terms.budgets[0].name, down=2, limit=2),)
    assert budget_wedges(terms, ROLL_BACK) == ()


def test_a_budget_that_all_its_members_may_fill_wedges_nobody() -> None:
    """No member is left that would wait."""
    terms = terms_of(waves=(("a", "b", "c"),), allowed=(2,), budgets=(budget(2, "a", "b"),))
    assert budget_wedges(terms, HALT) == ()


def test_only_members_of_a_budget_fill_it() -> None:
    """Hosts of the wave that are not in it may fail as they like."""
    terms = terms_of(
        waves=(("a", "b", "c"), ("d", "e")), allowed=(2, 0), budgets=(budget(2, "c", "d", "e"),)
    )
    assert budget_wedges(terms, HALT) == ()


@pytest.mark.parametrize("ask", [worst_failed, budget_wedges], ids=lambda each: each.__name__)
def test_wrong_arguments_are_refused_by_name(ask: Callable[..., object]) -> None:
    """Both at once, with the function that was called."""
    with pytest.raises(InvalidValue) as refusal:
        ask("terms", "on failure")
    assert refusal.value.what == ask.__name__
    assert [problem.path for problem in refusal.value.problems] == ["terms", "on_failure"]


def test_each_wave_before_adds_what_it_tolerates() -> None:
    """The third wave is broken by its own hosts, after one host of each of the others failed."""
    terms = terms_of(waves=(("a", "b"), ("c", "d"), ("e", "f")), allowed=(1, 1, 1))
    assert worst_failed(terms, ROLL_BACK) == 4
