"""What becomes of holds by the passing of time: a sibling of `passing_time`, for holds.

Each event is in the log, and gates look at holds alone. So a replay needs no clock and no time-zone data.
Source: docs/spec/holds.md, Time.
"""

from collections.abc import Iterator
from datetime import datetime

from nixfleet_state_machine.planner.holds.hold import HoldEnded, HoldEvent
from nixfleet_state_machine.planner.holds.index import HoldIndex


def due_hold_events(holds: HoldIndex, now: datetime) -> Iterator[HoldEvent]:
    """Yield the holds that end because their time is over, in order of their ends. None is due twice."""
    for hold in tuple(holds.ended(now)):
        # A wave's own time is not in the log: it is signed in the manifest, and judged again at each plan.
        if not hold.source.kind.is_derived and not hold.source.kind.is_by_calendar:
            yield HoldEnded(hold.scope, hold.source)
