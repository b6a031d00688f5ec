"""The quarantine gate: a closure that the channel must not get again."""

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import DeferDispatch, Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_quarantine
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.rollout.state import RolloutState
from tests.planner.builders import NOW, planning, put, rollout_of, terms_of, view_of


def test_host_whose_closure_is_quarantined_on_its_channel_is_held() -> None:
    """A host waits while its closure is quarantined, and the reason names the closure and what helps."""
    terms = terms_of()
    asked = planning(view_of(terms), {"stable": {"a1-web-1"}})

    assert gate_quarantine(asked, terms.rollout_id, "web-1") == GateBlock(
        Gate.QUARANTINE,
        "closure a1-web-1 is quarantined on channel stable; release another one",
    )
    assert gate_quarantine(asked, terms.rollout_id, "web-2") is None


def test_host_whose_closure_is_quarantined_on_another_channel_passes() -> None:
    """A quarantine holds on its own channel alone."""
    terms = terms_of()
    asked = planning(view_of(terms), {"edge": {"a1-web-1"}})

    assert gate_quarantine(asked, terms.rollout_id, "web-1") is None


def test_host_that_other_gates_hold_too_is_told_of_the_quarantine() -> None:
    """The quarantine is asked first: a closure that was just rolled back stops at once."""
    terms = terms_of(waves=(("web-1",), ("web-2",)))
    view = view_of(terms)
    put(view, terms, web_1=HostState.REVERTED)
    view.set_rollout(rollout_of(terms, RolloutState.REVERTED))

    [told] = plan_next(view, {"stable": {"a1-web-2"}}, NOW)

    assert isinstance(told, DeferDispatch)
    assert told.gate is Gate.QUARANTINE
