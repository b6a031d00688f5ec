"""Performs the acts that concern several control planes on one store."""

from collections.abc import Callable
from typing import assert_never

from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.leadership.control_planes import ControlPlanes
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.leadership_acts import (
    CutFromStore,
    EndProcess,
    LeadershipAct,
    RestartStore,
    StandStill,
)

ENDS_WITHIN_SECONDS = 5.0
"""A service manager kills what has not ended by then."""


class LeadershipActs:
    """Performs them. later: calls something after so many seconds."""

    def __init__(self, world: World, later: Callable[..., None]) -> None:
        self._world = world
        self._later = later
        self._is_over = False

    @property
    def _nodes(self) -> ControlPlanes:
        nodes = self._world.control_plane
        assert isinstance(nodes, ControlPlanes), (
            "a scenario with one control plane has none of these"
        )
        return nodes

    def do(self, act: LeadershipAct) -> None:
        """Perform `act`."""
        nodes = self._nodes
        match act:
            case StandStill():
                participant = nodes.named(act.node)
                participant.stand_still()
                self._later(act.for_seconds, participant.go_on)
            case EndProcess():
                participant = nodes.named(act.node)
                if not act.is_asked:
                    participant.die()
                elif participant.is_up:
                    participant.ask_to_stop()
                    self._later(
                        ENDS_WITHIN_SECONDS, self._kill, participant.name, participant.process
                    )
                back = ENDS_WITHIN_SECONDS if act.is_asked else 0.0
                self._later(back + act.back_after_seconds, self._start, participant.name)
            case CutFromStore():
                until = self._world.agenda.now + int(act.for_seconds * SECOND)
                nodes.named(act.node).link.cuts.append((act.way, until))
            case RestartStore():
                nodes.server.stop()
                for each in nodes.participants.values():
                    each.lose_sessions()
                self._later(act.back_after_seconds, nodes.server.start)
            case _:
                assert_never(act)

    def end_faults(self) -> None:
        """End what lasts."""
        if self._world.scenario.control_planes > 1:
            self._nodes.end_faults()

    def _kill(self, name: str, process: str) -> None:
        participant = self._nodes.participants[name]
        if participant.process == process:
            participant.die()

    def _start(self, name: str) -> None:
        participant = self._nodes.participants[name]
        if not participant.is_up:
            participant.start()
