"""Stores whose disk may be full, or slow, for a while."""

import sqlite3
from collections.abc import Callable, Sequence

from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Snapshot
from nixfleet_testing.contracts.held_up import HoldsUp


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


class HeldUpStore(HoldsUp):
    """A store in front of another one, whose commits wait for `let_go`."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__()
        self.hold_up()
        self._store = store

    def load(self) -> Snapshot:
        return self._store.load()

    def commit(self, writes: Sequence[Write]) -> None:
        self._pass()
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
