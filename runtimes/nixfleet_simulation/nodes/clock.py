"""A node's clock: it starts off by something, and may jump. Waiting is not affected: that is monotonic."""

from datetime import UTC, datetime, timedelta

from nixfleet_simulation.nodes.agenda import Agenda

START = datetime(2026, 1, 1, tzinfo=UTC)
"""What a clock that is right shows when a simulation begins."""


def time_at(moment: int) -> datetime:
    """Return what a clock that is right shows at `moment`."""
    return START + timedelta(microseconds=moment)


class NodeClock:
    """What one node takes for the time. `off_by`: microseconds that it is ahead."""

    def __init__(self, agenda: Agenda, off_by: int = 0) -> None:
        self._agenda = agenda
        self.off_by = off_by

    def now(self) -> datetime:
        """Return the time as this node sees it."""
        return START + timedelta(microseconds=self._agenda.now + self.off_by)

    def jump(self, by: int) -> None:
        """Be `by` microseconds further on, at once; less than nothing: back."""
        self.off_by += by

    async def sleep(self, seconds: float) -> None:
        """Never: in virtual time, waiting is an entry in the agenda. Here so that this is a `Clock`."""
        raise AssertionError(seconds)
