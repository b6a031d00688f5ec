"""The state of a control plane that follows a log: loaded once, and then brought on row by row, as a replay does.

Whoever takes over has only the last rows to read. Decides nothing.
"""

from collections.abc import Sequence
from typing import Final

import anyio
import anyio.to_thread

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import CacheIncomplete, state_by_log, state_of
from nixfleet_control_plane.leadership.shared_store import LogHead, SharedStore
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of
from nixfleet_control_plane.messages.log_entry import LogRow, chain_hash

ROWS_SECONDS_MAX: Final = 10.0
"""How long a page of the log may take to be read."""


class WarmState:
    """The state at the end of a log, as far as it was read. head: its last row. It is used by one task at a time."""

    def __init__(self, state: State, head: LogHead) -> None:
        self.state = state
        self.head = head

    async def catch_up(self, shared: SharedStore) -> None:
        """Read to the end of the log.

        Raises: Unreachable, TimeoutError; LogForked and DamagedRow, after which it is used no more.
        """
        while rows := await self._next_rows(shared):
            # In a thread, so that a standby far behind answers meanwhile; not cancelled half-way.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._take, rows)

    async def _next_rows(self, shared: SharedStore) -> Sequence[LogRow]:
        # A session may be lost without a sign; the next call has another one.
        with anyio.fail_after(ROWS_SECONDS_MAX):
            return await shared.rows_after(self.head)

    def _take(self, rows: Sequence[LogRow]) -> None:
        state, end = self.state, self.head.hash
        for row in rows:
            if row.seq != state.head_seq + 1:
                raise DamagedRow(row.seq, row.kind, f"expected row {state.head_seq + 1} here")
            # What the leader writes to the tables follows from the row, and is written already.
            replay(state, CommitBuilder(), entry_of(row))
            end = chain_hash(end, row)
        state.undo.settle()
        self.head = LogHead(state.head_seq, end)


async def loaded_warm(shared: SharedStore) -> WarmState:
    """Return the state as of now, without taking or writing anything.

    Raises: Unreachable, DamagedRow, DecodeError, TransitionError.
    """
    found = await shared.snapshot()
    try:
        state = await anyio.to_thread.run_sync(state_of, found.snapshot)
    except CacheIncomplete:
        found = await shared.snapshot(from_log=True)
        state = await anyio.to_thread.run_sync(state_by_log, found.snapshot)
    return WarmState(state, found.head)
