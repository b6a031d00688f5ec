"""The engine's options, with their defaults. Each is a duration or a count, and none changes while the engine runs."""

from datetime import timedelta
from typing import Final

from attrs import frozen

from nixfleet_agent.engine.observation import CLOCK_STEP_MAX
from nixfleet_state_machine.rollout.state import RETENTION_DEFAULT

ATTEMPTS_MAX: Final = 3
"""How often a switch or rollback is begun. One that ends the agent or its machine each time would be begun for ever."""
FAILURE_THRESHOLD_DEFAULT = timedelta(seconds=60)


@frozen
class Options:
    """What an engine is told at its start.

    failure_threshold: how long an enforce probe must fail without a pass before the host is Failed.
    clock_step_max: the longest time between two ticks that counts towards a soak; more is a step of the clock.
    retention: how long a closed rollout's journal is kept, in case the control plane asks for a replay.
    attempts_max: how many processes of the agent may begin the same switch or rollback.
    ask_again: after what time the host's own lock is asked again, where it gives no end; `None`: the host has no lock.
    """

    failure_threshold: timedelta = FAILURE_THRESHOLD_DEFAULT
    retention: timedelta = RETENTION_DEFAULT
    clock_step_max: timedelta = CLOCK_STEP_MAX
    attempts_max: int = ATTEMPTS_MAX
    ask_again: timedelta | None = None
