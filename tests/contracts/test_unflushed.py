"""The contracts see a commit that is not flushed. Not among the other planted bugs, which run on a disk in memory."""

from pathlib import Path

import pytest

from nixfleet_agent.journal.journal import Journal, SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_testing.contracts.journal import JournalContract
from nixfleet_testing.contracts.store import StoreContract


class UnflushedStore(SqliteStore):
    """Leaves the flush to the operating system."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA synchronous=OFF")


class UnflushedJournal(SqliteJournal):
    """Leaves the flush to the operating system."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._writer.execute("PRAGMA synchronous=NORMAL")


class _OfStores(StoreContract):
    async def open_store(self, directory: Path) -> Store:
        return ThreadedStore(UnflushedStore(directory / "db"))


class _OfJournals(JournalContract):
    async def open_journal(self, directory: Path) -> Journal:
        return ThreadedJournal(UnflushedJournal(directory / "db"))


def test_a_store_without_a_flush_fails_its_contract(tmp_path: Path) -> None:
    """The message names the file."""
    contract = _OfStores()
    with (
        contract.opened_in(tmp_path) as stores,
        pytest.raises(AssertionError, match="a part of db-wal is not flushed"),
    ):
        contract.test_what_was_committed_is_on_the_disk(stores, tmp_path)


def test_a_journal_without_a_flush_fails_its_contract(tmp_path: Path) -> None:
    """The message names the file."""
    contract = _OfJournals()
    with (
        contract.opened_in(tmp_path) as journals,
        pytest.raises(AssertionError, match="a part of db-wal is not flushed"),
    ):
        contract.test_what_was_committed_is_on_the_disk(journals, tmp_path)
