"""Puts lines that come within one minute together, so that a thousand failures are one message. Pure, and bounded.

A group counts every line, and keeps the sentences of a few: those that matter most, the earliest first.
Source: docs/spec/notifications.md, Coalescing.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve

from nixfleet_notify.messages.filters import rank_of
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import ListedRow

LINES_KEPT: Final = 20


class Group:
    """Lines of one message, in the order of their rows. opened_at: when the first one was read, by our clock."""

    def __init__(self, first: ListedRow, opened_at: datetime) -> None:
        self.opened_at = opened_at
        self.first_seq = self.last_seq = first.seq
        self.types: Counter[str] = Counter()
        self._first_ts = first.ts
        self._kept: dict[int, list[ListedRow]] = {rank: [] for rank in range(len(Severity))}
        self.add(first)

    @property
    def count(self) -> int:
        """How many lines it has."""
        return self.types.total()

    @property
    def first_ts(self) -> datetime:
        """When the control plane wrote its first line."""
        return self._first_ts

    @property
    def lines(self) -> tuple[ListedRow, ...]:
        """Return what is kept of them: those that matter most, the earliest first."""
        kept = [line for _, lines in sorted(self._kept.items(), reverse=True) for line in lines]
        return tuple(kept[:LINES_KEPT])

    def takes(self, line: ListedRow, seconds: float) -> bool:
        """Return whether `line` belongs to it: to its row, or to the `seconds` after its first line.

        A control plane's clock that was set back leaves the group open.
        """
        is_in_time = line.ts - self._first_ts < timedelta(seconds=seconds)
        return line.seq == self.last_seq or (seconds > 0 and is_in_time)

    def add(self, line: ListedRow) -> None:
        """Add a line that it takes."""
        self.last_seq = line.seq
        self.types[line.type or line.kind] += 1
        kept = self._kept[rank_of(line)]
        if len(kept) < LINES_KEPT:
            # Of several lines no payload is sent.
            kept.append(line if self.count == 1 else evolve(line, payload=FrozenMap()))
