"""What is on a simulated disk after a crash: whole commits, in the production database."""

from collections.abc import Callable
from pathlib import Path

from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.disk import Disk
from nixfleet_simulation.scenario.randomness import stream
from nixfleet_testing.contracts.store_cases import ROWS


class Node:
    """A process that writes."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.agenda = Agenda()
        self.kept = 0
        self.failures: list[Exception] = []
        self.disk = Disk[Write, SqliteStore](
            self.agenda, stream(seed), directory / "store.sqlite", SqliteStore
        )

    def write(self, *writes: Write, then: Callable[[], None] = lambda: None) -> None:
        self.disk.write(NodeLifetime(), writes, self._keep, then, self.failures.append)

    def wait(self) -> None:
        self.agenda.run_until(self.agenda.now + 60 * SECOND)

    def _keep(self) -> None:
        self.kept += 1

    def head(self) -> int:
        """Return where the log ends for a process that starts now."""
        return self.disk.reopened().load().head_seq


def test_a_commit_whose_time_has_passed_is_there_after_a_crash(tmp_path: Path) -> None:
    """And the process that waited for it was called back."""
    node = Node(tmp_path)
    node.write(*ROWS[:2])
    node.wait()
    node.disk.cut_off(write_survives=False)

    assert (node.kept, node.head()) == (1, 2)


def test_a_commit_that_a_crash_cut_off_is_gone_as_a_whole(tmp_path: Path) -> None:
    """Nobody was told of it."""
    node = Node(tmp_path)
    node.write(*ROWS[:2])
    node.disk.cut_off(write_survives=False)

    assert (node.kept, node.head()) == (0, 0)


def test_a_commit_that_survived_a_crash_is_there_as_a_whole(tmp_path: Path) -> None:
    """Its process was not told, and who checks is."""
    node = Node(tmp_path)
    node.write(*ROWS[:2])
    node.disk.cut_off(write_survives=True)

    assert (node.kept, node.head()) == (1, 2)


def test_a_full_disk_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    """The writer hears of it; what was there stays."""
    node = Node(tmp_path)
    node.disk.fills += 1
    node.write(*ROWS[:2])
    node.wait()

    assert (node.kept, len(node.failures), node.head()) == (0, 1, 0)


def test_a_torn_commit_in_the_real_log_is_not_seen_by_sqlite(tmp_path: Path) -> None:
    """Wherever the write-ahead log ends, what was committed before is there, and nothing of what was torn."""
    for seed in range(20):
        directory = tmp_path / str(seed)
        directory.mkdir()
        node = Node(directory, seed)
        node.write(*ROWS[:2])
        node.wait()
        node.disk.database()
        node.write(*ROWS[2:])
        node.disk.cut_off(write_survives=False)

        assert (node.disk.torn_writes, node.head()) == (1, 2)
        node.disk.close()


def test_a_replaced_disk_is_empty(tmp_path: Path) -> None:
    """Nothing comes back."""
    node = Node(tmp_path)
    node.write(*ROWS)
    node.wait()
    node.disk.database()
    node.disk.replace()

    assert node.head() == 0
