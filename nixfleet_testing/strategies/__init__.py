"""Hypothesis strategies, one per public type. Importing them makes `st.from_type` know these types too.

Two rules. Valid by construction: records are what legal histories lead to, never drawn field by field, and nothing
is filtered. Small universes: few names, closures and times, so that they collide and shrink to what can be read.
"""

from nixfleet_testing.plugin import register_types
from nixfleet_testing.strategies.effects import (
    agent_effects,
    control_plane_effects,
    gate_blocks,
    plan_actions,
    rollout_effects,
)
from nixfleet_testing.strategies.facts import events, facts
from nixfleet_testing.strategies.histories import History, HistoryKind, histories
from nixfleet_testing.strategies.hosts import (
    HostHistory,
    HostMoment,
    host_histories,
    host_moments,
    host_records,
    legal_facts,
    next_facts,
    pending_records,
    soaking_records,
)
from nixfleet_testing.strategies.messages import (
    dispatches,
    envelopes,
    event_batches,
    health_checks,
    trust_roots,
)
from nixfleet_testing.strategies.names import (
    channels,
    closures,
    hostnames,
    policies,
    probe_names,
    rollout_ids,
    times,
)
from nixfleet_testing.strategies.releases import (
    budgets,
    fleets,
    manifests,
    selectors,
    terms,
)
from nixfleet_testing.strategies.rollouts import (
    RolloutHistory,
    RolloutMoment,
    legal_rollout_events,
    rollout_events,
    rollout_histories,
    rollout_moments,
    rollout_records,
    rollouts_opened,
)
from nixfleet_testing.strategies.scopes import expressions
from nixfleet_testing.strategies.situations import (
    FleetSituation,
    OpenSituation,
    fleet_situations,
    fleet_views,
)

__all__ = [
    "FleetSituation",
    "History",
    "HistoryKind",
    "HostHistory",
    "HostMoment",
    "OpenSituation",
    "RolloutHistory",
    "RolloutMoment",
    "agent_effects",
    "budgets",
    "channels",
    "closures",
    "control_plane_effects",
    "dispatches",
    "envelopes",
    "event_batches",
    "events",
    "expressions",
    "facts",
    "fleet_situations",
    "fleet_views",
    "fleets",
    "gate_blocks",
    "health_checks",
    "histories",
    "host_histories",
    "host_moments",
    "host_records",
    "hostnames",
    "legal_facts",
    "legal_rollout_events",
    "manifests",
    "next_facts",
    "pending_records",
    "plan_actions",
    "policies",
    "probe_names",
    "rollout_effects",
    "rollout_events",
    "rollout_histories",
    "rollout_ids",
    "rollout_moments",
    "rollout_records",
    "rollouts_opened",
    "selectors",
    "soaking_records",
    "terms",
    "times",
    "trust_roots",
]


# Where the entry point is switched off, or not installed, this is what makes `st.from_type` know the types.
register_types()
