"""The wave-promotion gate: each host in its wave, and none that is in no wave."""

from nixfleet_proto.fleet import FleetChannel, FleetHost, FleetResolved, Meta, RolloutPolicy, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.gates import gate_wave_promotion
from nixfleet_state_machine.planner.terms import RolloutTerms
from tests.planner.builders import detail_of, planning, put, rollout_of, terms_of, view_of

WAVES = (("web-1",), ("web-2", "web-3"), ("web-4",))


def test_host_of_a_later_wave_is_held_for_the_wave_before_its_own() -> None:
    """The reason names the wave before, whichever is under way: it stays the same until it is ours."""
    terms = terms_of(waves=WAVES)
    view = view_of(terms)

    block = gate_wave_promotion(planning(view), terms.rollout_id, "web-4")

    assert block == GateBlock(Gate.WAVE_PROMOTION, "wave 2 waits for wave 1")
    assert detail_of(block) == "in wave 0, 0 of 1 hosts are done"
    view.set_rollout(rollout_of(terms, wave=1))
    put(view, terms, web_2=HostState.CONVERGED)
    later = gate_wave_promotion(planning(view), terms.rollout_id, "web-4")
    assert later == block
    assert detail_of(later) == "in wave 1, 1 of 2 hosts are done"


def test_host_of_the_current_or_an_earlier_wave_passes() -> None:
    """A wave stays open once it was reached."""
    terms = terms_of(waves=WAVES)
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, wave=1))

    assert gate_wave_promotion(planning(view), terms.rollout_id, "web-1") is None
    assert gate_wave_promotion(planning(view), terms.rollout_id, "web-3") is None


def test_host_in_no_wave_of_a_channel_with_waves_is_held_for_good() -> None:
    """A host that no wave lists is not let go by default; its gate has a name of its own."""
    terms = terms_of(unstaged=("web-9",))
    view = view_of(terms)

    assert gate_wave_promotion(planning(view), terms.rollout_id, "web-9") == GateBlock(
        Gate.WAVE_PROMOTION_HOST_UNSTAGED,
        "this host is in no wave of channel stable; declare one that selects it",
    )


def _terms_without_waves(*hosts: str) -> RolloutTerms:
    meta = Meta(signed_at=None)
    fleet = FleetResolved(
        hosts=FrozenMap({"web-1": FleetHost(channel="stable")}),
        channels=FrozenMap[str, FleetChannel](),
        rollout_policies=FrozenMap[str, RolloutPolicy](),
        waves=FrozenMap[str, tuple[Wave, ...]](),
        meta=meta,
    )
    assigned = tuple(HostAssignment(host, f"a1-{host}") for host in hosts)
    return RolloutTerms.of_values(
        RolloutManifest("stable", "a1", "stable@a1", "0" * 64, assigned, meta), fleet
    )


def test_host_of_a_channel_without_waves_passes() -> None:
    """Where no waves are declared, all hosts go in one."""
    terms = _terms_without_waves("web-1")

    assert gate_wave_promotion(planning(view_of(terms)), terms.rollout_id, "web-1") is None


def test_host_that_the_fleet_does_not_know_is_held() -> None:
    """A manifest that names a host the fleet does not have gets it nowhere, waves or not."""
    terms = _terms_without_waves("web-1", "ghost")
    block = gate_wave_promotion(planning(view_of(terms)), terms.rollout_id, "ghost")

    assert block is not None
    assert block.gate is Gate.WAVE_PROMOTION_HOST_UNSTAGED
