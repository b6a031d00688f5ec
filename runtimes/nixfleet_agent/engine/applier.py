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
    """Carry out `effect`: what must be durable goes into `commit`, what must wait for that after it."""
    match effect:
        case LocalEmitEvent():
            # Durable or not, a row: nothing is sent that the journal could forget, or a number would
            # come to mean two facts.
            commit.write(AppendEvent(effect.rollout_id, effect.payload, at))
            commit.afterwards(WakeSender())
        case LocalFireSwitch():
            intent = state.add_intent(commit, IntentKind.SWITCH, effect.rollout_id, effect.target)
            commit.afterwards(CarryOut(intent))
        case LocalFireRollbackTo():
            intent = state.add_intent(
                commit, IntentKind.ROLLBACK, effect.rollout_id, effect.closure
            )
            commit.afterwards(CarryOut(intent))
        case LocalResetProbeCache():
            state.forget_probes(effect.rollout_id)
            commit.afterwards(StopProbes(effect.rollout_id))
        case RecordTransition():
            _follow(effect, state, commit)
        case EmitMetric() | EmitLog():
            commit.afterwards(effect)
        case _:
            assert_never(effect)


def _follow(moved: RecordTransition, state: State, commit: CommitBuilder) -> None:
    """Probes run while the host soaks, and only then."""
    match moved.to:
        case HostState.SOAKING:
            target = state.rollouts[moved.rollout_id].record.target_closure
            commit.afterwards(LoadChecks(moved.rollout_id, target))
        case HostState.CONVERGED | HostState.FAILED | HostState.REVERTED:
            commit.afterwards(StopProbes(moved.rollout_id))
        case HostState.PENDING | HostState.ACTIVATING | HostState.DEFERRED:
            pass
        case _:
            assert_never(moved.to)
