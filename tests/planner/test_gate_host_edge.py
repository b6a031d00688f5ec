"""The host-edge gate: a host waits for another one of its rollout."""

import pytest

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_host_edge
from tests.planner.builders import detail_of, planning, put, rollout_of, terms_of, view_of

TERMS = terms_of(waves=(("db-1", "db-2", "web-1"),), edges=(("db-1", "web-1"), ("db-2", "web-1")))


@pytest.mark.parametrize("state", sorted({*HostState} - {HostState.CONVERGED, HostState.DEFERRED}))
def test_host_whose_gating_host_is_not_done_is_held(state: HostState) -> None:
    """The reason names the gating host and stays the same while that is under way; the detail follows it."""
    view = view_of(TERMS)
    put(view, TERMS, db_1=state)

    block = gate_host_edge(planning(view), TERMS.rollout_id, "web-1")

    assert block == GateBlock(Gate.HOST_EDGE, "waits for host db-1 to be Converged")
    assert detail_of(block) == f"db-1 is {state}"


def test_host_with_several_gating_hosts_is_held_for_the_first_that_is_not_done() -> None:
    """All edges count, in the order in which they are declared."""
    view = view_of(TERMS)
    put(view, TERMS, db_1=HostState.CONVERGED)

    block = gate_host_edge(planning(view), TERMS.rollout_id, "web-1")

    assert block == GateBlock(Gate.HOST_EDGE, "waits for host db-2 to be Converged")


@pytest.mark.parametrize("state", [HostState.CONVERGED, HostState.DEFERRED])
def test_host_whose_gating_hosts_are_done_passes(state: HostState) -> None:
    """Converged is done, and Deferred is as good."""
    view = view_of(TERMS)
    put(view, TERMS, db_1=state, db_2=state)

    assert gate_host_edge(planning(view), TERMS.rollout_id, "web-1") is None


def test_host_whose_gating_host_is_not_in_the_rollout_is_held() -> None:
    """A gating host that this rollout does not have counts as not done."""
    terms = terms_of(edges=(("db-1", "web-1"),))
    block = gate_host_edge(planning(view_of(terms)), terms.rollout_id, "web-1")

    assert detail_of(block) == "db-1 is not part of this rollout"


@pytest.mark.parametrize("state", HostState)
def test_host_whose_gating_hosts_are_excused_passes(state: HostState) -> None:
    """A host that an operator took out of the count holds nobody, whatever becomes of it."""
    view = view_of(TERMS)
    put(view, TERMS, db_1=state, db_2=HostState.CONVERGED)
    view.set_rollout(rollout_of(TERMS, excused={"db-1"}))

    assert gate_host_edge(planning(view), TERMS.rollout_id, "web-1") is None


def test_host_with_one_gating_host_excused_waits_for_the_other() -> None:
    """An excuse is for one host alone."""
    view = view_of(TERMS)
    put(view, TERMS, db_1=HostState.REVERTED)
    view.set_rollout(rollout_of(TERMS, excused={"db-1"}))

    block = gate_host_edge(planning(view), TERMS.rollout_id, "web-1")

    assert block == GateBlock(Gate.HOST_EDGE, "waits for host db-2 to be Converged")


def test_gating_host_itself_passes() -> None:
    """An edge holds one way."""
    assert gate_host_edge(planning(view_of(TERMS)), TERMS.rollout_id, "db-1") is None
