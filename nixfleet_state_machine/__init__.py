"""The rollout state machine: pure reducers for one host and one rollout, and a pure planner.

`dir(nixfleet_state_machine)` is the public API: functions, records, events, effects, errors. Start with `step`. A name
is imported when it is first used. No I/O, no clock, no randomness; attrs and typing-extensions are all it needs.
"""

from typing import TYPE_CHECKING

from nixfleet_proto.lazy import export_lazily

if TYPE_CHECKING:
    from nixfleet_proto.errors import (
        InvalidValue,
        NixfleetError,
        ValueProblem,
    )
    from nixfleet_state_machine.as_json import (
        to_json,
    )
    from nixfleet_state_machine.effects import (
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
        RecordRolloutTransition,
        RecordTransition,
        RemoteAppendEventLog,
        RemoteInsertQuarantine,
        RemoteOpenRolloutRecord,
        RemoteQueueDispatch,
        RolloutEffect,
        SchedulePruning,
        UpdateCurrentWave,
    )
    from nixfleet_state_machine.host.errors import (
        ConvergenceRule,
        IllegalForState,
        InvariantViolation,
        SeqRegression,
        TransitionError,
    )
    from nixfleet_state_machine.host.event import (
        Event,
        Local,
        Remote,
    )
    from nixfleet_state_machine.host.reducer import (
        rehydration_effects,
        step,
    )
    from nixfleet_state_machine.host.state import (
        HostRolloutState,
        HostState,
        ProbeRecord,
    )
    from nixfleet_state_machine.planner.action import (
        DeferDispatch,
        Gate,
        GateBlock,
        OpenRollout,
        PlanAction,
        QueueDispatch,
        WithdrawDispatch,
    )
    from nixfleet_state_machine.planner.blast_radius import (
        BudgetWedge,
        budget_wedges,
        worst_failed,
    )
    from nixfleet_state_machine.planner.drift import (
        drift_change,
        drift_ended,
        strays,
    )
    from nixfleet_state_machine.planner.errors import (
        AlreadyOpen,
        UnknownHost,
        UnknownRollout,
    )
    from nixfleet_state_machine.planner.gates import (
        Quarantines,
    )
    from nixfleet_state_machine.planner.guards.states import (
        GuardedWave,
        GuardState,
        GuardStatus,
        next_guards,
    )
    from nixfleet_state_machine.planner.holds.hold import (
        Hold,
        HoldBegan,
        HoldEnded,
        HoldEvent,
        HoldKey,
        HoldKind,
        HoldSource,
        parse_source,
    )
    from nixfleet_state_machine.planner.holds.index import (
        HoldIndex,
    )
    from nixfleet_state_machine.planner.holds.scope import (
        ChannelScope,
        FleetScope,
        GroupScope,
        HoldScope,
        HostScope,
        RolloutScope,
        WaveScope,
        parse_scope,
    )
    from nixfleet_state_machine.planner.index.fleet_view import (
        FleetView,
    )
    from nixfleet_state_machine.planner.index.tally import (
        Tally,
    )
    from nixfleet_state_machine.planner.members import (
        members_change,
    )
    from nixfleet_state_machine.planner.pace.minute import (
        SlotsReturned,
    )
    from nixfleet_state_machine.planner.passing_time import (
        due_by_time,
        next_time,
        slots_due,
    )
    from nixfleet_state_machine.planner.plan import (
        explain,
        plan_next,
        replan,
    )
    from nixfleet_state_machine.planner.progress import (
        due_rollout_events,
        empty_waves,
    )
    from nixfleet_state_machine.planner.standings import (
        heard_again,
        reported_again,
        skipped_with,
    )
    from nixfleet_state_machine.planner.terms import (
        BudgetTerms,
        RolloutTerms,
    )
    from nixfleet_state_machine.planner.verdict import (
        WaveVerdict,
        verdict_of,
        wave_broken,
        wave_verdict,
    )
    from nixfleet_state_machine.replay import (
        replay_host,
        replay_rollout,
    )
    from nixfleet_state_machine.rollout.errors import (
        IllegalForRolloutState,
        RolloutTransitionError,
        SupersessionExpected,
        WrongRollout,
    )
    from nixfleet_state_machine.rollout.event import (
        DriftEnded,
        GuardsOpened,
        HostDrifted,
        HostJoined,
        HostsLapsed,
        HostStateChanged,
        MembersChanged,
        OperatorClearance,
        RetentionExpired,
        RetryOrdered,
        RolloutAborted,
        RolloutEvent,
        RolloutOpened,
        RolloutTerminal,
        Stage,
        StandingChanged,
        SuccessorOpened,
        Verdict,
        WaveAdvanced,
        WaveBroken,
    )
    from nixfleet_state_machine.rollout.guard_tally import (
        GuardTally,
        Outcome,
    )
    from nixfleet_state_machine.rollout.opening import (
        open_rollout,
    )
    from nixfleet_state_machine.rollout.reducer import (
        step_rollout,
    )
    from nixfleet_state_machine.rollout.state import (
        Drift,
        RolloutRecord,
        RolloutState,
        Standing,
    )
    from nixfleet_state_machine.undo import (
        UndoLog,
    )

