"""The read port of a store that answers SQL: what is asked, once for SQLite and PostgreSQL.

What the rows mean is in `store.queries`; a store adds how one statement is answered, and how much is read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import TypeVar

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.rebuild import (
    ChainReport,
    ViewsReport,
    check_chain,
    check_views,
)
from nixfleet_control_plane.history.retention.log_start import LogStart, log_start
from nixfleet_control_plane.messages.log_entry import LoggedEntry, LogRow
from nixfleet_control_plane.store import queries
from nixfleet_control_plane.store.queries import ALL, LastCommands, Quarantined, Query, Waiting
from nixfleet_control_plane.store.tables import Tables
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.state import RolloutRecord

T = TypeVar("T")


class SqlQueries(ABC):
    """The `Queries` of a store whose tables answer SQL."""

    async def rollouts(self, *, after_seq: int = 0, limit: int = ALL) -> tuple[RolloutRecord, ...]:
        """Return the records of rollouts opened after log row `after_seq`, oldest first, pruned ones included."""
        return await self._answer(queries.rollouts_query(after_seq=after_seq, limit=limit))

    async def hosts(self) -> tuple[HostRolloutState, ...]:
        """Return the host records of rollouts that are not pruned, by the log, ordered by rollout and name."""
        # The table of host records is written behind.
        view = (await self.status()).view
        records = (record for each in view.rollouts for record in view.hosts_of(each))
        return tuple(sorted(records, key=lambda record: (record.rollout_id, record.hostname)))

    async def deferrals(
        self, *, after: tuple[str, str] | None = None, limit: int = ALL
    ) -> tuple[Waiting, ...]:
        """Return the held hosts, ordered by rollout and host, after the given rollout and host."""
        return await self._answer(queries.deferrals_query(after=after, limit=limit))

    async def quarantines(self) -> tuple[Quarantined, ...]:
        """Return every quarantine, oldest first."""
        return await self._answer(queries.QUARANTINES)

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        """Return up to `limit` log rows after `after_seq`, oldest first; of one rollout, if it is given."""
        found = queries.log_rows_query(rollout_id, after_seq=after_seq, limit=limit)
        return await self._answer(found)

    async def host_rows(
        self, rollout_id: RolloutId, hostname: str, *, limit: int
    ) -> tuple[LogRow, ...]:
        """Return the latest log rows about a host in a rollout, the newest first. Rows of long ago may be left out."""
        return await self._answer(queries.host_rows_query(rollout_id, hostname, limit=limit))

    async def waiting_of(self, hostname: str) -> tuple[Waiting, ...]:
        """Return why a host is held, by rollout, and since when; nothing for one that is not."""
        return await self._answer(queries.waiting_of_query(hostname))

    async def left_at(self, rollout_id: RolloutId, hostname: str) -> datetime | None:
        """Return when the host left the rollout for the last time; `None` if no row says so."""
        return await self._answer(queries.left_at_query(rollout_id, hostname))

    async def last_commands(self, rows_max: int) -> LastCommands:
        """Return the operator commands among the last `rows_max` log rows."""
        return await self._answer(queries.last_commands_query(rows_max))

    async def refused_artefacts(self) -> tuple[LoggedEntry, ...]:
        """Return the artefacts refused since the latest one that was put in force, by name."""
        return await self._scan(queries.refused_artefacts)

    async def status(self) -> State:
        """Return the state at the end of the log. Raises: DamagedRow."""
        return await self._scan(lambda tables: Follower(tables).read_all())

    async def head(self) -> int:
        """Return the number of the last row of the log; 0 if it has none."""
        return await self._answer(queries.HEAD)

    async def end(self) -> tuple[int, bytes]:
        """Return the number and the hash of the last row of the log; of an empty one, 0 and 32 zeros."""
        return await self._answer(queries.END)

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """Return how far the hash chain of the log is intact. noted: so many more rows were read."""
        return await self._scan(partial(check_chain, noted=noted))

    async def log_start(self) -> LogStart:
        """Return where the log begins: `WHOLE`, unless its first rows were exported and dropped."""
        return await self._scan(log_start)

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """Return where the stored views differ from those that the log gives. Raises: DamagedRow.

        exported: the rows before the first one of the log; without them it begins with the views of `log_start`.
        noted: so many more rows were replayed.
        """
        return await self._scan(partial(check_views, exported=exported, noted=noted))

    @abstractmethod
    async def _answer(self, query: Query[T]) -> T:
        """Return the answer to `query`. Raises: NotReadable."""

    @abstractmethod
    async def _scan(self, work: Callable[[Tables], T]) -> T:
        """Return the result of `work`, which reads much. Raises: NotReadable, what `work` raises."""
