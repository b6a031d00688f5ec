"""Frozen data that both sides of a fleet exchange: facts, wire messages, fleets, manifests, trust.

`dir(nixfleet_proto)` is the public API. A name is imported when it is first used. All modules except `codec` and
`signing` need attrs and typing-extensions alone; those two are public packages of their own, in the `runtime` extra.
"""

from typing import TYPE_CHECKING

from nixfleet_proto.lazy import export_lazily

if TYPE_CHECKING:
    from nixfleet_proto.agent_event import (
        ActivationCompleted,
        ActivationDeferred,
        ActivationFailed,
        ActivationStarted,
        AgentEvent,
        Converged,
        DispatchAck,
        Failed,
        OnHealthFailure,
        Postponed,
        ProbeFailureFirst,
        ProbeMode,
        ProbeObservedFirst,
        ProbeResult,
        ProbeStatus,
        ProbeSubResult,
        ProbeTopologyDeclared,
        ProbeTopologyEntry,
        Recalled,
        Regressed,
        RollbackComplete,
    )
    from nixfleet_proto.as_json import (
        to_json,
    )
    from nixfleet_proto.enrollment import (
        BootstrapNonce,
        BootstrapNonces,
        BootstrapToken,
        EnrollRequest,
        Revocation,
        Revocations,
        SignedToken,
    )
    from nixfleet_proto.errors import (
        InvalidValue,
        NixfleetError,
        ValueProblem,
    )
    from nixfleet_proto.evidence import (
        ControlFinding,
        Evidence,
    )
    from nixfleet_proto.fleet import (
        DisruptionBudget,
        Edge,
        FleetChannel,
        FleetHost,
        FleetResolved,
        Meta,
        OnDrift,
        Ramp,
        Wave,
    )
    from nixfleet_proto.frozen_map import (
        FrozenMap,
    )
    from nixfleet_proto.health_check import (
        ControlOverride,
        EvidenceProbe,
        ExecProbe,
        HealthCheck,
        HomeProbe,
        HttpProbe,
        SystemdProbe,
        TcpProbe,
    )
    from nixfleet_proto.ids import (
        InvalidRolloutId,
        RolloutId,
    )
    from nixfleet_proto.json_value import (
        JsonValue,
    )
    from nixfleet_proto.manifest import (
        HostAssignment,
        ManifestBudget,
        RolloutManifest,
    )
    from nixfleet_proto.policy import (
        AtDeadline,
        Deadline,
        Deadlines,
        PolicyWave,
        Recall,
        Retry,
        RolloutPolicy,
        Selector,
        Tolerance,
    )
    from nixfleet_proto.steering.approval import (
        Approval,
        Decision,
        SignedApproval,
    )
    from nixfleet_proto.steering.calendar import (
        CalendarEntry,
        CalendarKind,
        Nth,
        Repeat,
        Weekday,
    )
    from nixfleet_proto.steering.guards import (
        Approvals,
        Check,
        WaveGuards,
    )
    from nixfleet_proto.trust import (
        KeySlot,
        Operator,
        OperatorRole,
        TrustedKey,
        TrustRoot,
        Verified,
    )
    from nixfleet_proto.wire import (
        AgentEventEnvelope,
        Dispatch,
        EventBatch,
        SignedArtefact,
    )

__all__ = [
    "ActivationCompleted",
    "ActivationDeferred",
    "ActivationFailed",
    "ActivationStarted",
    "AgentEvent",
    "AgentEventEnvelope",
    "Approval",
    "Approvals",
    "AtDeadline",
    "BootstrapNonce",
    "BootstrapNonces",
    "BootstrapToken",
    "CalendarEntry",
    "CalendarKind",
    "Check",
    "ControlFinding",
    "ControlOverride",
    "Converged",
    "Deadline",
    "Deadlines",
    "Decision",
    "Dispatch",
    "DispatchAck",
    "DisruptionBudget",
    "Edge",
    "EnrollRequest",
    "EventBatch",
    "Evidence",
    "EvidenceProbe",
    "ExecProbe",
    "Failed",
    "FleetChannel",
    "FleetHost",
    "FleetResolved",
    "FrozenMap",
    "HealthCheck",
    "HomeProbe",
    "HostAssignment",
    "HttpProbe",
    "InvalidRolloutId",
    "InvalidValue",
    "JsonValue",
    "KeySlot",
    "ManifestBudget",
    "Meta",
    "NixfleetError",
    "Nth",
    "OnDrift",
    "OnHealthFailure",
    "Operator",
    "OperatorRole",
    "PolicyWave",
    "Postponed",
    "ProbeFailureFirst",
    "ProbeMode",
    "ProbeObservedFirst",
    "ProbeResult",
    "ProbeStatus",
    "ProbeSubResult",
    "ProbeTopologyDeclared",
    "ProbeTopologyEntry",
    "Ramp",
    "Recall",
    "Recalled",
    "Regressed",
    "Repeat",
    "Retry",
    "Revocation",
    "Revocations",
    "RollbackComplete",
    "RolloutId",
    "RolloutManifest",
    "RolloutPolicy",
    "Selector",
    "SignedApproval",
    "SignedArtefact",
    "SignedToken",
    "SystemdProbe",
    "TcpProbe",
    "Tolerance",
    "TrustRoot",
    "TrustedKey",
    "ValueProblem",
    "Verified",
    "Wave",
    "WaveGuards",
    "Weekday",
    "to_json",
]

export_lazily(
    __name__,
    __all__,
    {
        "nixfleet_proto.agent_event": (
            "ActivationCompleted ActivationDeferred ActivationFailed ActivationStarted "
            "AgentEvent Converged DispatchAck Failed OnHealthFailure Postponed ProbeFailureFirst "
            "ProbeMode ProbeObservedFirst ProbeResult ProbeStatus ProbeSubResult "
            "ProbeTopologyDeclared ProbeTopologyEntry Recalled Regressed RollbackComplete"
        ),
        "nixfleet_proto.as_json": "to_json",
        "nixfleet_proto.enrollment": (
            "BootstrapNonce BootstrapNonces BootstrapToken EnrollRequest Revocation "
            "Revocations SignedToken"
        ),
        "nixfleet_proto.errors": "InvalidValue NixfleetError ValueProblem",
        "nixfleet_proto.evidence": "ControlFinding Evidence",
        "nixfleet_proto.fleet": (
            "DisruptionBudget Edge FleetChannel FleetHost FleetResolved Meta OnDrift Ramp Wave"
        ),
        "nixfleet_proto.frozen_map": "FrozenMap",
        "nixfleet_proto.health_check": (
            "ControlOverride EvidenceProbe ExecProbe HealthCheck HomeProbe HttpProbe SystemdProbe "
            "TcpProbe"
        ),
        "nixfleet_proto.ids": "InvalidRolloutId RolloutId",
        "nixfleet_proto.json_value": "JsonValue",
        "nixfleet_proto.manifest": "HostAssignment ManifestBudget RolloutManifest",
        "nixfleet_proto.policy": (
            "AtDeadline Deadline Deadlines PolicyWave Recall Retry RolloutPolicy Selector Tolerance"
        ),
        "nixfleet_proto.steering.approval": "Approval Decision SignedApproval",
        "nixfleet_proto.steering.guards": "Approvals Check WaveGuards",
        "nixfleet_proto.steering.calendar": "CalendarEntry CalendarKind Nth Repeat Weekday",
        "nixfleet_proto.trust": ("KeySlot Operator OperatorRole TrustRoot TrustedKey Verified"),
        "nixfleet_proto.wire": "AgentEventEnvelope Dispatch EventBatch SignedArtefact",
    },
)
