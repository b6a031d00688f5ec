"""Virtual time as a process has it that may stand still: what is due meanwhile happens when it goes on."""

from collections.abc import Callable
from functools import partial

from nixfleet_simulation.nodes.agenda import Agenda, NodeLifetime


class ProcessTimeline:
    """The agenda of one process. is_still: whether it stands still."""

    def __init__(self, agenda: Agenda) -> None:
        self.is_still = False
        self._agenda = agenda
        self._waiting: list[Callable[[], None]] = []

    @property
    def now(self) -> int:
        """Microseconds since the start."""
        return self._agenda.now

    def after(
        self, delay: int, life: NodeLifetime | None, happen: Callable[..., None], *arguments: object
    ) -> None:
        """As `Agenda.after`."""
        self._agenda.after(delay, life, self.happen, life, partial(happen, *arguments))

    def happen(self, life: NodeLifetime | None, what: Callable[[], None]) -> None:
        """Do `what` now, or when the process goes on, unless `life` is over by then."""
        if self.is_still:
            self._waiting.append(partial(self.happen, life, what))
        elif life is None or not life.is_over:
            what()

    def go_on(self) -> None:
        """Go on: what was due happens now, in the order in which it was due."""
        self.is_still = False
        waiting, self._waiting = self._waiting, []
        for what in waiting:
            self._agenda.after(0, None, what)
