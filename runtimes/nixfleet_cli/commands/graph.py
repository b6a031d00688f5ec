"""`nixfleet graph`: the two machines, drawn from what the code does. Needs no database."""

from collections.abc import Callable, Mapping

import click

from nixfleet_state_machine.graph import Graph, dot, host_graph, mermaid, rollout_graph, text

_MACHINES: Mapping[str, Callable[[], Graph]] = {"host": host_graph, "rollout": rollout_graph}
_DRAWINGS: Mapping[str, Callable[[Graph], str]] = {"text": text, "mermaid": mermaid, "dot": dot}


@click.command()
@click.argument("machine", required=False, type=click.Choice(list(_MACHINES)))
@click.option(
    "--format", "drawing", type=click.Choice(list(_DRAWINGS)), default="text", show_default=True
)
def graph(machine: str | None, drawing: str) -> None:
    """Draw the state machines, or one of the two, from the code itself.

    A move reads: what happened [only if] / what is ordered then; "?" where that is not always so.

    Exit codes: 0 drawn; 2 there is no such machine or format.
    """
    for name in _MACHINES if machine is None else (machine,):
        click.echo(_DRAWINGS[drawing](_MACHINES[name]()))
