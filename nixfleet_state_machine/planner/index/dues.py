"""The hosts whose time will come."""

from datetime import datetime
from typing import NamedTuple

from nixfleet_proto.ids import RolloutId


class DueHost(NamedTuple):
    """One host of one rollout, and when its time comes."""

    at: datetime
    rollout_id: RolloutId
    hostname: str
