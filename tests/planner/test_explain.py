"""`explain`: all that holds a host, for whoever asks."""

import pytest
from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.errors import UnknownHost
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import explain
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_testing.pauses import pause
from tests.planner.builders import (
    budget,
    detail_of,
    open_rollout,
    put,
    rollout_of,
    terms_of,
    view_of,
)

WEBS = ("web-1", "web-2", "web-3")
TERMS = terms_of(
    waves=(("web-1",), ("web-2", "web-3")),
    budgets=(budget(1, *WEBS),),
    edges=(("web-3", "web-2"),),
    predecessors=("infra",),
)


def _gates(view: FleetView, hostname: str) -> dict[RolloutId, list[Gate]]:
    blocks = explain(view, {"stable": {"a1-web-2"}}, hostname)
    return {rollout_id: [block.gate for block in each] for rollout_id, each in blocks.items()}


def test_explaining_a_host_that_everything_holds_names_every_gate_in_order() -> None:
    """Gates behind the first that holds are asked as well."""
    view = view_of(terms_of("infra@c3", waves=(("db-1",),)), TERMS)
    view.set_rollout(rollout_of(TERMS, RolloutState.FAILED))
    pause(view, "stable", "ann: power cut")
    put(view, TERMS, web_1=HostState.SOAKING)
    view.set_outstanding(TERMS.rollout_id, "web-1", 1)

    assert _gates(view, "web-2") == {
        TERMS.rollout_id: [
            Gate.QUARANTINE,
            Gate.ROLLOUT_HALTED,
            Gate.OPERATOR_HOLD,
            Gate.CHANNEL_EDGES,
            Gate.WAVE_PROMOTION,
            Gate.HOST_EDGE,
            Gate.DISRUPTION_BUDGET,
            Gate.COMPLIANCE_WAVE,
        ]
    }


def test_explaining_a_host_that_may_go_says_that_nothing_holds_it() -> None:
    """A host that waits without being held is answered with no gate."""
    assert _gates(view_of(TERMS), "web-1") == {TERMS.rollout_id: []}


def test_explaining_a_host_that_does_not_wait_says_nothing() -> None:
    """A host that is queued or under way waits nowhere."""
    view = view_of(TERMS)
    view.set_queued(TERMS.rollout_id, "web-1", True)
    put(view, TERMS, web_2=HostState.CONVERGED)

    assert [_gates(view, host) for host in ("web-1", "web-2")] == [{}, {}]


def test_explaining_a_host_that_no_rollout_names_is_refused() -> None:
    """A mistyped host name is an error that lists the hosts there are, not an empty explanation."""
    with pytest.raises(UnknownHost) as refusal:
        explain(view_of(TERMS), {}, "ghost")

    assert refusal.value.hostname == "ghost"
    assert refusal.value.hosts == tuple(sorted(TERMS.targets))


def test_explaining_a_host_of_a_rollout_that_is_over_speaks_of_the_live_one_alone() -> None:
    """A host that never got a superseded closure does not wait for it any more."""
    view = view_of(TERMS)
    view.set_rollout(rollout_of(TERMS, RolloutState.SUPERSEDED))
    successor = terms_of("stable@b2", waves=(("web-1",),))
    open_rollout(view, successor)

    assert _gates(view, "web-1") == {successor.rollout_id: []}


def test_explaining_gives_the_numbers_of_the_moment_beside_the_reason() -> None:
    """The reason is the one that the log has; the detail is how things stand now."""
    terms = terms_of(waves=(WEBS,), budgets=(budget(2, *WEBS),))
    view = view_of(terms)
    put(view, terms, web_1=HostState.SOAKING, web_2=HostState.ACTIVATING)

    [block] = explain(view, {}, "web-3")[terms.rollout_id]

    assert block == GateBlock(Gate.DISRUPTION_BUDGET, "all 2 slots are taken (tags:web)")
    assert detail_of(block) == ("2 of 2 in flight (tags:web): web-1 (Soaking), web-2 (Activating)")


def _details(view: FleetView, terms: RolloutTerms, hostname: str) -> dict[Gate, str]:
    return {block.gate: block.detail for block in explain(view, {}, hostname)[terms.rollout_id]}


def test_explaining_names_the_hosts_behind_each_count() -> None:
    """Those of the current wave, of edges, of earlier waves that fail, and the first to fail of a halted rollout."""
    terms = terms_of(
        waves=(("web-1", "web-2"), ("web-3", "web-4")),
        edges=(("web-1", "web-4"), ("web-2", "web-4")),
    )
    view = view_of(terms)
    put(view, terms, web_1=HostState.SOAKING, web_2=HostState.FAILED)
    view.set_outstanding(terms.rollout_id, "web-1", 2)
    soaking = view.host(terms.rollout_id, "web-1")
    assert soaking is not None
    view.set_host(evolve(soaking, declared_probes=None))
    details = _details(view, terms, "web-4")
    assert details[Gate.WAVE_PROMOTION].endswith(": web-1 (Soaking), web-2 (Failed)")
    assert details[Gate.HOST_EDGE] == "web-1 (Soaking), web-2 (Failed)"
    assert details[Gate.COMPLIANCE_WAVE] == "2 of them fail: web-1 (Soaking)"
    assert details[Gate.PROBE_TOPOLOGY].endswith(": web-1 (Soaking)")

    view.set_rollout(rollout_of(terms, RolloutState.FAILED))
    assert _details(view, terms, "web-4")[Gate.ROLLOUT_HALTED] == "it is Failed: web-2 (Failed)"
    view.set_rollout(rollout_of(terms, RolloutState.ABORTED))
    assert _details(view, terms, "web-4")[Gate.ROLLOUT_HALTED] == "web-2 (Failed)"


def test_explaining_names_five_hosts_and_counts_the_others() -> None:
    """In the order of their names; a host of another rollout is named with that."""
    many = tuple(f"web-{number}" for number in range(7))
    terms = terms_of(waves=(many,), budgets=(budget(6, *many),))
    view = view_of(terms)
    other = terms_of("edge@b2", waves=(("tv-1",),), budgets=(budget(6, "tv-1"),))
    open_rollout(view, other)
    put(view, other, tv_1=HostState.SOAKING)
    put(view, terms, **{name.replace("-", "_"): HostState.ACTIVATING for name in many[:6]})
    found = _details(view, terms, "web-6")[Gate.DISRUPTION_BUDGET]
    assert found.startswith("7 of 6 in flight (tags:web): tv-1 (Soaking, edge@b2), web-0 (Activat")
    assert found.endswith("web-3 (Activating) and 2 more")


def test_explaining_leaves_out_hosts_that_an_operator_excused() -> None:
    """Nothing waits for them."""
    terms = terms_of(waves=(("web-1", "web-2"), ("web-3",)))
    view = view_of(terms)
    view.set_rollout(view.rollout(terms.rollout_id).with_standings(["web-2"], Standing.EXCUSED))
    assert _details(view, terms, "web-3")[Gate.WAVE_PROMOTION].endswith(": web-1 (Pending)")
