"""The boundaries a process crosses between its steps, and the one at which it dies.

Every point at which a crash could leave work half done is a named boundary, so that a crash can be placed
at each of them in turn.
"""

from collections.abc import Callable

from nixfleet_simulation.scenario.acts import Boundary


class CrashBoundaries:
    """One node's boundaries. die: ends the process. crossed: the number crossed so far.

    died_at: where it died last.

    die_at: dies at the crossing of this number, for going through them all one by one.
    """

    def __init__(self, die: Callable[[Boundary], None], die_at: int | None = None) -> None:
        self.crossed = 0
        self.died_at: Boundary | None = None
        self.armed: Boundary | None = None
        self._die = die
        self._die_at = die_at

    def cross(self, boundary: Boundary) -> bool:
        """Cross `boundary`; return whether the process died there, and so must do nothing more."""
        self.crossed += 1
        if self.armed is not boundary and self.crossed != self._die_at:
            return False
        self.armed = None
        self.died_at = boundary
        self._die(boundary)
        return True
