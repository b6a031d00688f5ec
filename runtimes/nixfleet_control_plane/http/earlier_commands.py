"""Which signed commands an earlier process may have carried out, so that none is carried out again.

Source: docs/spec/trust.md, Request signatures.
"""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from nixfleet_control_plane.store import queries
from nixfleet_runtime.http.signing.nonces import EarlierRequests

FRESH_SECONDS: Final = 60
"""How far the time of a signature may be from now, in either direction."""
_ROWS_MAX: Final = 100_000  # read at a start, in a fraction of a second


def earlier_commands(database: Path, now: datetime) -> EarlierRequests:
    """Return the commands that an earlier process may have carried out, by the log in `database`.

    It may have accepted a command from a clock that was ahead by up to the window, but no later than the last command
    in the log. So a command right after a start is delayed only if another came right before it, and by at most the
    window. This does not depend on the clock: if it is ahead now, commands are accepted again once it is right. If it
    was ahead before, commands have times that are yet to come; each is remembered by itself.
    """
    window = timedelta(seconds=FRESH_SECONDS)
    with closing(queries.open_for_reading(database)) as connection:
        last = queries.last_commands(connection, _ROWS_MAX)
    ended = [at for at in (*last.at, last.before) if at is not None and at <= now + window]
    if ended:
        # One more second: the time of a signature is in whole seconds.
        since: datetime | None = ended[0] + window + timedelta(seconds=1)
    else:
        since = None if last.before is None else now
    return EarlierRequests(since, tuple(at for at in last.at if at > now + window))
