"""The read port of a store that can return its log and nothing more: a SQLite database of views, rebuilt from the log.

The database is a mirror in a temporary directory. Each question first brings it up to the end of the log, by the
control plane's own replay, so its answers cannot differ from those of the SQLite store. A start reads the whole log.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread
from attrs import evolve

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.rebuild import ChainReport, ViewsReport
from nixfleet_control_plane.history.retention.log_start import WHOLE, LogStart
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of
from nixfleet_control_plane.messages.log_entry import LoggedEntry, LogRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.store.queries import ALL, LastCommands, Quarantined, Waiting
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.state import RolloutRecord

RowsAfter: TypeAlias = Callable[[int], Awaitable[Sequence[LogRow]]]
"""Returns the committed log rows with a higher number, oldest first: all of them, or as many as are read at once."""


class MirroredQueries:
    """The `Queries` of a log that `rows_after` reads, under asyncio only. directory: an empty one, for the mirror."""

    def __init__(self, rows_after: RowsAfter, directory: Path) -> None:
        self._rows_after = rows_after
        self._path = directory / "views.sqlite"
        self._store = SqliteStore(self._path)
        self._state: State | None = State()
        self._mirror = SqliteQueries(self._path)
        self._one_at_a_time = anyio.Lock()

    async def rollouts(self, *, after_seq: int = 0, limit: int = ALL) -> tuple[RolloutRecord, ...]:
        """As `Queries.rollouts`."""
        return await (await self._current()).rollouts(after_seq=after_seq, limit=limit)

    async def hosts(self) -> tuple[HostRolloutState, ...]:
        """As `Queries.hosts`."""
        return await (await self._current()).hosts()

    async def deferrals(
        self, *, after: tuple[str, str] | None = None, limit: int = ALL
    ) -> tuple[Waiting, ...]:
        """As `Queries.deferrals`."""
        return await (await self._current()).deferrals(after=after, limit=limit)

    async def quarantines(self) -> tuple[Quarantined, ...]:
        """As `Queries.quarantines`."""
        return await (await self._current()).quarantines()

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        """As `Queries.log_rows`."""
        return await (await self._current()).log_rows(rollout_id, after_seq=after_seq, limit=limit)

    async def host_rows(
        self, rollout_id: RolloutId, hostname: str, *, limit: int
    ) -> tuple[LogRow, ...]:
        """As `Queries.host_rows`."""
        return await (await self._current()).host_rows(rollout_id, hostname, limit=limit)

    async def waiting_of(self, hostname: str) -> tuple[Waiting, ...]:
        """As `Queries.waiting_of`."""
        return await (await self._current()).waiting_of(hostname)

    async def left_at(self, rollout_id: RolloutId, hostname: str) -> datetime | None:
        """As `Queries.left_at`."""
        return await (await self._current()).left_at(rollout_id, hostname)

    async def last_commands(self, rows_max: int) -> LastCommands:
        """As `Queries.last_commands`."""
        return await (await self._current()).last_commands(rows_max)

    async def refused_artefacts(self) -> tuple[LoggedEntry, ...]:
        """As `Queries.refused_artefacts`."""
        return await (await self._current()).refused_artefacts()

    async def status(self) -> State:
        """As `Queries.status`."""
        return await (await self._current()).status()

    async def head(self) -> int:
        """As `Queries.head`."""
        return await (await self._current()).head()

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """Return that the log can be replayed to its end: its bytes are the store's own matter."""
        return evolve(await (await self._current()).verify(noted), is_kept=False)

    async def log_start(self) -> LogStart:
        """As `Queries.log_start`: a log that can be mirrored is whole."""
        return WHOLE

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """As `Queries.rebuild`, of the mirror's views."""
        return await (await self._current()).rebuild(exported, noted)

    def close(self) -> None:
        """Close the mirror."""
        self._store.close()

    async def _current(self) -> SqliteQueries:
        """Bring the mirror up to the end of the log. Raises: NotReadable."""
        async with self._one_at_a_time:
            try:
                state = self._state
                if state is None:
                    state = await anyio.to_thread.run_sync(load_state, self._store)
                while rows := await self._rows_after(state.head_seq):
                    # Not cancelled half-way: state and mirror go on together.
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(self._append, state, rows)
            except (OSError, sqlite3.Error, DamagedRow) as error:
                raise NotReadable("the log", str(error)) from error
            self._state = state
        return self._mirror

    def _append(self, state: State, rows: Sequence[LogRow]) -> None:
        """Bring `state` and the mirror to the end of `rows`. Raises: DamagedRow, OSError, sqlite3.Error.

        After an error the state is ahead of the mirror, which has none of `rows`: it is loaded again from there.
        """
        self._state = None
        commit = CommitBuilder()
        for row in rows:
            if row.seq != state.head_seq + 1:
                raise DamagedRow(row.seq, row.kind, f"expected row {state.head_seq + 1} here")
            replay(state, commit, entry_of(row))
            state.undo.settle()
        self._store.commit(commit.writes)
