"""Which reverts bar a closure from its channel."""

import pytest
from attrs import evolve

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.quarantining import bars_closure, reverted_closures
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.planner.builders import NOW, put, rollout_of, terms_of, view_of

HOSTS = ("web-1", "web-2", "web-3")


def _view(
    allowed: int,
    standing: Standing = Standing.COUNTED,
    is_broken: bool = False,
    has_run: bool = True,
) -> FleetView:
    terms = terms_of(waves=(HOSTS,), allowed=(allowed,))
    view = view_of(terms)
    record = rollout_of(terms, RolloutState.FAILED, standings={"web-1": standing})
    view.set_rollout(evolve(record, broken_at=NOW if is_broken else None))
    put(view, terms, web_1=HostState.REVERTED, web_2=HostState.FAILED)
    reverted = view.host(terms.rollout_id, "web-1")
    assert reverted is not None
    ran = evolve(reverted, activation_completed_at=NOW if has_run else None, reverted_to="base")
    view.set_host(ran)
    return view


@pytest.mark.parametrize(
    ("allowed", "is_broken", "bars"),
    [(0, False, True), (0, True, True), (1, False, False), (1, True, True)],
)
def test_a_revert_bars_its_closure_where_nothing_is_tolerated_any_more(
    allowed: int, is_broken: bool, bars: bool
) -> None:
    """Where no host may fail at the first one; otherwise from when a wave is broken."""
    view = _view(allowed, is_broken=is_broken)

    assert bars_closure(view, terms_of().rollout_id, "web-1") is bars


@pytest.mark.parametrize("standing", [Standing.LATE, Standing.LEFT])
def test_a_revert_of_a_host_that_counts_for_nothing_bars_nothing(standing: Standing) -> None:
    """The others have converged on the closure, or the host is none of ours."""
    assert not bars_closure(_view(0, standing), terms_of().rollout_id, "web-1")


def test_a_wave_that_breaks_bars_what_hosts_reverted_from() -> None:
    """Each closure once; a host that stays on what failed bars nothing."""
    assert reverted_closures(_view(1), terms_of().rollout_id) == ("a1-web-1",)


def test_a_wave_that_breaks_bars_no_closure_that_never_ran() -> None:
    """A switch that failed says nothing about what it was to run."""
    assert reverted_closures(_view(1, has_run=False), terms_of().rollout_id) == ()


@pytest.mark.parametrize("standing", [Standing.LATE, Standing.LEFT])
def test_a_wave_that_breaks_bars_nothing_that_a_host_reverted_from_which_counts_for_nothing(
    standing: Standing,
) -> None:
    """It came when its wave was done, or is none of ours: alone its revert bars nothing either."""
    assert reverted_closures(_view(1, standing), terms_of().rollout_id) == ()
