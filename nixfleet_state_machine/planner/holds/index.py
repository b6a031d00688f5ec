"""The holds that are on, by scope, and the time when the next one ends by itself.

Owned by `FleetView`, which marks what a change affects.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKey, HoldSource
from nixfleet_state_machine.planner.holds.scope import HoldScope, RolloutScope, WaveScope
from nixfleet_state_machine.time_heap import TimeHeap
from nixfleet_state_machine.undo import UndoableDict, UndoLog


class _End(NamedTuple):
    at: datetime
    scope: str
    source: str


class HoldIndex:
    """Iteration yields all holds, in no particular order. Two are equal if they have the same holds."""

    def __init__(self, undo: UndoLog) -> None:
        # By the text form of the scope: a gate looks up several scopes of each host, and text is hashed once.
        self._by_scope = UndoableDict[str, tuple[Hold, ...]](undo)
        self._ends = TimeHeap[_End](undo, self._is_current)
        self._for_people = UndoableDict[tuple[str, str], Hold](undo)

    def on(self, scope: str) -> tuple[Hold, ...]:
        """Return the holds on the scope with this text form, by source."""
        return self._by_scope.get(scope, ())

    def get(self, scope: HoldScope, source: HoldSource) -> Hold | None:
        """Return the hold with this key; `None`: there is none."""
        return next((hold for hold in self.on(str(scope)) if hold.source == source), None)

    def put(self, hold: Hold) -> None:
        """Add a hold, in place of the one with its key."""
        scope = str(hold.scope)
        others = (each for each in self.on(scope) if each.source != hold.source)
        holds = sorted((*others, hold), key=lambda each: each.source.order)
        self._by_scope.set(scope, tuple(holds))
        if hold.until is None and hold.source.kind.is_for_people:
            self._for_people.set((scope, str(hold.source)), hold)
        else:
            self._for_people.discard((scope, str(hold.source)))
        if hold.until is not None:
            self._ends.add(_End(hold.until, scope, str(hold.source)))

    def discard(self, scope: HoldScope, source: HoldSource) -> None:
        """Remove the hold with this key, if there is one."""
        text = str(scope)
        left = tuple(hold for hold in self.on(text) if hold.source != source)
        if left:
            self._by_scope.set(text, left)
        else:
            self._by_scope.discard(text)
        self._for_people.discard((text, str(source)))

    def of_rollout(self, rollout_id: RolloutId) -> tuple[Hold, ...]:
        """Return the holds on a rollout and on its waves. O(holds)."""
        return tuple(
            hold
            for hold in self
            if isinstance(hold.scope, RolloutScope | WaveScope)
            and hold.scope.rollout_id == rollout_id
        )

    @property
    def for_people(self) -> Iterator[Hold]:
        """The holds that end by nothing but what a person does, in no particular order. O(those holds)."""
        return iter(self._for_people.values())

    def next_end(self) -> datetime | None:
        """Return when the next hold ends by itself; `None`: none does."""
        return self._ends.first()

    def ended(self, now: datetime) -> Iterator[Hold]:
        """Yield the holds whose time is over, in order of their ends."""
        for _, scope, source in self._ends.until(now):
            yield from (hold for hold in self.on(scope) if str(hold.source) == source)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, HoldKey) and self.get(*key) is not None

    def __iter__(self) -> Iterator[Hold]:
        return (hold for holds in self._by_scope.values() for hold in holds)

    def __len__(self) -> int:
        return sum(map(len, self._by_scope.values()))

    def __bool__(self) -> bool:
        return bool(self._by_scope)

    def __eq__(self, other: object) -> bool:
        return self._by_scope == other._by_scope if isinstance(other, HoldIndex) else NotImplemented

    def _is_current(self, end: _End) -> bool:
        return any(
            hold.until == end.at and str(hold.source) == end.source for hold in self.on(end.scope)
        )
