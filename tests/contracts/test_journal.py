"""Our journal keeps the contract of a journal."""

from pathlib import Path

from nixfleet_agent.journal.journal import Journal, SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_testing.contracts.journal import JournalContract
from tests.support.lossy_connection import LossyConnection, Lost, lossy


class TestSqliteJournal(JournalContract):
    """The embedded default."""

    lossy: type[LossyConnection]

    async def open_journal(self, directory: Path) -> Journal:
        """Open the database in `directory`."""
        kind = self.lossy = lossy()

        class OfLossyConnections(SqliteJournal):
            connection_type = kind

        return ThreadedJournal(OfLossyConnections(directory / "journal.sqlite"))

    def lose_the_next_answer(self) -> None:
        """SQLite reports an error of a COMMIT that it carried out."""
        self.lossy.losing.append(Lost.ANSWER)


class TestSqliteJournalUnderTrio(TestSqliteJournal):
    """The same under trio."""

    backend = "trio"
