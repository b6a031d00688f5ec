"""A fleet in memory: real engines, stores and journals of both sides, no sockets, and a clock that you move.

    fleet = InMemoryFleet(hosts=6, waves=[1, 2, 3])
    fleet.publish("r2", broken={"web-01"})
    fleet.pass_time(minutes=15)
    print(fleet)

It is the simulated fleet (`nixfleet_simulation`) without randomness and without faults of its own: the same
calls give the same trace. The simulation's independent model checks every step. Needs `nixfleet[runtime]`.
"""

from nixfleet_simulation.judge.promises import Broken
from nixfleet_simulation.scenario.acts import Boundary, Direction
from nixfleet_simulation.scenario.closure_behaviour import (
    ClosureBehaviour,
    Health,
    RollbackResult,
    SwitchResult,
)
from nixfleet_testing.fleet_in_memory.channel import Channel
from nixfleet_testing.fleet_in_memory.errors import (
    CommandRefused,
    ControlPlaneDown,
    FleetError,
    InvalidFleet,
    InvalidTime,
    RefTwice,
    UnknownName,
    WaveSizesDiffer,
)
from nixfleet_testing.fleet_in_memory.fleet import InMemoryFleet
from nixfleet_testing.fleet_in_memory.status import HostStatus
from nixfleet_testing.fleet_in_memory.trace import FleetTrace, TraceLine

__all__ = [
    "Boundary",
    "Broken",
    "Channel",
    "ClosureBehaviour",
    "CommandRefused",
    "ControlPlaneDown",
    "Direction",
    "FleetError",
    "FleetTrace",
    "Health",
    "HostStatus",
    "InMemoryFleet",
    "InvalidFleet",
    "InvalidTime",
    "RefTwice",
    "RollbackResult",
    "SwitchResult",
    "TraceLine",
    "UnknownName",
    "WaveSizesDiffer",
]
