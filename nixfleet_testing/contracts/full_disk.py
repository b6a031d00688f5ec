"""A disk that is full for this process: no file may become longer than a few kilobytes, until the context ends."""

import resource
from collections.abc import Generator
from contextlib import contextmanager

BYTES_LEFT = 4096
"""How long a file may be meanwhile. What a test writes must be much longer."""


@contextmanager
def full_disk() -> Generator[None]:
    """Let this process write nothing beyond the first bytes of a file; what tries raises OSError (EFBIG).

    A port that writes elsewhere, for example through a server, is not affected.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES_LEFT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
