"""The fleet as an engine: the kernel calls `handle`, makes the writes durable, and then starts the actions."""

from collections.abc import Iterable
from datetime import datetime

from examples.device_fleet.model import (
    Effect,
    Fact,
    Fleet,
    HeartbeatReceived,
)
from examples.device_fleet.reducer import step
from nixfleet_runtime.kernel.engine import Commit


class FleetEngine:
    """The state, as of the last input (`fleet`) and as of the last durable one.

    A heartbeat is not written: its bucket has the last one of each device, and a start reads it there.
    """

    def __init__(self, log: Iterable[Fact] = ()) -> None:
        self.fleet = Fleet()
        for fact in log:
            self.fleet, _ = step(self.fleet, fact)
        self._durable = self.fleet

    def handle(self, input: Fact, now: datetime) -> Commit[Fact, Fleet, Effect]:
        before = self.fleet
        self.fleet, effects = step(before, input)
        is_kept = self.fleet is not before and not isinstance(input, HeartbeatReceived)
        return Commit((input,) if is_kept else (), self.fleet, effects)

    def settle(self) -> None:
        self._durable = self.fleet

    def roll_back(self) -> None:
        self.fleet = self._durable
