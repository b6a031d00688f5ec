"""Drift: when a host that converged counts as running something else, and when that ends."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.drift import drift_change, drift_ended, strays
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.rollout.event import DriftEnded, HostDrifted
from nixfleet_state_machine.rollout.state import Drift, RolloutState
from tests.planner.builders import NOW, host_of, rollout_of, terms_of, view_of

TERMS = terms_of()
ID, HOST = TERMS.rollout_id, "web-1"
TARGET, OTHER = TERMS.targets[HOST], "by-hand"
MINUTE = timedelta(minutes=1)


def _view(state: HostState = HostState.CONVERGED, *, has_drifted: bool = False) -> FleetView:
    view = view_of(TERMS)
    view.set_host(evolve(host_of(TERMS, HOST, state), converged_at=NOW))
    if has_drifted:
        drifted = FrozenMap({HOST: Drift(OTHER, NOW)})
        view.set_rollout(evolve(rollout_of(TERMS), drifted=drifted))
    return view


def _with_another_rollout(dispatched_after: timedelta | None) -> FleetView:
    """Return a view in which another rollout was dispatched to the host so long after it converged."""
    other = terms_of("edge@b2")
    view = view_of(TERMS, other)
    view.set_host(evolve(host_of(TERMS, HOST, HostState.CONVERGED), converged_at=NOW))
    if dispatched_after is not None:
        view.set_host(host_of(other, HOST).dispatched(NOW + dispatched_after, NOW))
    return view


# --- straying --------------------------------------------------------------------------------------


def test_a_converged_host_that_runs_something_else_strays() -> None:
    """By its record, and by nothing that it says of itself."""
    assert strays(_view(), ID, HOST, OTHER)
    assert not strays(_view(), ID, HOST, TARGET)


@pytest.mark.parametrize("state", [each for each in HostState if each is not HostState.CONVERGED])
def test_a_host_that_is_not_converged_does_not_stray(state: HostState) -> None:
    """A switch that is under way is no drift."""
    assert not strays(_view(state), ID, HOST, OTHER)


def test_a_host_without_a_record_does_not_stray() -> None:
    """Nothing is known of it that it could differ from."""
    view = view_of(TERMS)
    assert not strays(view, ID, "db-1", OTHER)


def test_a_host_that_has_a_dispatch_does_not_stray() -> None:
    """It may be switching already."""
    view = _view()
    view.set_queued(ID, HOST, True)
    assert not strays(view, ID, HOST, OTHER)


@pytest.mark.parametrize("state", RolloutState)
def test_hosts_stray_in_rollouts_that_are_served(state: RolloutState) -> None:
    """A Terminal one is; what the hosts of a superseded one run is its successor's concern."""
    view = _view()
    view.set_rollout(rollout_of(TERMS, state))
    assert strays(view, ID, HOST, OTHER) is state.is_served


@pytest.mark.parametrize(
    ("dispatched_after", "explains"),
    [(None, False), (-MINUTE, False), (timedelta(0), True), (MINUTE, True)],
)
def test_another_rollout_explains_what_a_host_runs_if_it_was_dispatched_since(
    dispatched_after: timedelta | None, explains: bool
) -> None:
    """One that was dispatched before the host converged does not."""
    view = _with_another_rollout(dispatched_after)
    assert strays(view, ID, HOST, OTHER) is not explains


def test_neither_its_own_dispatch_nor_a_rollout_of_other_hosts_explains_a_drift() -> None:
    """An attempt that was noted and withdrawn moves the time of the dispatch past the convergence."""
    others = terms_of("edge@b2", (("db-1",),))
    view = view_of(TERMS, others)
    record = evolve(host_of(TERMS, HOST, HostState.CONVERGED), converged_at=NOW)
    view.set_host(evolve(record, dispatched_at=NOW + MINUTE))
    assert strays(view, ID, HOST, OTHER)


def test_another_rollout_explains_nothing_of_a_host_without_a_time() -> None:
    """An old record may lack the time at which it converged."""
    view = _with_another_rollout(MINUTE)
    view.set_host(evolve(host_of(TERMS, HOST, HostState.CONVERGED), converged_at=None))
    assert strays(view, ID, HOST, OTHER)


# --- events ----------------------------------------------------------------------------------------


def test_a_host_that_strays_has_drifted() -> None:
    """The event says what it runs, and since when."""
    assert drift_change(_view(), ID, HOST, OTHER, NOW) == HostDrifted(ID, HOST, OTHER, NOW)


def test_a_host_that_runs_its_target_has_not_drifted() -> None:
    """Nothing is due."""
    assert drift_change(_view(), ID, HOST, TARGET, NOW) is None


def test_a_drift_ends_when_the_host_runs_its_target() -> None:
    """By the heartbeat that shows it."""
    view = _view(has_drifted=True)
    assert drift_change(view, ID, HOST, TARGET, NOW) == DriftEnded(ID, HOST, NOW)
    assert drift_ended(view, ID, HOST, TARGET, NOW) == DriftEnded(ID, HOST, NOW)


@pytest.mark.parametrize("running", [OTHER, TARGET, None])
def test_a_drift_ends_when_the_host_acts(running: str | None) -> None:
    """Whatever it runs meanwhile."""
    view = _view(HostState.ACTIVATING, has_drifted=True)
    assert drift_ended(view, ID, HOST, running, NOW) == DriftEnded(ID, HOST, NOW)


@pytest.mark.parametrize("running", [OTHER, None])
def test_a_drift_goes_on_while_the_host_rests_and_does_not_run_its_target(
    running: str | None,
) -> None:
    """What is not known ends nothing."""
    assert drift_ended(_view(has_drifted=True), ID, HOST, running, NOW) is None


def test_no_drift_ends_of_a_host_that_has_none() -> None:
    """Neither when it acts, nor without a record."""
    assert drift_ended(_view(HostState.ACTIVATING), ID, HOST, TARGET, NOW) is None
    view = _view()
    drifted = FrozenMap({"db-1": Drift(OTHER, NOW)})
    view.set_rollout(evolve(rollout_of(TERMS), drifted=drifted))
    assert drift_ended(view, ID, "db-1", TARGET, NOW) is None
