"""The one table of types and their strategies. `nixfleet_testing.plugin` reads it; a test compares the two."""

from collections.abc import Callable, Iterable, Mapping
from typing import get_args, get_origin

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.agent_event import ProbeSubResult, ProbeTopologyEntry
from nixfleet_proto.audit.checkpoint import Checkpoint, SignedCheckpoint
from nixfleet_proto.audit.proof import LogProof, ProvedRow
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.evidence import ControlFinding, Evidence
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    PolicyWave,
    Ramp,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    ControlOverride,
    EvidenceProbe,
    ExecProbe,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_proto.policy import Deadline, Deadlines, Retry, Tolerance
from nixfleet_proto.signing.warrant import VerifiedWarrant
from nixfleet_proto.steering.approval import Approval, SignedApproval
from nixfleet_proto.steering.guards import Approvals, Check, Comparison, Quorum, WaveGuards
from nixfleet_proto.steering.warrant import SignedWarrant, Warrant
from nixfleet_proto.trust import KeySlot, Operator, TrustedKey, TrustRoot, Verified
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, EventBatch, SignedArtefact
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.state import HostRolloutState, ProbeRecord
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.planner.guards.states import GuardedWave, GuardStatus
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.guard_tally import GuardTally
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.scopes.expression import (
    AllOf,
    AnyOf,
    ChannelIs,
    HasTag,
    HostIs,
    Mention,
    Not,
)
from nixfleet_state_machine.scopes.merge import Scope
from nixfleet_state_machine.shards.bonds import Bond, ShardsJoined
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import ShardMap, ShardPlace
from nixfleet_testing.strategies import (
    guards,
    log_proofs,
    messages,
    releases,
    scopes,
    shards,
    warrants,
)
from nixfleet_testing.strategies.calendars import CALENDARS
from nixfleet_testing.strategies.effects import (
    HOST_EFFECTS,
    PLAN_ACTIONS,
    ROLLOUT_EFFECTS,
    gate_blocks,
)
from nixfleet_testing.strategies.facts import (
    FACTS,
    facts,
    sub_results,
    topology_entries,
)
from nixfleet_testing.strategies.holds import HOLDS
from nixfleet_testing.strategies.hosts import host_records, probe_records
from nixfleet_testing.strategies.names import (
    deadlines,
    policies,
    retries,
    rollout_ids,
    some_deadlines,
    tolerances,
)
from nixfleet_testing.strategies.rollouts import ROLLOUT_EVENTS, rollout_records
from nixfleet_testing.strategies.situations import fleet_views
from nixfleet_testing.strategies.statuses import STATUSES


def strategy_of(form: type[object]) -> SearchStrategy[object]:
    """Return the strategy for a public type, also for `FrozenMap[str, int]` and its like."""
    generic = _GENERIC.get(get_origin(form) or form)
    return generic(form) if generic is not None else STRATEGIES[form]


def _frozen_maps(form: type[object]) -> SearchStrategy[object]:
    key, value = get_args(form) or (str, int)
    items = st.dictionaries(st.from_type(key), st.from_type(value), max_size=3)
    return items.map(FrozenMap)


