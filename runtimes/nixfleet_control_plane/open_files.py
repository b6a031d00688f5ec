"""How many files the process may have open: a connection is one, and a service often begins with too few."""

import resource
from typing import Final

OTHER_FILES_MAX: Final = 200
"""More than database, readers and releases ever have open at once."""


def make_room_for(connections: int) -> int:
    """Let this process have so many connections open, if its hard limit allows it; return how many it may have."""
    wanted = connections + OTHER_FILES_MAX
    allowed, allowed_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    may_have = wanted if allowed_max == resource.RLIM_INFINITY else min(wanted, allowed_max)
    if resource.RLIM_INFINITY != allowed < may_have:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may_have, allowed_max))
    return min(connections, may_have - OTHER_FILES_MAX)