__all__ = [
    "AgentEffect",
    "AlreadyOpen",
    "BudgetTerms",
    "BudgetWedge",
    "ChannelScope",
    "ControlPlaneEffect",
    "ConvergenceRule",
    "DeferDispatch",
    "Drift",
    "DriftEnded",
    "EmitLog",
    "EmitMetric",
    "Event",
    "FleetScope",
    "FleetView",
    "Gate",
    "GateBlock",
    "GroupScope",
    "GuardState",
    "GuardStatus",
    "GuardTally",
    "GuardedWave",
    "GuardsOpened",
    "Hold",
    "HoldBegan",
    "HoldEnded",
    "HoldEvent",
    "HoldIndex",
    "HoldKey",
    "HoldKind",
    "HoldScope",
    "HoldSource",
    "HostDrifted",
    "HostEffect",
    "HostJoined",
    "HostRolloutState",
    "HostScope",
    "HostState",
    "HostStateChanged",
    "HostsLapsed",
    "IllegalForRolloutState",
    "IllegalForState",
    "InvalidValue",
    "InvariantViolation",
    "Local",
    "LocalEmitEvent",
    "LocalFireRollbackTo",
    "LocalFireSwitch",
    "LocalResetProbeCache",
    "LogLevel",
    "MembersChanged",
    "NixfleetError",
    "OpenRollout",
    "OperatorClearance",
    "OutboundAgentEvent",
    "Outcome",
    "PlanAction",
    "ProbeRecord",
    "Quarantines",
    "QueueDispatch",
    "RecordRolloutTransition",
    "RecordTransition",
    "Remote",
    "RemoteAppendEventLog",
    "RemoteInsertQuarantine",
    "RemoteOpenRolloutRecord",
    "RemoteQueueDispatch",
    "RetentionExpired",
    "RetryOrdered",
    "RolloutAborted",
    "RolloutEffect",
    "RolloutEvent",
    "RolloutOpened",
    "RolloutRecord",
    "RolloutScope",
    "RolloutState",
    "RolloutTerminal",
    "RolloutTerms",
    "RolloutTransitionError",
    "SchedulePruning",
    "SeqRegression",
    "SlotsReturned",
    "Stage",
    "Standing",
    "StandingChanged",
    "SuccessorOpened",
    "SupersessionExpected",
    "Tally",
    "TransitionError",
    "UndoLog",
    "UnknownHost",
    "UnknownRollout",
    "UpdateCurrentWave",
    "ValueProblem",
    "Verdict",
    "WaveAdvanced",
    "WaveBroken",
    "WaveScope",
    "WaveVerdict",
    "WithdrawDispatch",
    "WrongRollout",
    "budget_wedges",
    "drift_change",
    "drift_ended",
    "due_by_time",
    "due_rollout_events",
    "empty_waves",
    "explain",
    "heard_again",
    "members_change",
    "next_guards",
    "next_time",
    "open_rollout",
    "parse_scope",
    "parse_source",
    "plan_next",
    "rehydration_effects",
    "replan",
    "replay_host",
    "replay_rollout",
    "reported_again",
    "skipped_with",
    "slots_due",
    "step",
    "step_rollout",
    "strays",
    "to_json",
    "verdict_of",
    "wave_broken",
    "wave_verdict",
    "worst_failed",
]

