"""Obeying an operator's warrant: whether this host may leave what it runs, and for what. Sans I/O.

The signature and the time were verified before; here the order is held against what this host knows itself: its
journal, the manifest that it verified, and the closure that it noted at the dispatch. The control plane relays
warrants, and its word decides nothing.
Source: docs/spec/warrants.md, What a host verifies.
"""

from datetime import datetime
from typing import Final

from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.messages.inputs import IntentKind, WithdrawIntent
from nixfleet_proto.policy import Recall
from nixfleet_proto.steering.warrant import Warrant
from nixfleet_state_machine.host.state import HostState

RECALLABLE: Final = frozenset(
    {HostState.ACTIVATING, HostState.DEFERRED, HostState.SOAKING, HostState.CONVERGED}
)


def is_carried_out(state: State, warrant: Warrant) -> bool:
    """Return whether this host left the target by this very order, and did nothing in the rollout since."""
    rollout = state.rollouts.get(warrant.rollout_id)
    is_left = rollout is not None and rollout.record.state.is_failure
    order = state.orders.get(warrant.order_id)
    return is_left and order is not None and order.rollout_id == warrant.rollout_id


def is_over(warrant: Warrant, now: datetime) -> bool:
    """Return whether the warrant expired since its signature was verified: a full disk keeps inputs waiting."""
    return now >= warrant.expires_at


def objection_to_recall(state: State, warrant: Warrant) -> str | None:
    """Return why this host does not go back by the order, with what was expected and found; `None` if it does."""
    about = f"order {warrant.order_id}"
    if not warrant.is_for(state.hostname):
        return f"{about} is for {len(warrant.hosts)} other hosts, not for {state.hostname}"
    rollout = state.rollouts.get(warrant.rollout_id)
    if rollout is None:
        return f"{about}: expected a rollout of this host, found {warrant.rollout_id}, which it was never dispatched"
    if warrant.order_id in state.orders:
        return f"{about} was obeyed before, and an order is good once; sign a new one"
    if rollout.closed_at is not None:
        return f"{about}: a newer rollout took over from {warrant.rollout_id}; recall that one"
    if rollout.policy.recall is not Recall.OPERATOR:
        return f'{about}: the signed policy says recall = "never"; release another closure'
    return _objection_to_way_back(about, rollout)


def _objection_to_way_back(about: str, rollout: LocalRollout) -> str | None:
    record = rollout.record
    if record.state not in RECALLABLE:
        return f"{about}: expected a host that took the release, found it {record.state}"
    if rollout.taken_over_seq:
        return (
            f"{about}: the journal was lost, and what ran before is the control plane's word, which moves no machine; "
            "activate it by hand, or release it again"
        )
    prior = record.current_closure_at_dispatch
    if prior is None or prior == record.target_closure:
        return f"{about}: {record.target_closure} ran before its dispatch, so there is nothing to go back to"
    return None


def withdraw_waiting_switch(state: State, commit: CommitBuilder, warrant: Warrant) -> None:
    """Do not begin a switch of the rollout that still waits. One that is under way ends first, and is undone then."""
    for intent in tuple(state.intents.values()):
        is_its_switch = intent.rollout_id == warrant.rollout_id and intent.kind is IntentKind.SWITCH
        if is_its_switch and not state.is_under_way(intent):
            commit.afterwards(WithdrawIntent(intent))
            state.remove_intent(commit, intent)
