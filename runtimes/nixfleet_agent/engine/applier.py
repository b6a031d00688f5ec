"""Agent applier: effects into one commit. No policy here: any `if` about policy belongs in a reducer.

Source: docs/spec/host-machine.md, Effects.
"""

from datetime import datetime
from typing import assert_never

from nixfleet_agent.engine.state import CommitBuilder, State
from nixfleet_agent.messages.inputs import CarryOut, IntentKind, LoadChecks, StopProbes, WakeSender
from nixfleet_agent.messages.writes import AppendEvent
from nixfleet_state_machine.host.effect import (
    AgentEffect,
    EmitLog,
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    RecordTransition,
)
from nixfleet_state_machine.host.state import HostState


def apply(effect: AgentEffect, state: State, commit: CommitBuilder, at: datetime) -> None:
    """Add `effect` to `commit`: what must be durable as writes, what must wait for that as actions."""
    match effect:
        case LocalEmitEvent():
            # A row whether durable or not: a fact that is sent but not in the journal would let one seq
            # be used for two facts.
            commit.write(AppendEvent(effect.rollout_id, effect.payload, at))
            commit.afterwards(WakeSender())
        case LocalFireSwitch():
            intent = state.add_intent(commit, IntentKind.SWITCH, effect.rollout_id, effect.target)
            commit.afterwards(CarryOut(intent))
        case LocalFireRollbackTo():
            state.note_rolled_back(commit, effect.rollout_id)
            intent = state.add_intent(
                commit, IntentKind.ROLLBACK, effect.rollout_id, effect.closure
            )
            commit.afterwards(CarryOut(intent))
        case LocalResetProbeCache():
            state.forget_probes(effect.rollout_id)
            commit.afterwards(StopProbes(effect.rollout_id))
        case RecordTransition():
            _adjust_probes(effect, state, commit)
        case EmitMetric() | EmitLog():
            commit.afterwards(effect)
        case _:
            assert_never(effect)


def _adjust_probes(moved: RecordTransition, state: State, commit: CommitBuilder) -> None:
    """Start or stop the probes: they run from the soak on, until the host has failed or its rollout rests."""
    match moved.to:
        case HostState.SOAKING:
            target = state.rollouts[moved.rollout_id].record.target_closure
            commit.afterwards(LoadChecks(moved.rollout_id, target))
        case HostState.CONVERGED:
            if not state.is_watched(state.rollouts[moved.rollout_id]):
                commit.afterwards(StopProbes(moved.rollout_id))
        case HostState.FAILED | HostState.REVERTED:
            commit.afterwards(StopProbes(moved.rollout_id))
        case HostState.PENDING | HostState.ACTIVATING | HostState.DEFERRED:
            pass
        case _:
            assert_never(moved.to)