export_lazily(
    __name__,
    __all__,
    {
        "nixfleet_proto.errors": "InvalidValue NixfleetError ValueProblem",
        "nixfleet_state_machine.as_json": "to_json",
        "nixfleet_state_machine.effects": (
            "AgentEffect ControlPlaneEffect EmitLog EmitMetric HostEffect "
            "LocalEmitEvent LocalFireRollbackTo LocalFireSwitch LocalResetProbeCache "
            "LogLevel OutboundAgentEvent RecordRolloutTransition RecordTransition "
            "RemoteAppendEventLog RemoteInsertQuarantine RemoteOpenRolloutRecord "
            "RemoteQueueDispatch RolloutEffect SchedulePruning UpdateCurrentWave"
        ),
        "nixfleet_state_machine.host.errors": (
            "ConvergenceRule IllegalForState InvariantViolation SeqRegression TransitionError"
        ),
        "nixfleet_state_machine.host.event": "Event Local Remote",
        "nixfleet_state_machine.host.reducer": "rehydration_effects step",
        "nixfleet_state_machine.host.state": "HostRolloutState HostState ProbeRecord",
        "nixfleet_state_machine.planner.action": (
            "DeferDispatch Gate GateBlock OpenRollout PlanAction QueueDispatch WithdrawDispatch"
        ),
        "nixfleet_state_machine.planner.blast_radius": "BudgetWedge budget_wedges worst_failed",
        "nixfleet_state_machine.planner.drift": "drift_change drift_ended strays",
        "nixfleet_state_machine.planner.errors": "AlreadyOpen UnknownHost UnknownRollout",
        "nixfleet_state_machine.planner.gates": "Quarantines",
        "nixfleet_state_machine.planner.holds.hold": (
            "Hold HoldBegan HoldEnded HoldEvent HoldKey HoldKind HoldSource parse_source"
        ),
        "nixfleet_state_machine.planner.holds.index": "HoldIndex",
        "nixfleet_state_machine.planner.holds.scope": (
            "ChannelScope FleetScope GroupScope HoldScope HostScope RolloutScope WaveScope parse_scope"
        ),
        "nixfleet_state_machine.planner.guards.states": (
            "GuardState GuardStatus GuardedWave next_guards"
        ),
        "nixfleet_state_machine.planner.index.fleet_view": "FleetView",
        "nixfleet_state_machine.planner.index.tally": "Tally",
        "nixfleet_state_machine.planner.members": "members_change",
        "nixfleet_state_machine.planner.pace.minute": "SlotsReturned",
        "nixfleet_state_machine.planner.passing_time": "due_by_time next_time slots_due",
        "nixfleet_state_machine.planner.plan": "explain plan_next replan",
        "nixfleet_state_machine.planner.progress": "due_rollout_events empty_waves",
        "nixfleet_state_machine.planner.standings": "heard_again reported_again skipped_with",
        "nixfleet_state_machine.planner.terms": "BudgetTerms RolloutTerms",
        "nixfleet_state_machine.planner.verdict": "WaveVerdict verdict_of wave_broken wave_verdict",
        "nixfleet_state_machine.replay": "replay_host replay_rollout",
        "nixfleet_state_machine.rollout.errors": (
            "IllegalForRolloutState RolloutTransitionError SupersessionExpected WrongRollout"
        ),
        "nixfleet_state_machine.rollout.event": (
            "DriftEnded GuardsOpened HostDrifted HostJoined HostStateChanged HostsLapsed "
            "MembersChanged OperatorClearance RetentionExpired RetryOrdered RolloutAborted "
            "RolloutEvent RolloutOpened RolloutTerminal Stage StandingChanged SuccessorOpened "
            "Verdict WaveAdvanced WaveBroken"
        ),
        "nixfleet_state_machine.rollout.guard_tally": "GuardTally Outcome",
        "nixfleet_state_machine.rollout.opening": "open_rollout",
        "nixfleet_state_machine.rollout.reducer": "step_rollout",
        "nixfleet_state_machine.rollout.state": "Drift RolloutRecord RolloutState Standing",
        "nixfleet_state_machine.undo": "UndoLog",
    },
)
