"""The beginnings under budgets with `max_per_minute` whose slots have not come back, by budget name.

The slots come back by an event, never by a look at a clock: see `SlotsReturned`.
Source: docs/spec/pace.md, Beginnings in a minute.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from datetime import datetime

from nixfleet_state_machine.undo import UndoLog


class Beginnings:
    """The times of beginnings, sorted, by budget name. Every change is noted in `undo`."""

    def __init__(self, undo: UndoLog) -> None:
        self._undo = undo
        self._times: dict[str, list[datetime]] = {}

    def add(self, budget: str, at: datetime) -> None:
        """Add one beginning."""
        times = self._times.setdefault(budget, [])
        # In order unless the clock was set back: then it costs a search.
        place = bisect_right(times, at)
        times.insert(place, at)
        self._undo.note(times.pop, place)

    def remove(self, budget: str, begun_by: datetime) -> int:
        """Remove the beginnings up to `begun_by`; return how many they were."""
        times = self._times.get(budget, [])
        count = bisect_right(times, begun_by)
        self._undo.note(self._add_again, budget, times[:count])
        del times[:count]
        return count

    def remove_one(self, budget: str, at: datetime) -> bool:
        """Remove one beginning at `at`; return whether there was one."""
        times = self._times.get(budget, [])
        place = bisect_right(times, at) - 1
        if place < 0 or times[place] != at:
            return False
        self._undo.note(times.insert, place, times.pop(place))
        return True

    def count(self, budget: str) -> int:
        """Return how many there are."""
        return len(self._times.get(budget, ()))

    def count_until(self, budget: str, begun_by: datetime) -> int:
        """Return how many there are up to `begun_by`."""
        return bisect_right(self._times.get(budget, ()), begun_by)

    def first(self, budget: str) -> datetime | None:
        """Return the earliest; `None`: there is none."""
        times = self._times.get(budget)
        return times[0] if times else None

    def firsts(self) -> Iterator[tuple[str, datetime]]:
        """Yield the earliest of each budget, by name."""
        for budget in sorted(self._times):
            times = self._times[budget]
            if times:
                yield budget, times[0]

    def by_budget(self) -> Mapping[str, tuple[datetime, ...]]:
        """Return all of them, for comparison."""
        return {budget: tuple(times) for budget, times in self._times.items() if times}

    def _add_again(self, budget: str, times: list[datetime]) -> None:
        for at in times:
            insort(self._times.setdefault(budget, []), at)
