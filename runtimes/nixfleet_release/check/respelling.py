"""Corrects a declaration: replaces every unknown name by its suggestion. Pure."""

from collections.abc import Iterable, Mapping

from attrs import evolve

from nixfleet_proto.fleet import Edge
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at


def respelt(fleet: FleetDeclaration, problems: Iterable[Problem]) -> FleetDeclaration:
    """Return `fleet` with the suggestions of `problems` applied to the references of hosts, channels and edges."""
    meant = {problem.path: problem.suggestion for problem in problems if problem.suggestion}
    if not meant:
        return fleet
    return evolve(
        fleet,
        hosts=FrozenMap(
            {
                name: evolve(host, channel=meant.get(f"{at('hosts', name)}.channel", host.channel))
                for name, host in fleet.hosts.items()
            }
        ),
        channels=FrozenMap(
            {
                name: evolve(
                    channel,
                    rollout_policy=meant.get(
                        f"{at('channels', name)}.policy", channel.rollout_policy
                    ),
                )
                for name, channel in fleet.channels.items()
            }
        ),
        edges=_edges("edges", fleet.edges, meant),
        channel_edges=_edges("channel_edges", fleet.channel_edges, meant),
    )


def _edges(table: str, edges: tuple[Edge, ...], meant: Mapping[str, str]) -> tuple[Edge, ...]:
    return tuple(
        Edge(
            meant.get(f"{at(table, index)}.gates", edge.gates),
            meant.get(f"{at(table, index)}.gated", edge.gated),
            edge.reason,
        )
        for index, edge in enumerate(edges)
    )
