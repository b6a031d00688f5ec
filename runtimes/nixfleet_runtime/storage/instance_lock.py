"""Ensures one process per database. Two writing processes would corrupt it and use the same numbers twice.

Two locks are held. One is on a file beside the database, which exists before the database and names the holder. The
other is on the database file itself: it belongs to the file and not to a name, so a second name of the same file (a
hard link) leads to the same lock. A symbolic link in place of the database is refused, because SQLite would keep its
write-ahead log under a name that others do not know. The operating system releases both locks however the process ends.

`flock` is independent of the locks that SQLite takes (`fcntl`) on Linux. Elsewhere the two may be one, so there only
the first lock is held.
"""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.regular_file import UnfitFile, open_regular_file

_COMMAND_LENGTH_MAX: Final = 200
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class DatabaseInUse(NixfleetError):
    """Another process uses this database. pid: its process id, command: its command line; either may be empty."""

    def __init__(self, database: Path, pid: str, command: str = "") -> None:
        super().__init__(database, pid, command)
        self.database = database
        self.pid = pid
        self.command = command

    def __str__(self) -> str:
        user = f"process {self.pid}" if self.pid else "another process"
        command = f" ({self.command})" if self.command else ""
        return (
            f"{self.database} is in use: expected no other process, found {user}{command}; "
            "stop it, or configure another database"
        )


@contextmanager
def only_process_on(database: Path) -> Iterator[None]:
    """Lock `database` for this process while the context is open; create it, empty, if it does not exist.

    Raises: DatabaseInUse, UnfitFile, OSError.
    """
    with ExitStack() as held:
        # The lock file is never removed: otherwise a third process could lock a new file of the same name.
        beside = _opened(database.with_name(f"{database.name}.lock"), held)
        if not _is_locked_by_us(beside):
            raise _in_use(database, _number_in(beside))
        os.ftruncate(beside, 0)
        os.pwrite(beside, f"{os.getpid()}\n".encode(), 0)
        file = _opened(database, held)
        if sys.platform == "linux" and not _is_locked_by_us(file):
            raise _in_use(database, _holder_of(file))
        names = os.fstat(file).st_nlink
        if names > 1:
            # A crash under the other name would leave a write-ahead log that is not found under this one.
            raise UnfitFile(database, "a file with one name", f"{names} (hard links)")
        for suffix in ("-wal", "-shm"):
            # Left by a crash, perhaps of a version that made them readable for others.
            with suppress(FileNotFoundError), ExitStack() as briefly:
                _opened(database.with_name(database.name + suffix), briefly, create=False)
        yield


def _opened(path: Path, held: ExitStack, *, create: bool = True) -> int:
    """Return a descriptor of the file at `path`, which is for its owner alone from now on."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    descriptor = open_regular_file(path, flags, follow_links=False)
    held.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if stat.S_IMODE(status.st_mode) & _OTHERS:
        try:
            os.fchmod(descriptor, 0o600)
        except PermissionError as error:
            raise UnfitFile(path, "a file of this user", f"one of user {status.st_uid}") from error
    return descriptor


def _is_locked_by_us(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(database: Path, pid: str) -> DatabaseInUse:
    return DatabaseInUse(database, pid, _command_of(pid))


def _number_in(lock_file: int) -> str:
    text = os.pread(lock_file, 20, 0).decode(errors="replace").strip()
    return text if text.isdecimal() else ""


def _holder_of(file: int) -> str:
    """Return the process that holds a lock on the open `file`, as the kernel lists it; empty if it is not listed."""
    status = os.fstat(file)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.split()
            if (kind, place) == ("FLOCK", device):
                return pid if int(pid) > 0 else ""  # 0: in another container
    return ""


def _command_of(pid: str) -> str:
    try:
        arguments = Path("/proc", pid, "cmdline").read_bytes() if pid else b""
    except OSError:
        return ""
    return " ".join(arguments.decode(errors="replace").split("\0")).strip()[:_COMMAND_LENGTH_MAX]
