"""Control-plane applier: turns effects into writes and actions of one commit. Policy belongs in the reducers.

Source: docs/spec/host-machine.md, Effects; docs/spec/rollout-machine.md, Effects.
"""

from datetime import datetime, timedelta
from typing import assert_never

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.host_record import opened_record, queued_record
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.log_entry import FactsReported
from nixfleet_proto.agent_event import ProbeResult
from nixfleet_proto.codec.wire import envelope_payload
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_state_machine.host.effect import (
    ControlPlaneEffect,
    EmitLog,
    EmitMetric,
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


def apply(
    effect: ControlPlaneEffect,
    state: State,
    commit: CommitBuilder,
    at: datetime,
) -> RecordTransition | None:
    """Carry out `effect` in memory, and add to `commit` what must become durable.

    Returns the transition if `effect` is one: the caller notifies the host's rollout. A fact that comes by itself
    becomes a row without a signature; those of hosts are logged by `fact_intake`, with what was signed.
    """
    match effect:
        case RemoteAppendEventLog():
            fact = effect.payload
            seq = state.append(commit, _reported(effect), at)
            if isinstance(fact, ProbeResult):
                state.note_probe_result(commit, (effect.rollout_id, effect.host), fact, seq)
                state.count_outstanding((effect.rollout_id, effect.host))
        case RecordTransition():
            return effect
        case EmitMetric() | EmitLog():
            commit.afterwards(effect)
        case RemoteQueueDispatch():
            _queue_dispatch(effect, state, commit, at)
        case RemoteInsertQuarantine():
            state.quarantine(
                commit, effect.channel, effect.closure, at, triggered_by=state.head_seq
            )
        case RemoteOpenRolloutRecord():
            terms = state.view.terms(effect.rollout_id)
            state.put_host(opened_record(terms, effect.host))
        case _:
            assert_never(effect)
    return None


def _reported(effect: RemoteAppendEventLog) -> FactsReported:
    envelope = AgentEventEnvelope(effect.host, effect.rollout_id, effect.payload)
    payload = envelope_payload(envelope).decode()
    return FactsReported(
        effect.host, effect.rollout_id, (effect.payload,), FrozenMap(), payload, None
    )


def apply_to_rollout(
    effect: RolloutEffect, state: State, commit: CommitBuilder, at: datetime
) -> None:
    """As `apply`, for the effects of the rollout machine. The caller writes the rollout's record."""
    match effect:
        case SchedulePruning():
            state.schedule_pruning(effect.rollout_id, at + timedelta(seconds=effect.delay_seconds))
        case RecordRolloutTransition():
            labels = (("from", effect.from_.value), ("to", effect.to.value))
            commit.afterwards(EmitMetric("nixfleet_rollout_transitions_total", labels, 1.0))
        case UpdateCurrentWave():
            pass  # `current_wave` is a column of the rollout's row, which the caller writes.
        case _:
            assert_never(effect)


def _queue_dispatch(
    effect: RemoteQueueDispatch, state: State, commit: CommitBuilder, at: datetime
) -> None:
    record = state.view.host(effect.rollout_id, effect.host)
    assert record is not None, effect
    record = queued_record(record, at, effect.soak_due_at)
    assert record.dispatched_at is not None, record
    state.put_host(record)
    dispatch = Dispatch(
        hostname=effect.host,
        rollout_id=effect.rollout_id,
        target_closure=effect.target_closure,
        soak_due_at=effect.soak_due_at,
        enqueued_at=record.dispatched_at,
        attempt=None if effect.attempt == 1 else effect.attempt,
    )
    state.queue_dispatch(commit, (effect.rollout_id, effect.host), dispatch, at)
