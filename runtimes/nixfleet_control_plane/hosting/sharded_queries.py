"""The read port over all shards: what is about a rollout is asked of its shard, and lists are put together.

Positions in a list of rollouts are numbers of log rows, and each log has its own. So rows of the second shard count
from `SHARD_ROWS` on, those of the third from twice that, and so on.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Final

from attrs import evolve

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.rebuild import ChainReport, ViewsReport
from nixfleet_control_plane.history.retention.log_start import LogStart
from nixfleet_control_plane.hosting.shard_log import end_of
from nixfleet_control_plane.messages.log_entry import LoggedEntry, LogRow
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.store.queries import ALL, LastCommands, Quarantined, Waiting
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap

SHARD_ROWS: Final = 10**15
"""More rows than a log comes to."""


class ShardedQueries:
    """The `Queries` of a fleet with several shards. What is about one log alone is asked of `MAIN`."""

    def __init__(self, shards: ShardMap, queries: Mapping[str, Queries]) -> None:
        """queries: of each shard, by name."""
        self._shards = shards
        self._all: Sequence[Queries] = tuple(queries[name] for name in shards.all_names)
        self._by_name = queries

    def of(self, rollout_id: str | None) -> Queries:
        """Return the read port of the shard that has a rollout; `None`, or no rollout: of `MAIN`."""
        try:
            channel = None if rollout_id is None else RolloutId(rollout_id).channel
        except InvalidRolloutId:
            channel = None
        return self._by_name[MAIN if channel is None else self._shards.shard_of(channel)]

    async def rollouts(self, *, after_seq: int = 0, limit: int = ALL) -> tuple[RolloutRecord, ...]:
        """As `Queries.rollouts`, those of `MAIN` first."""
        first, after = divmod(after_seq, SHARD_ROWS)
        found: list[RolloutRecord] = []
        for place, queries in enumerate(self._all):
            left = limit - len(found)
            if place < first or left <= 0:
                continue
            records = await queries.rollouts(after_seq=after if place == first else 0, limit=left)
            offset = place * SHARD_ROWS
            found += [
                evolve(it, opened_event_log_seq=it.opened_event_log_seq + offset) for it in records
            ]
        return tuple(found)

    async def hosts(self) -> tuple[HostRolloutState, ...]:
        """As `Queries.hosts`."""
        found = [record for queries in self._all for record in await queries.hosts()]
        return tuple(sorted(found, key=lambda record: (record.rollout_id, record.hostname)))

    async def deferrals(
        self, *, after: tuple[str, str] | None = None, limit: int = ALL
    ) -> tuple[Waiting, ...]:
        """As `Queries.deferrals`."""
        pages = [await queries.deferrals(after=after, limit=limit) for queries in self._all]
        ordered = merge(*pages, key=lambda it: (it.rollout_id, it.hostname))
        return tuple(islice(ordered, limit))

    async def quarantines(self) -> tuple[Quarantined, ...]:
        """As `Queries.quarantines`."""
        found = [each for queries in self._all for each in await queries.quarantines()]
        return tuple(sorted(found, key=lambda it: it.since))

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        """As `Queries.log_rows`, of the shard that has the rollout."""
        return await self.of(rollout_id).log_rows(rollout_id, after_seq=after_seq, limit=limit)

    async def host_rows(
        self, rollout_id: RolloutId, hostname: str, *, limit: int
    ) -> tuple[LogRow, ...]:
        """As `Queries.host_rows`."""
        return await self.of(rollout_id).host_rows(rollout_id, hostname, limit=limit)

    async def waiting_of(self, hostname: str) -> tuple[Waiting, ...]:
        """As `Queries.waiting_of`."""
        found = [each for queries in self._all for each in await queries.waiting_of(hostname)]
        return tuple(sorted(found, key=lambda it: it.rollout_id))

    async def left_at(self, rollout_id: RolloutId, hostname: str) -> datetime | None:
        """As `Queries.left_at`."""
        return await self.of(rollout_id).left_at(rollout_id, hostname)

    async def last_commands(self, rows_max: int) -> LastCommands:
        """As `Queries.last_commands`, over the last rows of each log."""
        found = [await queries.last_commands(rows_max) for queries in self._all]
        times = sorted((at for each in found for at in each.at), reverse=True)
        before = [each.before for each in found if each.before is not None]
        return LastCommands(tuple(times), max(before, default=None))

    async def refused_artefacts(self) -> tuple[LoggedEntry, ...]:
        """As `Queries.refused_artefacts`."""
        return tuple([each for queries in self._all for each in await queries.refused_artefacts()])

    async def status(self) -> State:
        """As `Queries.status`, of `MAIN`."""
        return await self.of(None).status()

    async def head(self) -> int:
        """As `Queries.head`, of `MAIN`."""
        return await self.of(None).head()

    async def end(self) -> tuple[int, bytes]:
        """As `EndOfLog.end`, of `MAIN`."""
        return await end_of(self.of(None))

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """As `Queries.verify`, of `MAIN`."""
        return await self.of(None).verify(noted)

    async def log_start(self) -> LogStart:
        """As `Queries.log_start`, of `MAIN`."""
        return await self.of(None).log_start()

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """As `Queries.rebuild`, of `MAIN`."""
        return await self.of(None).rebuild(exported, noted)