_GENERIC: Mapping[object, Callable[[type[object]], SearchStrategy[object]]] = {
    FrozenMap: _frozen_maps,
    Verified: messages.no_verified,
}
_PROTO: Mapping[type[object], SearchStrategy[object]] = {
    ProbeTopologyEntry: topology_entries(),
    ProbeSubResult: sub_results(),
    BootstrapToken: messages.bootstrap_tokens(),
    SignedToken: messages.signed_tokens(),
    EnrollRequest: messages.enroll_requests(),
    BootstrapNonce: messages.bootstrap_nonces(),
    BootstrapNonces: messages.nonce_lists(),
    Revocation: messages.revocations(),
    Revocations: messages.revocation_lists(),
    ControlFinding: messages.control_findings(),
    Evidence: messages.evidence(),
    Meta: releases.metas(),
    Selector: releases.selectors(),
    FleetHost: releases.fleet_hosts(),
    FleetChannel: releases.fleet_channels(),
    PolicyWave: releases.policy_waves(),
    RolloutPolicy: policies(),
    Tolerance: tolerances(),
    WaveGuards: guards.wave_guards(),
    Approvals: guards.approvals(),
    Check: guards.checks(),
    Quorum: guards.quorums(),
    Comparison: guards.comparisons(),
    Approval: guards.operator_approvals(),
    SignedApproval: guards.signed_approvals(),
    Checkpoint: log_proofs.checkpoints(),
    SignedCheckpoint: log_proofs.signed_checkpoints(),
    ProvedRow: log_proofs.proved_rows(),
    LogProof: log_proofs.log_proofs(),
    Deadline: some_deadlines(),
    Deadlines: deadlines(),
    Retry: retries(),
    Wave: releases.some_waves(),
    Edge: releases.some_edges(),
    Ramp: releases.ramps(),
    DisruptionBudget: releases.budgets(),
    FleetResolved: releases.fleets(),
    HttpProbe: messages.http_probes(),
    TcpProbe: messages.tcp_probes(),
    ExecProbe: messages.exec_probes(),
    EvidenceProbe: messages.evidence_probes(),
    SystemdProbe: messages.systemd_probes(),
    HomeProbe: messages.home_probes(),
    ControlOverride: messages.control_overrides(),
    RolloutId: rollout_ids(),
    HostAssignment: releases.host_assignments(),
    ManifestBudget: releases.manifest_budgets(),
    RolloutManifest: releases.manifests(),
    TrustedKey: messages.trusted_keys(),
    KeySlot: messages.key_slots(),
    Operator: messages.operators(),
    TrustRoot: messages.trust_roots(),
    AgentEventEnvelope: messages.envelopes(),
    EventBatch: messages.event_batches(),
    Dispatch: messages.dispatches(),
    SignedArtefact: messages.signed_artefacts(),
    Warrant: warrants.warrants(),
    SignedWarrant: warrants.signed_warrants(),
    VerifiedWarrant: warrants.verified_warrants(),
    AsOf: shards.places_in_logs(),
    Bond: shards.bonds(),
    ChannelSeen: shards.channels_seen(),
    ShardMap: shards.shard_maps(),
    ShardPlace: shards.shard_places(),
    ShardsJoined: shards.shards_joined(),
}
_STATE_MACHINE: Mapping[type[object], SearchStrategy[object]] = {
    Local: facts().map(Local),
    Remote: facts().map(Remote),
    ProbeRecord: probe_records(),
    HostRolloutState: host_records(),
    RolloutRecord: rollout_records(),
    GuardTally: guards.guard_tallies(),
    GuardStatus: guards.guard_statuses(),
    GuardedWave: guards.guarded_waves(),
    AllOf: scopes.all_of(),
    AnyOf: scopes.any_of(),
    ChannelIs: scopes.channels_are(),
    HasTag: scopes.has_tags(),
    HostIs: scopes.hosts_are(),
    Mention: scopes.mentions(),
    Not: scopes.negations(),
    Scope: scopes.scopes(),
    GateBlock: gate_blocks(),
    BudgetTerms: releases.budget_terms(),
    SlotsReturned: releases.slots_returned(),
    RolloutTerms: releases.terms(),
    FleetView: fleet_views(),
}
# Pairs, because a mapping's keys are of one type exactly.
_PAIRS: Iterable[tuple[type[object], SearchStrategy[object]]] = (
    *FACTS.items(),
    *_PROTO.items(),
    *HOST_EFFECTS,
    *ROLLOUT_EFFECTS.items(),
    *ROLLOUT_EVENTS.items(),
    *PLAN_ACTIONS.items(),
    *_STATE_MACHINE.items(),
    *STATUSES.items(),
    *HOLDS.items(),
    *CALENDARS.items(),
)
STRATEGIES: Mapping[type[object], SearchStrategy[object]] = dict(_PAIRS)
