"""The compliance-wave gate: no further wave while enforce probes or their controls fail in an earlier one."""

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_compliance_wave
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from tests.planner.builders import detail_of, planning, put, rollout_of, terms_of, view_of

TERMS = terms_of(waves=(("web-1",), ("web-2",), ("web-3",)), unstaged=("web-9",))


def _view() -> FleetView:
    view = view_of(TERMS)
    view.set_rollout(rollout_of(TERMS, wave=2))
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.CONVERGED)
    return view


def test_host_is_held_while_controls_fail_on_hosts_of_earlier_waves() -> None:
    """Failures of all earlier waves add up; their number is detail, so that it is no news when it changes."""
    view = _view()
    view.set_outstanding(TERMS.rollout_id, "web-1", 2)
    view.set_outstanding(TERMS.rollout_id, "web-2", 1)

    block = gate_compliance_wave(planning(view), TERMS.rollout_id, "web-3")

    assert block == GateBlock(
        Gate.COMPLIANCE_WAVE, "enforce probes or their controls fail on hosts of waves before 2"
    )
    assert detail_of(block) == "3 of them fail"


def test_host_passes_when_controls_fail_in_its_own_or_a_later_wave() -> None:
    """Only waves before the host's own are looked at."""
    view = _view()
    view.set_outstanding(TERMS.rollout_id, "web-2", 1)
    view.set_outstanding(TERMS.rollout_id, "web-3", 1)
    view.set_outstanding(TERMS.rollout_id, "web-9", 1)

    assert gate_compliance_wave(planning(view), TERMS.rollout_id, "web-2") is None


def test_host_in_no_wave_passes() -> None:
    """Nobody is in a wave before none; such a host is held by the gate that says so."""
    view = _view()
    view.set_outstanding(TERMS.rollout_id, "web-1", 1)

    assert gate_compliance_wave(planning(view), TERMS.rollout_id, "web-9") is None


def test_host_passes_once_the_last_failure_was_cleared() -> None:
    """A control that passes again is no longer outstanding."""
    view = _view()
    view.set_outstanding(TERMS.rollout_id, "web-1", 1)
    view.set_outstanding(TERMS.rollout_id, "web-1", 0)

    assert gate_compliance_wave(planning(view), TERMS.rollout_id, "web-3") is None


def test_host_passes_when_the_failing_host_is_excused() -> None:
    """A host that an operator took out of the count does not hold the waves after it."""
    view = _view()
    view.set_outstanding(TERMS.rollout_id, "web-1", 1)
    view.set_rollout(rollout_of(TERMS, wave=2, excused={"web-1"}))

    assert gate_compliance_wave(planning(view), TERMS.rollout_id, "web-3") is None
