"""The graphs have every move that the machines make, and no other; drawings say what a graph says."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine import (
    Event,
    HostRolloutState,
    HostState,
    IllegalForState,
    Remote,
    RolloutEvent,
    RolloutState,
    RolloutTransitionError,
    TransitionError,
    step,
    step_rollout,
)
from nixfleet_state_machine import graph as graph_module
from nixfleet_state_machine.graph import Arrow, Graph, dot, host_graph, mermaid, rollout_graph, text
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.rollout.event import RolloutOpened
from nixfleet_testing.strategies import (
    HostMoment,
    RolloutMoment,
    host_moments,
    rollout_moments,
)

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "state-machines.md"
HOST = host_graph()
ROLLOUT = rollout_graph()

LAMP = Graph(
    "lamp",
    start="Off",
    nodes=("Off", "On", "Broken"),
    edges=(
        Arrow("Off", "On", "Pressed", "long or twice", orders=("Light", "TellOthers?")),
        Arrow("On", "Off", "Pressed"),
        Arrow("On", "Off", "SaidGoodNight"),
        Arrow("On", "On", "Dimmed"),
        Arrow("On", "Broken", "Dropped"),
    ),
)


def _moves(graph: Graph) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.cause, edge.target) for edge in graph.edges}


def _out_of(graph: Graph, source: str, cause: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (edge.target, edge.condition, edge.orders)
        for edge in graph.edges
        if (edge.source, edge.cause) == (source, cause)
    ]


def _names(kinds: Iterable[type]) -> set[str]:
    return {kind.__name__ for kind in kinds}


# --- what is in the graphs -----------------------------------------------------------------------


def test_drawing_the_host_machine_reaches_every_state_by_every_fact() -> None:
    """Each state is a node, in order, and each kind of fact moves a host somewhere."""
    assert HOST.nodes == tuple(state.value for state in HostState)
    assert {edge.cause for edge in HOST.edges} == _names(get_args(AgentEvent))


def test_drawing_the_rollout_machine_reaches_every_state_by_every_event() -> None:
    """Each state is a node, in order; each kind of event moves a rollout, save the one that makes it."""
    assert ROLLOUT.nodes == tuple(state.value for state in RolloutState)
    assert {edge.cause for edge in ROLLOUT.edges} == _names(
        {*get_args(RolloutEvent)} - {RolloutOpened}
    )


@given(moment=host_moments())
def test_a_move_of_any_host_is_an_edge(moment: HostMoment) -> None:
    """Whatever history a host has, and whatever it is told: where it goes, the graph goes too."""
    try:
        after, _ = step(moment.record, Remote(moment.fact), moment.now, moment.policy)
    except TransitionError:
        return
    assert (moment.record.state, type(moment.fact).__name__, after.state) in _moves(HOST)


@given(moment=rollout_moments())
def test_a_move_of_any_rollout_is_an_edge(moment: RolloutMoment) -> None:
    """Whatever history a rollout has, and whatever happens: where it goes, the graph goes too."""
    try:
        after, effects = step_rollout(moment.record, moment.event, moment.now)
    except RolloutTransitionError:
        return
    if after != moment.record or effects:
        assert (moment.record.state, type(moment.event).__name__, after.state) in _moves(ROLLOUT)


def test_a_machine_starts_and_ends_where_its_records_do() -> None:
    """A host begins Pending and ends Converged or Reverted; a rollout begins Opening and ends Pruned."""
    assert (HOST.start, HOST.ends) == ("Pending", ("Converged", "Reverted"))
    assert (ROLLOUT.start, ROLLOUT.ends) == ("Opening", ("Pruned",))


def test_a_convergence_is_drawn_with_its_rules() -> None:
    """The one way to Converged names the four rules, in the order in which they are checked."""
    rules = (
        "closure-is-target and soak-elapsed and enforce-probes-pass and declared-probes-reported"
    )

    assert _out_of(HOST, "Soaking", "Converged") == [("Converged", rules, ())]


def test_a_fact_that_leads_two_ways_is_drawn_with_its_variants() -> None:
    """A rollback that worked is told from one that did not, with what is ordered for each."""
    assert _out_of(HOST, "Failed", "RollbackComplete") == [
        ("Reverted", "exit code 0", ("RemoteInsertQuarantine",)),
        ("Failed", "another exit code", ("EmitLog",)),
    ]


def test_an_event_that_mostly_changes_nothing_is_drawn_with_the_variants_that_do() -> None:
    """Of all that a host can become, two make a difference to its rollout."""
    assert _out_of(ROLLOUT, "Active", "HostStateChanged") == [
        ("Failed", "to Failed", ("SchedulePruning",)),
        ("Reverted", "to Reverted", ("SchedulePruning",)),
    ]


def test_an_advance_is_drawn_by_where_it_goes() -> None:
    """A later wave moves the cursor, and any other ends the dispatching."""
    assert _out_of(ROLLOUT, "Active", "WaveAdvanced") == [
        ("Active", "to a later wave", ("UpdateCurrentWave",)),
        ("Converging", "to the same wave or to an earlier wave", ()),
    ]


def test_an_order_that_a_policy_decides_is_drawn_as_a_question() -> None:
    """A failed activation fires a rollback under one of the policies."""
    assert _out_of(HOST, "Deferred", "ActivationFailed") == [
        ("Failed", "", ("LocalFireRollbackTo?",))
    ]


def test_a_machine_that_moves_otherwise_is_drawn_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph asks the reducer: without the one move to Deferred that state is not there at all."""

    def undeferring(
        state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> tuple[HostRolloutState, tuple[HostEffect, ...]]:
        after, effects = step(state, event, now, policy)
        if after.state is HostState.DEFERRED:
            raise IllegalForState(state, event.fact)
        return after, effects

    monkeypatch.setattr(graph_module, "step", undeferring)

    missing = set(HOST.edges) - set(host_graph().edges)
    assert "Deferred" not in host_graph().nodes
    assert missing == {edge for edge in HOST.edges if "Deferred" in (edge.source, edge.target)}


# --- drawings --------------------------------------------------------------------------------------


def test_drawing_as_text_lists_what_leads_on_from_each_state() -> None:
    """Every state has its line, also one that nothing leads out of."""
    assert text(LAMP) == (
        "lamp: starts as Off, ends as Broken\n"
        "  Off\n"
        "    -> On: Pressed [long or twice] / Light, TellOthers?\n"
        "  On\n"
        "    -> Off: Pressed\n"
        "    -> Off: SaidGoodNight\n"
        "    -> On: Dimmed\n"
        "    -> Broken: Dropped\n"
        "  Broken"
    )


def test_drawing_as_mermaid_makes_one_arrow_between_two_states() -> None:
    """What leads the same way is one arrow, with a line for each cause; start and end have their dots."""
    assert mermaid(LAMP) == (
        "stateDiagram-v2\n"
        "  [*] --> Off\n"
        "  Off --> On: Pressed [long or twice] / Light, TellOthers?\n"
        "  On --> Off: Pressed<br>SaidGoodNight\n"
        "  On --> On: Dimmed\n"
        "  On --> Broken: Dropped\n"
        "  Broken --> [*]"
    )


def test_drawing_as_dot_makes_one_arrow_between_two_states() -> None:
    """As in Mermaid; where the machine ends there is a second outline, and long labels are wrapped."""
    assert dot(LAMP) == (
        "digraph lamp {\n"
        "  node [shape=box, style=rounded];\n"
        "  Broken [peripheries=2];\n"
        '  Off -> On [label="Pressed [long or twice] / Light,\\nTellOthers?"];\n'
        '  On -> Off [label="Pressed\\nSaidGoodNight"];\n'
        '  On -> On [label="Dimmed"];\n'
        '  On -> Broken [label="Dropped"];\n'
        "}"
    )


@pytest.mark.parametrize("graph", [HOST, ROLLOUT], ids=lambda graph: graph.name)
def test_the_page_about_the_machines_shows_them_as_they_are(graph: Graph) -> None:
    """docs/reference/state-machines.md is fresh; `nixfleet graph` prints what belongs there."""
    assert f"```mermaid\n{mermaid(graph)}\n```\n" in PAGE.read_text(encoding="utf-8")
