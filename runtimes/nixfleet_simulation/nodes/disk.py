"""A node's disk: commits take time, fail, or are cut off by a crash.

What is durable is a list of commits that the production store or journal has not read yet; it gets them, in
order, before anybody reads from it: after a crash, and at the end. So its logic decides what a start finds,
and a commit costs no SQL while nobody looks. A commit is all or nothing. What is being written when its process
dies is there whole or not at all; a torn one is cut out of the real write-ahead log, and SQLite must not see it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from nixfleet_proto.errors import NixfleetError
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.scenario.randomness import Random

WriteT = TypeVar("WriteT")
WriteT_contra = TypeVar("WriteT_contra", contravariant=True)

WRITE_SECONDS = (0.001, 0.008)
SLOW_WRITE_SECONDS = (0.5, 6.0)
UNREAD_MAX = 2_000
"""Commits that wait for the database; more would only cost memory."""


class DiskFull(NixfleetError, OSError):
    """The disk is full; nothing has changed."""


class Database(Protocol[WriteT_contra]):
    """The interface that a store and a journal share."""

    def commit(self, writes: Sequence[WriteT_contra]) -> None:
        """Make all of `writes` durable, atomically."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


DatabaseT = TypeVar("DatabaseT", bound=Database[Any])


class Disk(Generic[WriteT, DatabaseT]):
    """The disk of one node. fills, slows: the number of faults that make it full, or slow, at the moment.

    open_database: the production store or journal on a file.
    """

    def __init__(
        self,
        agenda: Agenda,
        rng: Random,
        path: Path,
        open_database: Callable[[Path], DatabaseT],
    ) -> None:
        self.fills = 0
        self.slows = 0
        self.torn_writes = 0
        self._agenda = agenda
        self._rng = rng
        self.path = path
        self._open_database = open_database
        self._database: DatabaseT | None = None
        self._unread: list[tuple[WriteT, ...]] = []
        self._under_way: tuple[tuple[WriteT, ...], Callable[[], None]] | None = None

    def write(
        self,
        life: NodeLifetime,
        writes: tuple[WriteT, ...],
        keep: Callable[[], None],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Begin to write. keep: called the moment `writes` are durable, even if the process dies of it."""
        seconds = self._rng.uniform(*(SLOW_WRITE_SECONDS if self.slows > 0 else WRITE_SECONDS))
        self._under_way = writes, keep
        self._agenda.after(int(seconds * SECOND), life, self._end, then, failed)

    def _end(self, then: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        assert self._under_way is not None
        writes, keep = self._under_way
        self._under_way = None
        if self.fills > 0:
            failed(DiskFull("no room"))
            return
        self._keep(writes, keep)
        then()

    def keep_at_once(self, writes: tuple[WriteT, ...], keep: Callable[[], None]) -> None:
        """Make `writes` durable now, as a server does before it answers. Raises: DiskFull."""
        if self.fills > 0:
            raise DiskFull("no room")
        self._keep(writes, keep)

    def _keep(self, writes: tuple[WriteT, ...], keep: Callable[[], None]) -> None:
        self._unread.append(writes)
        keep()
        if len(self._unread) >= UNREAD_MAX:
            self.database()

    def cut_off(self, *, write_survives: bool) -> None:
        """Handle the death of the process: the write under way survives as a whole, or not at all."""
        if self._under_way is None:
            return
        writes, keep = self._under_way
        self._under_way = None
        if write_survives and self.fills <= 0:
            self._keep(writes, keep)
        elif self._database is not None:
            self._tear(writes)

    def replace(self) -> None:
        """Replace the disk by an empty one."""
        self.close()
        self._under_way = None
        self._unread = []
        for path in self._files(self.path):
            path.unlink(missing_ok=True)

    def database(self) -> DatabaseT:
        """Return the production database with everything that is durable."""
        if self._database is None:
            self._database = self._open_database(self.path)
        if self._unread:
            self._database.commit([write for writes in self._unread for write in writes])
            self._unread = []
        return self._database

    def reopened(self) -> DatabaseT:
        """As `database`, after a process came to its end and another one opened the file."""
        self.database()
        self.close()
        return self.database()

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _tear(self, writes: tuple[WriteT, ...]) -> None:
        """Leave a part of the pages of `writes` at the end of the real write-ahead log."""
        database = self.database()
        files = self._files(self.path)[:2]
        before = [path.read_bytes() if path.exists() else b"" for path in files]
        database.commit(writes)
        written = files[1].read_bytes()[len(before[1]) :] if files[1].exists() else b""
        self.close()
        # A commit that began the log anew has not made it longer; then nothing is torn, and all of it is lost.
        part = written[: self._rng.randrange(len(written))] if written else b""
        for path, content in zip(files, (before[0], before[1] + part), strict=True):
            path.write_bytes(content)
        self.torn_writes += 1

    @staticmethod
    def _files(path: Path) -> tuple[Path, Path, Path]:
        return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
