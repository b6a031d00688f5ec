"""Rule-based state machines for Hypothesis: one host, one rollout, a small fleet. Subclass one to add checks.

Each is driven by `begin` and a few plain methods, and every check runs inside them: so the history that a failure
prints is Python that can be pasted, and runs without Hypothesis.
"""

from nixfleet_testing.machines.host import HostMachine
from nixfleet_testing.machines.rollout import RolloutMachine
from nixfleet_testing.machines.small_fleet import SmallFleetMachine

__all__ = ["HostMachine", "RolloutMachine", "SmallFleetMachine"]
