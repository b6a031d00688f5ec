"""The hosts whose time will come, by time: finding those that are due costs what is due, not the fleet.

Only times are kept here; what is due is computed again from the records. An entry is current while the host still has
that time, and is dropped lazily otherwise. A drop is noted in the undo log: the change that made the entry stale may be
rolled back.
"""

from collections.abc import Callable
from datetime import datetime
from heapq import heappop, heappush
from typing import NamedTuple

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.undo import UndoLog


class DueHost(NamedTuple):
    """One host of one rollout, and when its time comes."""

    at: datetime
    rollout_id: RolloutId
    hostname: str


class DueIndex:
    """A heap of hosts. is_current: whether an entry still says what the view says."""

    def __init__(self, undo: UndoLog, is_current: Callable[[DueHost], bool]) -> None:
        self._undo = undo
        self._is_current = is_current
        self._heap: list[DueHost] = []

    def add(self, due: DueHost) -> None:
        """Add a host. Its earlier entries are no longer current."""
        heappush(self._heap, due)

    def first(self) -> datetime | None:
        """Return when the time of the first host comes; `None`: there is none."""
        self._drop_stale()
        return self._heap[0].at if self._heap else None

    def until(self, now: datetime) -> list[DueHost]:
        """Return the hosts whose time has come, in order. They stay until they are no longer current."""
        found: list[DueHost] = []
        self._drop_stale()
        while self._heap and self._heap[0].at <= now:
            due = heappop(self._heap)
            if not found or found[-1] != due:
                found.append(due)
            self._drop_stale()
        for due in found:
            heappush(self._heap, due)
        return found

    def _drop_stale(self) -> None:
        while self._heap and not self._is_current(self._heap[0]):
            self._undo.note(heappush, self._heap, heappop(self._heap))
