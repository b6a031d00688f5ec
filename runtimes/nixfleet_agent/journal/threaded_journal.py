"""Makes a journal whose calls block a `Journal`, with a thread of its own for what writes. Decides nothing."""

from collections.abc import Collection, Sequence
from functools import partial

import anyio.to_thread

from nixfleet_agent.journal.journal import BlockingJournal, JournalRow, JournalSnapshot
from nixfleet_agent.messages.writes import Write
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.process.threads import WriterThread


class ThreadedJournal:
    """A `Journal` that calls `journal`: `load` and `commit` in one thread, questions beside them in others."""

    def __init__(self, journal: BlockingJournal) -> None:
        self._journal = journal
        self._thread = WriterThread("journal")

    async def load(self) -> JournalSnapshot:
        """Return the committed contents. Raises: what the journal raises."""
        return await self._thread.run(self._journal.load)

    async def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, atomically. Raises: what the journal raises."""
        await self._thread.run(partial(self._journal.commit, writes))

    async def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """Return the oldest rows neither acknowledged nor refused, up to `limit`, except those of `excluding`."""
        return await anyio.to_thread.run_sync(self._journal.unsent, limit, excluding)

    async def last_seqs(self) -> FrozenMap[str, int]:
        """Return the seq of the last fact of each rollout, committed or bootstrapped."""
        return await anyio.to_thread.run_sync(self._journal.last_seqs)

    async def close(self) -> None:
        """Close the journal, unless a call of it hangs."""
        self._thread.end(self._journal.close)
