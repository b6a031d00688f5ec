"""Hypothesis strategies, one per public type. Importing them makes `st.from_type` know these types too.

Two rules. Valid by construction: records are what legal histories lead to, never drawn field by field, and nothing
is filtered. Small universes: few names, closures and times, so that they collide and shrink to what can be read.
"""

from typing import get_args

from hypothesis import strategies as st

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.testing.strategies.facts import FACTS, events, facts
from nixfleet_state_machine.testing.strategies.hosts import (
    HostHistory,
    HostMoment,
    host_histories,
    host_moments,
    host_records,
    legal_facts,
    pending_records,
    soaking_records,
)
from nixfleet_state_machine.testing.strategies.names import (
    channels,
    closures,
    hostnames,
    policies,
    probe_names,
    rollout_ids,
    times,
)
from nixfleet_state_machine.testing.strategies.rollouts import (
    ROLLOUT_EVENTS,
    RolloutHistory,
    RolloutMoment,
    legal_rollout_events,
    rollout_events,
    rollout_histories,
    rollout_moments,
    rollout_records,
    rollouts_opened,
)

__all__ = [
    "HostHistory",
    "HostMoment",
    "RolloutHistory",
    "RolloutMoment",
    "channels",
    "closures",
    "events",
    "facts",
    "host_histories",
    "host_moments",
    "host_records",
    "hostnames",
    "legal_facts",
    "legal_rollout_events",
    "pending_records",
    "policies",
    "probe_names",
    "rollout_events",
    "rollout_histories",
    "rollout_ids",
    "rollout_moments",
    "rollout_records",
    "rollouts_opened",
    "soaking_records",
    "times",
]


def _register() -> None:
    st.register_type_strategy(RolloutId, rollout_ids())
    st.register_type_strategy(RolloutPolicy, policies())
    st.register_type_strategy(HostRolloutState, host_records())
    st.register_type_strategy(RolloutRecord, rollout_records())
    st.register_type_strategy(Local, facts().map(Local))
    st.register_type_strategy(Remote, facts().map(Remote))
    for fact in get_args(AgentEvent):
        st.register_type_strategy(fact, FACTS[fact])
    for event in get_args(RolloutEvent):
        st.register_type_strategy(event, ROLLOUT_EVENTS[event])


_register()
