"""Things whose time will come, by time: finding those that are due costs what is due, not all there are.

Only times are kept here; what is due is computed again from the records. An entry is current while its record still
has that time, and is dropped lazily otherwise. A drop is noted in the undo log: the change that made the entry stale
may be rolled back.
"""

from collections.abc import Callable
from datetime import datetime
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

from nixfleet_state_machine.undo import UndoLog

T = TypeVar("T", bound=tuple[Any, ...])


class TimeHeap(Generic[T]):
    """A heap of named tuples whose first field is a time.

    is_current: whether an entry still has the time of its record.
    """

    def __init__(self, undo: UndoLog, is_current: Callable[[T], bool]) -> None:
        self._undo = undo
        self._is_current = is_current
        self._heap: list[T] = []

    def add(self, entry: T) -> None:
        """Add an entry. Earlier ones of the same record are no longer current."""
        heappush(self._heap, entry)

    def first(self) -> datetime | None:
        """Return when the time of the first entry comes; `None`: there is none."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def first_entry(self) -> T | None:
        """As `first`, with whose time it is."""
        self._drop_stale()
        return self._heap[0] if self._heap else None

    def until(self, now: datetime) -> list[T]:
        """Return the entries whose time has come, in order. They stay until they are no longer current."""
        found: list[T] = []
        self._drop_stale()
        while self._heap and self._heap[0][0] <= now:
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
