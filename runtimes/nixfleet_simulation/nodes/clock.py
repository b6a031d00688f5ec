"""A node's clock: it has an initial offset, and may jump. Waiting is not affected: it is monotonic."""

from datetime import datetime, timedelta

from nixfleet_simulation.nodes.agenda import Agenda
from nixfleet_simulation.scenario.scenario import START


def time_at(moment: int) -> datetime:
    """Return the time of a correct clock at `moment`, if the simulation begins at `START`."""
    return START + timedelta(microseconds=moment)


class NodeClock:
    """The clock of one node.

    off_by: the microseconds that it is ahead. set_forward, set_back: all that it was ever set forward and back by,
    together.
    """

    def __init__(self, agenda: Agenda, off_by: int = 0) -> None:
        self._agenda = agenda
        self.off_by = off_by
        self.set_forward = 0
        self.set_back = 0

    def now(self) -> datetime:
        """Return the time as this node sees it."""
        return self._agenda.time + timedelta(microseconds=self.off_by)

    def jump(self, by: int) -> None:
        """Move the clock by `by` microseconds, backwards when negative."""
        self.off_by += by
        self.set_forward += max(by, 0)
        self.set_back += max(-by, 0)

    def set_right(self) -> None:
        """Show the time of a correct clock."""
        self.jump(-self.off_by)

    async def sleep(self, seconds: float) -> None:
        """Raise AssertionError: in virtual time, waiting is an entry in the agenda. Present to satisfy `Clock`."""
        raise AssertionError(seconds)
