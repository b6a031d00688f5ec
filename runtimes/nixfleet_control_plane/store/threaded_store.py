"""Makes a store whose calls block a `Store`, with a thread of its own. Decides nothing."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.store import BlockingStore, Snapshot
from nixfleet_runtime.process.threads import WriterThread

T = TypeVar("T")


class ThreadedStore:
    """A `Store` that calls `store` in one thread. Runs under asyncio and trio."""

    def __init__(self, store: BlockingStore) -> None:
        self._store = store
        self._thread = WriterThread("store")

    async def load(self) -> Snapshot:
        """Return everything committed. Raises: what the store raises."""
        return await self._thread.run(self._store.load)

    async def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, atomically. Raises: what the store raises."""
        await self._thread.run(partial(self._store.commit, writes))

    async def between_commits(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which runs in the store's thread. It must be short: commits wait for it."""
        return await self._thread.run(work)

    async def close(self) -> None:
        """Close the store, unless a call of it hangs."""
        self._thread.end(self._store.close)
