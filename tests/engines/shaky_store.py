"""Stores whose disk may be full, or slow, for a while."""

import sqlite3
import threading
from collections.abc import Callable, Sequence

import anyio
import anyio.from_thread

from nixfleet_control_plane.sqlite_store import SqliteStore
from nixfleet_control_plane.store import Snapshot
from nixfleet_control_plane.writes import Write

HELD_UP_MAX_SECONDS = 10.0


class ShakyStore:
    """A store in front of another one. While `is_full`, every commit is refused; `refused` counts them.

    on_refusal: called at each refusal, in the thread that commits.
    """

    def __init__(self, store: SqliteStore, on_refusal: Callable[[], object] = lambda: None) -> None:
        self.is_full = False
        self.refused = 0
        self._store = store
        self._on_refusal = on_refusal

    def load(self) -> Snapshot:
        return self._store.load()

    def commit(self, writes: Sequence[Write]) -> None:
        if self.is_full:
            self.refused += 1
            self._on_refusal()
            raise sqlite3.OperationalError("database or disk is full")
        self._store.commit(writes)

    def close(self) -> None:
        self._store.close()


class HeldUpStore:
    """A store in front of another one, whose commits wait for `let_go`. `reached`: one has begun to."""

    def __init__(self, store: SqliteStore) -> None:
        self.reached = anyio.Event()
        self._store = store
        self._released = threading.Event()

    def let_go(self) -> None:
        """Let commits end, this one and all that follow."""
        self._released.set()

    def load(self) -> Snapshot:
        return self._store.load()

    def commit(self, writes: Sequence[Write]) -> None:
        anyio.from_thread.run_sync(self.reached.set)
        assert self._released.wait(HELD_UP_MAX_SECONDS), "nobody let go of the store"
        self._store.commit(writes)

    def close(self) -> None:
        self._store.close()


class SmallStore(SqliteStore):
    """A store on a disk of a size: what needs another page of the file than there are is refused."""

    def fill_up(self) -> None:
        """Let there be no page to spare."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self._connection.execute(f"PRAGMA max_page_count={pages}")

    def make_room(self) -> None:
        """Let there be as many pages as anybody may want."""
        self._connection.execute("PRAGMA max_page_count=1000000")
