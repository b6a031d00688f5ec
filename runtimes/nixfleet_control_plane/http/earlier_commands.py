"""Which signed commands an earlier process may have carried out, so that none is carried out again.

Source: docs/spec/trust.md, Request signatures.
"""

from datetime import datetime, timedelta
from typing import Final

from nixfleet_control_plane.reading.queries import Queries
from nixfleet_runtime.http.signing.nonces import EarlierRequests

FRESH_SECONDS: Final = 60
"""How far the time of a signature may be from now, in either direction."""
_ROWS_MAX: Final = 100_000  # read at a start, in a fraction of a second


async def earlier_commands(queries: Queries, now: datetime) -> EarlierRequests:
    """Return the commands that an earlier process may have carried out, by the log.

    It may have accepted a command from a clock that was ahead by up to the window, but no later than the last command
    in the log. So a command right after a start is delayed only if another came right before it, and by at most the
    window. This does not depend on the clock: if it is ahead now, commands are accepted again once it is right. If it
    was ahead before, commands have times that are yet to come; each is remembered by itself.
    """
    window = timedelta(seconds=FRESH_SECONDS)
    last = await queries.last_commands(_ROWS_MAX)
    ended = [at for at in (*last.at, last.before) if at is not None and at <= now + window]
    if ended:
        # One more second: the time of a signature is in whole seconds.
        since: datetime | None = ended[0] + window + timedelta(seconds=1)
    else:
        since = None if last.before is None else now
    return EarlierRequests(since, tuple(at for at in last.at if at > now + window))
