"""Our journal keeps the contract of a journal."""

from pathlib import Path

from nixfleet_agent.journal.journal import Journal, SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_testing.contracts.journal import JournalContract


class TestSqliteJournal(JournalContract):
    """The embedded default."""

    async def open_journal(self, directory: Path) -> Journal:
        """Open the database in `directory`."""
        return ThreadedJournal(SqliteJournal(directory / "journal.sqlite"))


class TestSqliteJournalUnderTrio(TestSqliteJournal):
    """The same under trio."""

    backend = "trio"
