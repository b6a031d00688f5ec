"""A store of a test behind a thread, as the service uses it. The end of the context leaves the store open."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.store import BlockingStore, Snapshot, Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore


class _LeftOpen:
    """A store in front of another one, which a test goes on using."""

    def __init__(self, store: BlockingStore) -> None:
        self._store = store

    def load(self) -> Snapshot:
        return self._store.load()

    def commit(self, writes: Sequence[Write]) -> None:
        self._store.commit(writes)

    def close(self) -> None:
        pass


@asynccontextmanager
async def threaded(store: BlockingStore) -> AsyncIterator[Store]:
    """Yield `store` as a service takes it."""
    behind = ThreadedStore(_LeftOpen(store))
    try:
        yield behind
    finally:
        with anyio.CancelScope(shield=True):
            await behind.close()
