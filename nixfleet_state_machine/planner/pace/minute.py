"""Slots that come back by the clock: an event of the log says so, since no gate and no replay reads one.

Source: docs/spec/pace.md, Beginnings in a minute.
"""

from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import checked

MINUTE: Final = timedelta(seconds=60)
"""How long a beginning takes its slot of `max_per_minute`."""


@frozen
@checked
class SlotsReturned:
    """The beginnings of a budget up to `begun_by` are over, and their slots are free again.

    budget: its name, the selector on one line. count: how many slots, for people.
    """

    budget: str
    begun_by: datetime
    count: int
    at: datetime
