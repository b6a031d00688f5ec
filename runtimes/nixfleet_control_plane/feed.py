"""The rows of the log as they become durable, for those who follow it. Rows come from commits, not from the store.

The last ones are kept in memory, so that a follower costs the database nothing; who is further behind reads the store
first. A row is here only after its commit is durable, in order and without gaps.
Source: docs/spec/wire.md, The feed.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import anyio

from nixfleet_control_plane.messages.log_entry import LogRow

ROWS_KEPT: Final = 10_000
BYTES_KEPT: Final = 64 * 1024 * 1024
"""Of payloads: a host may report a megabyte in a row, and 10,000 of them must not fill the memory."""
BEAT_SECONDS: Final = 0.25
"""Streams send at most so often."""
IDLE_SECONDS: Final = 15.0
"""How long a stream says nothing."""


class Feed:
    """The end of a log. head: the number of its last row.

    rows_kept, bytes_kept: how many of the last rows stay in memory, and how long their payloads are together.
    beats: how often streams were let go on, all at once: hundreds of timers would cost more than what they send.
    """

    def __init__(
        self, head: int = 0, *, rows_kept: int = ROWS_KEPT, bytes_kept: int = BYTES_KEPT
    ) -> None:
        self.head = head
        self.is_closed = False
        self._rows: deque[LogRow] = deque()
        self._rows_kept = rows_kept
        self._bytes_kept = bytes_kept
        self._bytes = 0
        self._grown = anyio.Event()
        self.beats = 0
        self._beat = anyio.Event()

    def add(self, rows: Iterable[LogRow]) -> None:
        """Take rows that have become durable, in order, and wake everyone who waits for one."""
        before = self.head
        for row in rows:
            if row.seq != self.head + 1:
                # Never an error, for the rows are durable. What is not here is read from the store.
                self._rows.clear()
                self._bytes = 0
            self._rows.append(row)
            self._bytes += len(row.payload)
            self.head = row.seq
        while len(self._rows) > self._rows_kept or self._bytes > self._bytes_kept:
            self._bytes -= len(self._rows.popleft().payload)
        if self.head > before:
            self._wake()

    @property
    def last(self) -> LogRow | None:
        """The last row; `None`: it is not kept."""
        return self._rows[-1] if self._rows else None

    def close(self) -> None:
        """End every wait, now and later."""
        self.is_closed = True
        self._wake()
        self._let_go_on()

    def after(self, seq: int, limit: int) -> tuple[LogRow, ...] | None:
        """Return up to `limit` rows after row `seq`, oldest first; `None`: they are older than what is kept."""
        skipped = seq - (self.head - len(self._rows))
        if skipped < 0:
            return None
        return tuple(islice(self._rows, skipped, skipped + limit))

    async def beyond(self, seq: int) -> None:
        """Return once there is a row after row `seq`, or the feed is closed."""
        while self.head <= seq and not self.is_closed:
            await self._grown.wait()

    async def run_beats(self) -> None:
        """Let streams go on when there are rows, at most every BEAT_SECONDS, and every IDLE_SECONDS; until `close`."""
        seen = self.head
        while not self.is_closed:
            with anyio.move_on_after(IDLE_SECONDS):
                await self.beyond(seen)
            seen = self.head
            self._let_go_on()
            await anyio.sleep(BEAT_SECONDS)

    async def next_beat(self, beats: int) -> None:
        """Return once there was a beat after the one with this number, or the feed is closed."""
        while self.beats <= beats and not self.is_closed:
            await self._beat.wait()

    def _let_go_on(self) -> None:
        self.beats += 1
        beat, self._beat = self._beat, anyio.Event()
        beat.set()

    def _wake(self) -> None:
        grown, self._grown = self._grown, anyio.Event()
        grown.set()
