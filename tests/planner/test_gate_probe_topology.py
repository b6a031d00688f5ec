"""The probe-topology gate: no further wave while a running host of an earlier one has not said what it probes."""

import pytest

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_probe_topology
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from tests.planner.builders import detail_of, host_of, planning, rollout_of, terms_of, view_of

TERMS = terms_of(waves=(("web-1",), ("web-2",)), unstaged=("web-9",))


def _view(state: HostState, *, excused: bool = False) -> FleetView:
    view = view_of(TERMS)
    view.set_host(host_of(TERMS, "web-1", state, declared=None))
    view.set_rollout(rollout_of(TERMS, wave=1, excused={"web-1"} if excused else set()))
    return view


@pytest.mark.parametrize("state", [HostState.SOAKING, HostState.CONVERGED])
def test_host_is_held_while_a_running_host_of_an_earlier_wave_has_not_declared(
    state: HostState,
) -> None:
    """A host that runs its closure but has not declared its probes could yet fail one."""
    block = gate_probe_topology(planning(_view(state)), TERMS.rollout_id, "web-2")

    assert block == GateBlock(
        Gate.PROBE_TOPOLOGY, "awaiting probe topology of hosts of waves before 1"
    )
    assert detail_of(block) == "1 of them have not declared their probes"


def test_host_passes_once_the_topology_is_declared_though_it_is_empty() -> None:
    """To declare that there are no probes is to declare."""
    view = _view(HostState.SOAKING)
    view.set_host(host_of(TERMS, "web-1", HostState.SOAKING, declared=()))

    assert gate_probe_topology(planning(view), TERMS.rollout_id, "web-2") is None


@pytest.mark.parametrize("state", sorted({*HostState} - {HostState.SOAKING, HostState.CONVERGED}))
def test_host_passes_when_the_silent_host_does_not_run_its_closure(state: HostState) -> None:
    """A host that does not run the closure, or not yet, has nothing to declare."""
    assert gate_probe_topology(planning(_view(state)), TERMS.rollout_id, "web-2") is None


def test_host_passes_when_the_silent_host_is_excused() -> None:
    """A host that an operator took out of the count does not hold the waves after it."""
    view = _view(HostState.CONVERGED, excused=True)

    assert gate_probe_topology(planning(view), TERMS.rollout_id, "web-2") is None


def test_host_in_no_wave_passes() -> None:
    """Nobody is in a wave before none; such a host is held by the gate that says so."""
    asked = planning(_view(HostState.SOAKING))

    assert gate_probe_topology(asked, TERMS.rollout_id, "web-9") is None


def test_host_of_the_same_wave_passes() -> None:
    """Only waves before the host's own are looked at."""
    asked = planning(_view(HostState.SOAKING))

    assert gate_probe_topology(asked, TERMS.rollout_id, "web-1") is None
