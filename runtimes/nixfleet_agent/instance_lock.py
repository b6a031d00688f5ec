"""One journal, one agent. Two would number their facts alike and switch the machine against each other.

A lock on a file beside the journal, which the kernel lets go of however the process ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class JournalInUse(Exception):
    """Another agent works with this journal; `pid` is its process, as it wrote it down."""

    def __init__(self, journal: Path, pid: str) -> None:
        super().__init__(journal, pid)
        self.journal = journal
        self.pid = pid

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return (
            f"{self.journal} is in use: expected to be its only agent, found {who}; "
            "stop that one, or give this one a journal of its own"
        )


@contextmanager
def only_agent_on(journal: Path) -> Iterator[None]:
    """Be the only agent on `journal` while the context is open. Raises: JournalInUse, OSError."""
    path = journal.with_name(f"{journal.name}.lock")
    # The file stays: unlinking it would let a third agent lock another file of the same name.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalInUse(journal, os.pread(descriptor, 20, 0).decode().strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
