"""Where tests keep databases that they fill over and over: in memory, where the system has such a place.

Nobody pulls the plug in a test, so to flush each commit to a disk would only cost time.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make an empty directory, and remove it in the end."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="nixfleet-", dir=parent) as directory:
        yield Path(directory)
