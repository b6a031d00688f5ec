"""Ports with async calls, called from outside their event loop: tests of a contract are plain functions.

The loop runs in a thread of its own, so nothing that a test does in between lets it stand still.
"""

from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal, start_blocking_portal

from nixfleet_agent.journal.journal import Journal, JournalRow, JournalSnapshot
from nixfleet_agent.messages.writes import Write as JournalWrite
from nixfleet_control_plane.messages.writes import Write as StoreWrite
from nixfleet_control_plane.store.store import Snapshot, Store
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_testing.contracts.event_loop import ASYNCIO


@contextmanager
def event_loop(backend: str = ASYNCIO) -> Generator[BlockingPortal]:
    """Run an event loop of `backend` in a thread, until the end of the context."""
    with start_blocking_portal(backend) as portal:
        yield portal


class StoreFromOutside:
    """A store that another thread's event loop runs."""

    def __init__(self, loop: BlockingPortal, opened: Callable[[], Awaitable[Store]]) -> None:
        self._loop = loop
        self._store: Store = loop.call(opened)

    def load(self) -> Snapshot:
        """As `Store.load`."""
        return self._loop.call(self._store.load)

    def commit(self, writes: Sequence[StoreWrite]) -> None:
        """As `Store.commit`."""
        self._loop.call(self._store.commit, writes)

    def close(self) -> None:
        """As `Store.close`."""
        self._loop.call(self._store.close)


class JournalFromOutside:
    """A journal that another thread's event loop runs."""

    def __init__(self, loop: BlockingPortal, opened: Callable[[], Awaitable[Journal]]) -> None:
        self._loop = loop
        self._journal: Journal = loop.call(opened)

    def load(self) -> JournalSnapshot:
        """As `Journal.load`."""
        return self._loop.call(self._journal.load)

    def commit(self, writes: Sequence[JournalWrite]) -> None:
        """As `Journal.commit`."""
        self._loop.call(self._journal.commit, writes)

    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        """As `Journal.unsent`."""
        return self._loop.call(self._journal.unsent, limit, excluding)

    def last_seqs(self) -> FrozenMap[str, int]:
        """As `Journal.last_seqs`."""
        return self._loop.call(self._journal.last_seqs)

    def close(self) -> None:
        """As `Journal.close`."""
        self._loop.call(self._journal.close)
