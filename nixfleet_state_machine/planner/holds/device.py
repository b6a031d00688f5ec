"""The hold that follows from what a host says of its own lock. Pure.

A host holds itself alone, and for a bounded time: what it says is a claim, which expires. The hold begins and ends with
the fact, in the row that the fact is in; by itself it ends at its time.
Source: docs/spec/holds.md, Locks of devices.
"""

from datetime import datetime, timedelta
from typing import Final

from nixfleet_proto.agent_event import Postponed
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import HostScope

DEVICE: Final = HoldSource(HoldKind.DEVICE)
POSTPONED_MAX: Final = timedelta(days=7)
"""How long one fact of a host holds it, at most."""
POSTPONED_MIN: Final = timedelta(minutes=1)
"""How long at least: each dispatch after it is two rows of the log."""
REASON_LENGTH_MAX: Final = 512


def device_hold(hostname: str, fact: Postponed, received_at: datetime) -> Hold | None:
    """Return the hold that `fact` begins, or goes on with; `None`: the lock is over."""
    if fact.is_over:
        return None
    # Not until the host's own time: by a clock that is behind, the hold would be over at once, again and again.
    lasts = min(max(fact.until - fact.postponed_at, POSTPONED_MIN), POSTPONED_MAX)
    reason = fact.reason[:REASON_LENGTH_MAX]
    return Hold(HostScope(hostname), DEVICE, reason, received_at + lasts)
