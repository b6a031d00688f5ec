"""`nixfleet graph`: which machine, and in which form."""

import pytest

from nixfleet_state_machine.graph import dot, host_graph, mermaid, rollout_graph, text
from tests.cli.conftest import Invoke


def test_without_arguments_both_machines_are_told_as_text(nixfleet: Invoke) -> None:
    """The plain command shows the host's machine and then the rollout's, readable as they stand."""
    drawn = nixfleet("graph")

    assert drawn.exit_code == 0, drawn.output
    assert drawn.stdout == f"{text(host_graph())}\n{text(rollout_graph())}\n"


def test_a_machine_is_drawn_alone_as_mermaid(nixfleet: Invoke) -> None:
    """A diagram that can be pasted into a page."""
    drawn = nixfleet("graph", "rollout", "--format", "mermaid")

    assert drawn.stdout == f"{mermaid(rollout_graph())}\n"


def test_a_machine_is_drawn_alone_as_dot(nixfleet: Invoke) -> None:
    """A drawing that Graphviz takes."""
    drawn = nixfleet("graph", "host", "--format", "dot")

    assert drawn.stdout == f"{dot(host_graph())}\n"


@pytest.mark.parametrize("arguments", [["fleet"], ["host", "--format", "pdf"]])
def test_what_cannot_be_drawn_is_a_usage_error(nixfleet: Invoke, arguments: list[str]) -> None:
    """Another machine or another format is the caller's mistake, and the choices are named."""
    drawn = nixfleet("graph", *arguments)

    assert drawn.exit_code == 2
    assert "is not one of" in drawn.stderr
