"""The journal that a simulated host reads from is a journal, by the contract that the production one keeps."""

from pathlib import Path

from nixfleet_agent.journal.journal import Journal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_simulation.nodes.memory_journal import MemoryJournal
from nixfleet_testing.contracts.journal import JournalContract


class TestMemoryJournal(JournalContract):
    """What is on a simulated host's disk outlives its processes."""

    is_on_disk = False
    kept: dict[Path, MemoryJournal]

    async def open_journal(self, directory: Path) -> Journal:
        """Return what is on that disk."""
        self.kept = getattr(self, "kept", {})
        return ThreadedJournal(self.kept.setdefault(directory, MemoryJournal()))
