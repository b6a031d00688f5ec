"""A disk that is full for one process: it may not make any file larger, until it is let."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

BYTES_LEFT = 4096
"""How long a file may be meanwhile: what a database adds comes after that."""


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Let process `pid` write nothing beyond a file's first bytes while the context is open."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (BYTES_LEFT, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
