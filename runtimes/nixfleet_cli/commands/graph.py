"""`nixfleet graph`: the two machines, drawn from what the code does. Needs no database."""

from collections.abc import Callable, Mapping

import click

from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import Output, printing
from nixfleet_state_machine.graph import Graph, dot, host_graph, mermaid, rollout_graph, text

_MACHINES: Mapping[str, Callable[[], Graph]] = {"host": host_graph, "rollout": rollout_graph}
_DRAWINGS: Mapping[str, Callable[[Graph], str]] = {"text": text, "mermaid": mermaid, "dot": dot}


@command()
@click.argument("machine", metavar="[MACHINE]", required=False, type=click.Choice(list(_MACHINES)))
@click.option(
    "--format",
    "drawing",
    type=click.Choice(list(_DRAWINGS)),
    default="text",
    show_default=True,
    help="How to draw them.",
)
@printing("one object a machine, with name, start, states and moves")
def graph(output: Output, machine: str | None, drawing: str) -> None:
    """Draw the host and rollout state machines.

    They are derived from the code itself. MACHINE is `host` or `rollout`; without it, both are drawn. A move reads:
    cause [condition] / effects; "?" marks effects that only some records have.

    Exit codes: 0 success; 2 no such machine or format.
    """
    for name in _MACHINES if machine is None else (machine,):
        drawn = _MACHINES[name]()
        output.show(_value(drawn), _DRAWINGS[drawing](drawn).split("\n"))


def _value(drawn: Graph) -> object:
    return {
        "name": drawn.name,
        "start": drawn.start,
        "states": drawn.nodes,
        "moves": [
            {
                "source": each.source,
                "target": each.target,
                "cause": each.cause,
                "condition": each.condition,
                "effects": each.orders,
            }
            for each in drawn.edges
        ],
    }
