"""Raises the limit of open files: each connection is one, and services often start with a low limit."""

import resource
from typing import Final

OTHER_FILES_MAX: Final = 200
"""More than the database, its readers and the releases ever have open at once."""


def raise_open_file_limit(connections: int) -> int:
    """Raise the soft limit for `connections`, as far as the hard limit allows; return how many are possible."""
    wanted = connections + OTHER_FILES_MAX
    allowed, allowed_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    may_have = wanted if allowed_max == resource.RLIM_INFINITY else min(wanted, allowed_max)
    if resource.RLIM_INFINITY != allowed < may_have:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may_have, allowed_max))
    return min(connections, may_have - OTHER_FILES_MAX)
