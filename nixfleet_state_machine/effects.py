"""Every effect of both machines: what an applier imports. Nothing is defined here.

An agent's applier matches on `AgentEffect`, a control plane's on `ControlPlaneEffect` and `RolloutEffect`.
"""

from nixfleet_state_machine.host.effect import (
    AgentEffect,
    ControlPlaneEffect,
    EmitLog,
    EmitMetric,
    HostEffect,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    LogLevel,
    OutboundAgentEvent,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
    RemoteOpenRolloutRecord,
    RemoteQueueDispatch,
)
from nixfleet_state_machine.rollout.effect import (
    RecordRolloutTransition,
    RolloutEffect,
    SchedulePruning,
    UpdateCurrentWave,
)

__all__ = [
    "AgentEffect",
    "ControlPlaneEffect",
    "EmitLog",
    "EmitMetric",
    "HostEffect",
    "LocalEmitEvent",
    "LocalFireRollbackTo",
    "LocalFireSwitch",
    "LocalResetProbeCache",
    "LogLevel",
    "OutboundAgentEvent",
    "RecordRolloutTransition",
    "RecordTransition",
    "RemoteAppendEventLog",
    "RemoteInsertQuarantine",
    "RemoteOpenRolloutRecord",
    "RemoteQueueDispatch",
    "RolloutEffect",
    "SchedulePruning",
    "UpdateCurrentWave",
]
