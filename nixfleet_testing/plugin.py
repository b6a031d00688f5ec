"""Registers our types with Hypothesis. Runs inside `import hypothesis`, so it must be cheap: it only looks up names.

No strategy is built, and no module of ours is imported, before a value is requested. A type can only be registered
once it exists, so its module is either loaded already or watched for: an import finder delegates to the other finders,
and registers the types when the module has run. What is registered is a function that fetches the strategy; a later
registration by a user replaces it.
Rejected: importing every module with types here (every project that uses Hypothesis would pay), and registering when
the strategies are imported (then `from_type` would work in one test file and not in the next).
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Imported here, Hypothesis would ask for `register_types` before it is defined.
    from hypothesis.strategies import SearchStrategy

FACTS = (
    "DispatchAck ActivationStarted ActivationCompleted ActivationFailed ActivationDeferred "
    "ProbeTopologyDeclared ProbeObservedFirst ProbeResult ProbeFailureFirst Failed "
    "RollbackComplete Converged Regressed Recalled Postponed"
)
# Enumerations are missing: Hypothesis knows what to do with them.
TYPES: Mapping[str, Sequence[str]] = {
    module: names.split()
    for module, names in {
        "nixfleet_proto.agent_event": f"ProbeTopologyEntry ProbeSubResult {FACTS}",
        "nixfleet_proto.enrollment": (
            "BootstrapToken SignedToken EnrollRequest BootstrapNonce BootstrapNonces "
            "Revocation Revocations"
        ),
        "nixfleet_proto.evidence": "ControlFinding Evidence",
        "nixfleet_proto.fleet": (
            "Meta FleetHost FleetChannel Wave Edge Ramp DisruptionBudget FleetResolved"
        ),
        "nixfleet_proto.frozen_map": "FrozenMap",
        "nixfleet_proto.health_check": (
            "HttpProbe TcpProbe ExecProbe EvidenceProbe SystemdProbe HomeProbe ControlOverride HealthRule"
        ),
        "nixfleet_proto.ids": "RolloutId",
        "nixfleet_proto.manifest": "HostAssignment ManifestBudget RolloutManifest",
        "nixfleet_proto.policy": (
            "Selector PolicyWave RolloutPolicy Tolerance Deadline Deadlines Retry"
        ),
        "nixfleet_proto.audit.checkpoint": "Checkpoint SignedCheckpoint",
        "nixfleet_proto.audit.proof": "LogProof ProvedRow",
        "nixfleet_proto.steering.approval": "Approval SignedApproval",
        "nixfleet_proto.steering.warrant": "Warrant SignedWarrant",
        "nixfleet_proto.signing.warrant": "VerifiedWarrant",
        "nixfleet_proto.steering.guards": "Approvals Check Comparison Quorum WaveGuards",
        "nixfleet_proto.steering.calendar": "CalendarEntry",
        "nixfleet_proto.trust": "TrustedKey KeySlot Operator TrustRoot Verified",
        "nixfleet_proto.wire": "AgentEventEnvelope EventBatch Dispatch SignedArtefact",
        "nixfleet_state_machine.host.effect": (
            "LocalFireSwitch LocalFireRollbackTo LocalResetProbeCache LocalEmitEvent "
            "RemoteQueueDispatch RemoteInsertQuarantine RemoteOpenRolloutRecord "
            "RemoteAppendEventLog RecordTransition EmitMetric EmitLog"
        ),
        "nixfleet_state_machine.host.event": "Local Remote",
        "nixfleet_state_machine.host.state": "ProbeRecord HostRolloutState",
        "nixfleet_state_machine.rollout.effect": (
            "RecordRolloutTransition UpdateCurrentWave SchedulePruning"
        ),
        "nixfleet_state_machine.rollout.event": (
            "RolloutOpened HostJoined HostStateChanged WaveAdvanced RolloutTerminal "
            "SuccessorOpened RetentionExpired OperatorClearance WaveBroken HostsLapsed "
            "StandingChanged RetryOrdered MembersChanged HostDrifted DriftEnded RolloutAborted "
            "GuardsOpened Verdict"
        ),
        "nixfleet_state_machine.rollout.guard_tally": "GuardTally",
        "nixfleet_state_machine.planner.guards.states": "GuardStatus GuardedWave",
        "nixfleet_state_machine.rollout.state": "RolloutRecord Drift",
        "nixfleet_state_machine.planner.action": (
            "GateBlock OpenRollout QueueDispatch DeferDispatch WithdrawDispatch"
        ),
        "nixfleet_state_machine.planner.blast_radius": "BudgetWedge",
        "nixfleet_state_machine.planner.deadlines": "LapseDue RetryDue",
        "nixfleet_state_machine.planner.holds.calendar": "Phase",
        "nixfleet_state_machine.planner.holds.groups": "CalendarGroup ChannelCalendar",
        "nixfleet_state_machine.planner.holds.hold": "HoldSource Hold HoldBegan HoldEnded",
        "nixfleet_state_machine.planner.holds.scope": (
            "FleetScope ChannelScope RolloutScope WaveScope HostScope GroupScope"
        ),
        "nixfleet_state_machine.planner.host_status": "HostDrift StageDeadline HostInRollout HostInFleet",
        "nixfleet_state_machine.planner.pace.budget_use": "BudgetUse",
        "nixfleet_state_machine.planner.pace.status": "BudgetStatus",
        "nixfleet_state_machine.planner.pace.minute": "SlotsReturned",
        "nixfleet_state_machine.planner.rollout_status": "WaveStatus OverdueHost",
        "nixfleet_state_machine.planner.terms": "BudgetTerms RolloutTerms",
        "nixfleet_state_machine.planner.index.fleet_view": "FleetView",
        "nixfleet_state_machine.scopes.expression": (
            "HostIs ChannelIs HasTag AllOf AnyOf Not Mention"
        ),
        "nixfleet_state_machine.scopes.merge": "Scope",
        "nixfleet_state_machine.shards.bonds": "Bond ShardsJoined",
        "nixfleet_state_machine.shards.channel_seen": "AsOf ChannelSeen",
        "nixfleet_state_machine.shards.shard_map": "ShardMap ShardPlace",
    }.items()
}


def register_types() -> None:
    """Register the types of modules that are loaded, and watch for the others. Idempotent."""
    if any(isinstance(finder, _Watch) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Watch())
    for name in TYPES:
        module = sys.modules.get(name)
        # One that is still running registers nothing: its types may not be there yet.
        if module is not None and all(hasattr(module, type_) for type_ in TYPES[name]):
            _register(module)


def _register(module: ModuleType) -> None:
    from hypothesis import strategies as st

    for name in TYPES[module.__name__]:
        st.register_type_strategy(getattr(module, name), _fetched)


def _fetched(form: type[object]) -> "SearchStrategy[object]":
    from nixfleet_testing.strategies.registry import strategy_of

    return strategy_of(form)


class _Watch(MetaPathFinder):
    """Finds what the other finders find, and sees to it that our types are registered."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in TYPES:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Registering(spec.loader)
                return spec
        return None


class _Registering(Loader):
    """Runs a module by its own loader, which it hands the module back to, and registers its types."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Tracebacks and coverage ask a module's loader for its source: they shall find the real one.
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        self._inner.exec_module(module)
        _register(module)
