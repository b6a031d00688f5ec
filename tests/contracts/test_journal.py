"""Our journal keeps the contract of a journal."""

from pathlib import Path

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_testing.contracts.journal import JournalContract


class TestSqliteJournal(JournalContract):
    """The embedded default."""

    def open_journal(self, directory: Path) -> SqliteJournal:
        """Open the database in `directory`."""
        return SqliteJournal(directory / "journal.sqlite")
