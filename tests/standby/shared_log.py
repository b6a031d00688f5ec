"""The witness's audit, of a log in PostgreSQL: it reads beside those that lead, and takes nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.log_entry import FactReported
from nixfleet_postgres.reading import PostgresQueries
from nixfleet_postgres.target import Target
from tests.faults.site import Site
from tests.faults.witness import JournalsAudit

ROWS_AT_ONCE = 5_000


class SharedAudit(JournalsAudit):
    """Follows the log of a schema. Each method raises AssertionError at what must not be."""

    def __init__(self, site: Site, queries: PostgresQueries) -> None:
        super().__init__(site)
        self._queries = queries
        self._replay = Replay()

    @property
    def state(self) -> State:
        """The state after the log, as far as it was read."""
        return self._replay.state

    async def read_on(self) -> None:
        """Read what was committed since; every row that was read before is still there."""
        head = await self._queries.head()
        assert head >= self.state.head_seq, "rows that were committed are gone"
        while rows := await self._queries.log_rows(
            None, after_seq=self.state.head_seq, limit=ROWS_AT_ONCE
        ):
            for row in rows:
                for applied in self._replay.take(row):
                    if isinstance(applied.logged.entry, FactReported):
                        self.note(row.seq, applied.logged.entry)


@asynccontextmanager
async def audit_of(site: Site, target: Target) -> AsyncIterator[SharedAudit]:
    """Yield an audit of the schema."""
    with closing(PostgresQueries(target)) as queries:
        yield SharedAudit(site, queries)
