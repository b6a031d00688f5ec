"""Watching the fleet of the demonstration through its log, as an operator could: what is not committed is not seen."""

import sqlite3
from collections.abc import Callable

import anyio

from nixfleet_cli.demo.screen import Screen
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_proto.errors import NixfleetError

_LOOKED_EVERY_SECONDS = 0.1


class WentWrong(NixfleetError):
    """The story did not go as it should. `differences`: each says what was expected and what was found."""

    def __init__(self, differences: tuple[str, ...]) -> None:
        super().__init__(differences)
        self.differences = differences

    def __str__(self) -> str:
        return "\n".join(self.differences)


class Watch:
    """Follows a log, shows what happens on a screen, and waits for what should happen.

    patience_seconds: of real time, how long to wait for one thing.
    """

    def __init__(
        self, connection: sqlite3.Connection, screen: Screen, patience_seconds: float
    ) -> None:
        self._follower = Follower(connection)
        self._screen = screen
        self._patience_seconds = patience_seconds

    @property
    def state(self) -> State:
        return self._follower.state

    async def until(self, has_happened: Callable[[State], bool], expected: str) -> None:
        """Return when the log says so. Raises: WentWrong, when that takes too long."""
        with anyio.move_on_after(self._patience_seconds):
            while not has_happened(self.state):
                await anyio.sleep(_LOOKED_EVERY_SECONDS)
                self._look()
            return
        limit = f"within {self._patience_seconds:g} s"
        raise WentWrong((f"expected {expected} {limit}, found {_stand(self.state)}",))

    def _look(self) -> None:
        for applied in self._follower.catch_up():
            self._screen.show(applied)
        self._screen.refresh(self.state)


def _stand(state: State) -> str:
    rollouts = state.view.rollouts.values()
    return ", ".join(f"{each.rollout_id} {each.state}" for each in rollouts) or "no rollout"
