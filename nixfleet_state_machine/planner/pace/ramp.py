"""How many slots a ramp gives after so many hosts have converged. Pure, of numbers alone.

Source: docs/spec/pace.md, Ramp.
"""

from typing import NamedTuple

from nixfleet_proto.fleet import Ramp


class RampStep(NamedTuple):
    """One step of a ramp.

    slots: how many hosts may be under way. grows_at: how many must have converged for more; `None`: there are no more.
    """

    slots: int
    grows_at: int | None


def ramp_step(ramp: Ramp, limit: int, converged: int) -> RampStep:
    """Return the step of a ramp after `converged` hosts; `limit` is the most slots that the budget ever has.

    Each step lasts until as many hosts have converged as it has slots. O(log limit).
    """
    slots = grows_at = min(ramp.start, limit)
    while ramp.factor > 1 and slots < limit:
        if converged < grows_at:
            return RampStep(slots, grows_at)
        slots = min(slots * ramp.factor, limit)
        grows_at += slots
    return RampStep(slots, None)
