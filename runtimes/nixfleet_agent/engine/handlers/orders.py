"""What the engine does with an operator's warrant: the host's lock is overridden, or the host goes back.

Source: docs/spec/warrants.md.
"""

from datetime import datetime
from typing import assert_never

from nixfleet_agent.engine.handlers.emission import emit
from nixfleet_agent.engine.handlers.offers import end_postponement
from nixfleet_agent.engine.locks import is_held_off, objection_to_override, override
from nixfleet_agent.engine.recalls import (
    is_carried_out,
    is_over,
    objection_to_recall,
    withdraw_waiting_switch,
)
from nixfleet_agent.engine.reconcile import log_entry
from nixfleet_agent.engine.state import CommitBuilder, State
from nixfleet_agent.messages.inputs import Reply, WarrantObeyed, WarrantRefused
from nixfleet_proto.agent_event import Recalled
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_state_machine.host.effect import LogLevel


def obey_warrant(state: State, commit: CommitBuilder, warrant: Warrant, now: datetime) -> Reply:
    """Obey an order that is relayed until its fact is known, and obeyed once."""
    rule = warrant.rule
    match rule:
        case ClosureRule.PRIOR:
            return _recall(state, commit, warrant, now)
        case ClosureRule.TARGET:
            return _override(state, commit, warrant, now)
        case _:
            assert_never(rule)


def _override(state: State, commit: CommitBuilder, warrant: Warrant, now: datetime) -> Reply:
    """Begin the next attempt without asking the host's own lock; tell that the lock is over."""
    is_known = warrant.order_id in state.orders
    if is_known and state.is_overridden(warrant.rollout_id, now):
        if not is_held_off(state, warrant.rollout_id):
            return WarrantObeyed()
    else:
        refusal = objection_to_override(state, warrant)
        if refusal is not None:
            return WarrantRefused(warrant.rollout_id, refusal)
    reason = override(state, commit, warrant, now)
    end_postponement(state, commit, warrant.rollout_id, reason, now)
    commit.afterwards(log_entry(LogLevel.WARNING, "the lock is overridden", reason))
    return WarrantObeyed()


def _recall(state: State, commit: CommitBuilder, warrant: Warrant, now: datetime) -> Reply:
    """Go back to what ran before the dispatch."""
    if is_carried_out(state, warrant):
        return WarrantObeyed()
    refusal = objection_to_recall(state, warrant)
    if is_over(warrant, now):
        refusal = f"order {warrant.order_id} expired before the host could go back; sign a new one"
    if refusal is not None:
        return WarrantRefused(warrant.rollout_id, refusal)
    withdraw_waiting_switch(state, commit, warrant)
    state.note_order(commit, warrant.order_id, warrant.rollout_id, now)
    order_id = warrant.order_id
    emit(state, commit, warrant.rollout_id, lambda seq: Recalled(order_id, now, seq), now)
    about = f"{warrant.rollout_id}, order {order_id} of {warrant.operator}: {warrant.reason}"
    commit.afterwards(log_entry(LogLevel.WARNING, "going back by a warrant", about))
    return WarrantObeyed()
