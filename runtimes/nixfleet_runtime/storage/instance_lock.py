"""Ensures one process per database. Two writing processes would corrupt it and use the same numbers twice.

The lock is on a file beside the database; the operating system releases it however the process ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DatabaseInUse(Exception):
    """Another process uses this database. pid: its process id from the lock file; may be empty."""

    def __init__(self, database: Path, pid: str) -> None:
        super().__init__(database, pid)
        self.database = database
        self.pid = pid

    def __str__(self) -> str:
        user = f"process {self.pid}" if self.pid else "another process"
        return (
            f"{self.database} is in use: expected no other process, found {user}; "
            "stop it, or configure another database"
        )


@contextmanager
def only_process_on(database: Path) -> Iterator[None]:
    """Lock `database` for this process while the context is open. Raises: DatabaseInUse, OSError."""
    path = database.with_name(f"{database.name}.lock")
    # The lock file is never removed: otherwise a third process could lock a new file of the same name.
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
