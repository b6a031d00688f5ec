"""One database, one process. Two that write would corrupt it, and number what happens alike.

A lock on a file beside the database, which the kernel lets go of however the process ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DatabaseInUse(Exception):
    """Another process works with this database; `pid` is its number, as it wrote it down."""

    def __init__(self, database: Path, pid: str) -> None:
        super().__init__(database, pid)
        self.database = database
        self.pid = pid

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return (
            f"{self.database} is in use: expected to be alone with it, found {who}; "
            "stop that one, or give this one a file of its own"
        )


@contextmanager
def only_process_on(database: Path) -> Iterator[None]:
    """Be the only process on `database` while the context is open. Raises: DatabaseInUse, OSError."""
    path = database.with_name(f"{database.name}.lock")
    # The file stays: unlinking it would let a third process lock another file of the same name.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseInUse(database, os.pread(descriptor, 20, 0).decode().strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
