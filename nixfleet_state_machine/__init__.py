"""The rollout state machine: pure reducers for one host and one rollout, and a pure planner.

No I/O, no clock, no randomness; attrs and typing-extensions are all it needs. Start with `step`.
"""

from nixfleet_state_machine.host.effect import (
    AgentEffect,
    ControlPlaneEffect,
    OutboundAgentEvent,
)
from nixfleet_state_machine.host.errors import (
    IllegalForState,
    InvariantViolation,
    SeqRegression,
    TransitionError,
)
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.reducer import rehydration_effects, step
from nixfleet_state_machine.host.state import HostRolloutState, HostState, ProbeRecord
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.errors import (
    IllegalForRolloutState,
    RolloutTransitionError,
    SupersessionExpected,
    WrongRollout,
)
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState

__all__ = [
    "AgentEffect",
    "ControlPlaneEffect",
    "Event",
    "HostRolloutState",
    "HostState",
    "IllegalForRolloutState",
    "IllegalForState",
    "InvariantViolation",
    "Local",
    "OutboundAgentEvent",
    "ProbeRecord",
    "Remote",
    "RolloutEffect",
    "RolloutEvent",
    "RolloutRecord",
    "RolloutState",
    "RolloutTransitionError",
    "SeqRegression",
    "SupersessionExpected",
    "TransitionError",
    "WrongRollout",
    "open_rollout",
    "rehydration_effects",
    "step",
    "step_rollout",
]
