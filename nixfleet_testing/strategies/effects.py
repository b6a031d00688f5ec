"""Effects of both machines and actions of the planner, each by itself: for tests of appliers and codecs.

What follows from a record comes from `step`; what is drawn here has moves and payloads that can occur.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import (
    AgentEffect,
    ControlPlaneEffect,
    EmitLog,
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    LogLevel,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
    RemoteOpenRolloutRecord,
    RemoteQueueDispatch,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    GateBlock,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.rollout.effect import (
    RecordRolloutTransition,
    RolloutEffect,
    SchedulePruning,
    UpdateCurrentWave,
)
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_testing.strategies.facts import facts
from nixfleet_testing.strategies.hosts import HOST_MOVES
from nixfleet_testing.strategies.names import (
    channels,
    closures,
    hostnames,
    rollout_ids,
    times,
)
from nixfleet_testing.strategies.rollouts import ROLLOUT_MOVES, waves


def agent_effects() -> SearchStrategy[AgentEffect]:
    """Any order to an agent."""
    return st.one_of([*_AGENT.values(), *_EITHER.values()])


def control_plane_effects() -> SearchStrategy[ControlPlaneEffect]:
    """Any order of the host machine to the control plane."""
    return st.one_of([*_CONTROL_PLANE.values(), *_EITHER.values()])


def rollout_effects() -> SearchStrategy[RolloutEffect]:
    """Any order of the rollout machine."""
    return st.one_of(list(ROLLOUT_EFFECTS.values()))


def plan_actions() -> SearchStrategy[PlanAction]:
    """Any decision of the planner."""
    return st.one_of(list(PLAN_ACTIONS.values()))


def gate_blocks() -> SearchStrategy[GateBlock]:
    return st.builds(GateBlock, st.sampled_from(Gate), _REASONS, st.sampled_from(("", "1 of 3")))


def _transition(
    host: str, rollout_id: RolloutId, move: tuple[HostState, HostState], at: datetime
) -> RecordTransition:
    return RecordTransition(host, rollout_id, *move, at)


def _rollout_transition(
    rollout_id: RolloutId, move: tuple[RolloutState, RolloutState], at: datetime
) -> RecordRolloutTransition:
    return RecordRolloutTransition(rollout_id, *move, at)


def _opening(rollout_id: RolloutId) -> OpenRollout:
    return OpenRollout(rollout_id, rollout_id.channel, rollout_id.channel_ref)


def _host_opening(rollout_id: RolloutId, host: str) -> RemoteOpenRolloutRecord:
    return RemoteOpenRolloutRecord(rollout_id, rollout_id.channel, host)


_REASONS = st.sampled_from(("1 of 1 in flight", "wave 0 is not done"))
_LABELS = st.sampled_from(((), (("host", "web-01"),)))

_AGENT: Mapping[type[AgentEffect], SearchStrategy[AgentEffect]] = {
    LocalEmitEvent: st.builds(LocalEmitEvent, rollout_ids(), facts(), st.booleans()),
    LocalFireSwitch: st.builds(LocalFireSwitch, rollout_ids(), closures()),
    LocalFireRollbackTo: st.builds(LocalFireRollbackTo, rollout_ids(), closures()),
    LocalResetProbeCache: st.builds(LocalResetProbeCache, rollout_ids()),
}
_CONTROL_PLANE: Mapping[type[ControlPlaneEffect], SearchStrategy[ControlPlaneEffect]] = {
    RemoteAppendEventLog: st.builds(RemoteAppendEventLog, hostnames(), rollout_ids(), facts()),
    RemoteQueueDispatch: st.builds(
        RemoteQueueDispatch, hostnames(), rollout_ids(), closures(), times()
    ),
    RemoteInsertQuarantine: st.builds(RemoteInsertQuarantine, channels(), closures()),
    RemoteOpenRolloutRecord: st.builds(_host_opening, rollout_ids(), hostnames()),
}
_Either = RecordTransition | EmitMetric | EmitLog
_EITHER: Mapping[type[_Either], SearchStrategy[_Either]] = {
    RecordTransition: st.builds(
        _transition, hostnames(), rollout_ids(), st.sampled_from(HOST_MOVES), times()
    ),
    EmitMetric: st.builds(
        EmitMetric,
        st.sampled_from(("nixfleet_facts_total", "nixfleet_host_soak_seconds")),
        _LABELS,
        st.integers(0, 600).map(float),
    ),
    EmitLog: st.builds(
        EmitLog,
        st.sampled_from(LogLevel),
        st.just("nixfleet"),
        st.just("rollback failed"),
        _LABELS,
    ),
}
HOST_EFFECTS: Sequence[tuple[type[object], SearchStrategy[object]]] = (
    *_AGENT.items(),
    *_CONTROL_PLANE.items(),
    *_EITHER.items(),
)
ROLLOUT_EFFECTS: Mapping[type[RolloutEffect], SearchStrategy[RolloutEffect]] = {
    RecordRolloutTransition: st.builds(
        _rollout_transition, rollout_ids(), st.sampled_from(ROLLOUT_MOVES), times()
    ),
    UpdateCurrentWave: st.builds(UpdateCurrentWave, rollout_ids(), waves()),
    SchedulePruning: st.builds(SchedulePruning, rollout_ids(), st.sampled_from((60, 259_200))),
}
PLAN_ACTIONS: Mapping[type[PlanAction], SearchStrategy[PlanAction]] = {
    OpenRollout: st.builds(_opening, rollout_ids()),
    QueueDispatch: st.builds(QueueDispatch, hostnames(), rollout_ids(), closures(), times()),
    DeferDispatch: st.builds(
        DeferDispatch, hostnames(), rollout_ids(), st.sampled_from(Gate), _REASONS
    ),
    WithdrawDispatch: st.builds(
        WithdrawDispatch, hostnames(), rollout_ids(), st.sampled_from(Gate), _REASONS
    ),
}
