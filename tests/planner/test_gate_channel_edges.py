"""The channel-edges gate: a channel waits until what its predecessors' manifests name is done."""

from attrs import evolve

from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_channel_edges
from nixfleet_state_machine.rollout.state import RolloutState
from tests.planner.builders import detail_of, planning, rollout_of, terms_of, view_of

INFRA = terms_of("infra@c3", waves=(("db-1",),))
STABLE = terms_of(predecessors=("infra",))


def test_host_of_a_channel_whose_predecessor_runs_is_held() -> None:
    """A predecessor's rollout that is under way holds; the detail says where it is."""
    view = view_of(INFRA, STABLE)

    block = gate_channel_edges(planning(view), STABLE.rollout_id, "web-1")

    assert block == GateBlock(Gate.CHANNEL_EDGES, "channel stable waits for channel infra")
    assert detail_of(block) == "rollout infra@c3 is Active"


def test_host_of_a_channel_whose_predecessor_is_offered_but_not_open_is_held() -> None:
    """A manifest is enough: that its rollout has yet to open is no reason to go first."""
    view = view_of(STABLE)
    view.offer(INFRA)

    block = gate_channel_edges(planning(view), STABLE.rollout_id, "web-1")

    assert detail_of(block) == "rollout infra@c3 is not open yet"


def test_host_of_a_channel_whose_predecessor_has_no_manifest_passes() -> None:
    """A predecessor of which nothing was released is not waited for."""
    assert gate_channel_edges(planning(view_of(STABLE)), STABLE.rollout_id, "web-1") is None


def test_host_of_a_channel_with_several_predecessors_is_held_by_any() -> None:
    """A predecessor without a manifest says nothing about the next one."""
    stable = terms_of(predecessors=("edge", "infra"))
    view = view_of(INFRA, stable)

    block = gate_channel_edges(planning(view), stable.rollout_id, "web-1")

    assert block == GateBlock(Gate.CHANNEL_EDGES, "channel stable waits for channel infra")


def test_host_of_a_channel_whose_predecessor_is_terminal_passes() -> None:
    """A predecessor that is Terminal lets its followers go."""
    view = view_of(INFRA, STABLE)
    view.set_rollout(rollout_of(INFRA, RolloutState.TERMINAL))

    assert gate_channel_edges(planning(view), STABLE.rollout_id, "web-1") is None


def test_host_of_a_channel_whose_predecessor_was_terminal_and_got_a_new_manifest_is_held() -> None:
    """What counts is the rollout that the manifest names now, not the one before."""
    view = view_of(INFRA, STABLE)
    view.set_rollout(rollout_of(INFRA, RolloutState.TERMINAL))
    view.offer(terms_of("infra@d4", waves=(("db-1",),)))

    assert gate_channel_edges(planning(view), STABLE.rollout_id, "web-1") is not None


def test_host_of_a_channel_whose_predecessor_halted_is_held() -> None:
    """A predecessor that failed is not done."""
    view = view_of(INFRA, STABLE)
    view.set_rollout(rollout_of(INFRA, RolloutState.FAILED))

    assert gate_channel_edges(planning(view), STABLE.rollout_id, "web-1") is not None


def test_host_of_a_channel_whose_predecessor_was_done_and_pruned_passes() -> None:
    """A rollout stays done when its retention expires, though Pruned is not the state it ended in."""
    view = view_of(INFRA, STABLE)
    done = rollout_of(INFRA, RolloutState.TERMINAL)
    view.set_rollout(evolve(done, state=RolloutState.PRUNED))
    view.forget_rollout(INFRA.rollout_id)

    assert gate_channel_edges(planning(view), STABLE.rollout_id, "web-1") is None


def test_host_of_a_channel_whose_predecessor_failed_and_was_pruned_is_held() -> None:
    """A rollout that never was done does not become so by being forgotten."""
    view = view_of(INFRA, STABLE)
    failed = rollout_of(INFRA, RolloutState.FAILED)
    view.set_rollout(evolve(failed, state=RolloutState.PRUNED))

    assert gate_channel_edges(planning(view), STABLE.rollout_id, "web-1") is not None
