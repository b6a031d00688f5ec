"""The hand-drawn pictures of the machines are true: their states and arrows are those of the code."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from nixfleet_state_machine.graph import Graph, host_graph, rollout_graph
from tests.docs.pages import DOCS


def drawn(picture: Path) -> tuple[set[str], list[tuple[str, str]]]:
    """Return the states and the moves that the elements of an SVG file say they show."""
    elements = list(ElementTree.parse(picture).iter())
    states = {element.get("data-state", "") for element in elements} - {""}
    moves = [move for element in elements for move in element.get("data-moves", "").split()]
    return states, [tuple(move.split(">")) for move in moves]  # type: ignore[misc]  # two parts each


@pytest.mark.parametrize("graph", [host_graph(), rollout_graph()], ids=lambda graph: graph.name)
def test_a_picture_has_every_state_and_every_move_once(graph: Graph) -> None:
    """A state or a move that is added to a machine, or taken away, is missed in its picture."""
    states, moves = drawn(DOCS / "reference" / f"{graph.name}-machine.svg")

    assert states == set(graph.nodes)
    assert sorted(moves) == sorted({(arrow.source, arrow.target) for arrow in graph.edges})
