"""The rows of the log for its readers: from memory, or from the store, in portions that readers share.

After a restart all readers come again at once, and most ask for the same rows. One portion is read at a time, and each
once: whoever waited for it gets the same one. A portion is kept for seconds alone, since rows may be dropped.
Source: docs/spec/wire.md, The feed.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio
from attrs import frozen

from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.messages.log_entry import LogRow

BYTES_A_PORTION: Final = 8 * 1024 * 1024
"""Of payloads. A portion ends with the piece that reaches this."""
ROWS_A_PIECE: Final = 250
PORTIONS_KEPT: Final = 4
KEPT_SECONDS: Final = 5.0


class ReadsRows(Protocol):
    """Reads rows of the log from the store; `Queries` does. Raises: NotReadable."""

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]: ...


@frozen
class _Portion:
    """rows: those after a row. read_at: when, in seconds."""

    rows: Sequence[LogRow]
    read_at: float


class LogRows:
    """The rows of the log. store: has what is older than the rows in memory. seconds: the clock for what is kept."""

    def __init__(
        self,
        feed: Callable[[], Feed],
        store: ReadsRows,
        seconds: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._feed = feed
        self._store = store
        self._seconds = seconds
        self._portions: dict[tuple[int, int], _Portion] = {}
        self._is_read = anyio.Lock()

    async def after(self, seq: int, limit: int) -> Sequence[LogRow]:
        """Return up to `limit` rows after a row, oldest first. Raises: NotReadable."""
        rows = self._known(seq, limit)
        if rows is not None:
            return rows
        async with self._is_read:
            rows = self._known(seq, limit)
            return await self._read(seq, limit) if rows is None else rows

    def _known(self, seq: int, limit: int) -> Sequence[LogRow] | None:
        rows = self._feed().after(seq, limit)
        if rows is not None or not self._portions:
            return rows
        oldest = self._seconds() - KEPT_SECONDS
        self._portions = {
            key: portion for key, portion in self._portions.items() if portion.read_at >= oldest
        }
        portion = self._portions.get((seq, limit))
        return None if portion is None else portion.rows

    async def _read(self, seq: int, limit: int) -> Sequence[LogRow]:
        rows, size, after = list[LogRow](), 0, seq
        while len(rows) < limit and size < BYTES_A_PORTION:
            wanted = min(limit - len(rows), ROWS_A_PIECE)
            piece = await self._store.log_rows(None, after_seq=after, limit=wanted)
            rows += piece
            size += sum(len(row.payload) for row in piece)
            if len(piece) < wanted:
                return rows  # The end of the log, which grows.
            after = piece[-1].seq
        self._portions[seq, limit] = _Portion(rows, self._seconds())
        if len(self._portions) > PORTIONS_KEPT:
            del self._portions[next(iter(self._portions))]
        return rows
