"""How a host's record on the control plane comes to be, from what the log says. Pure.

Used live, in a replay, and when a start folds the log's tail into the record cache: one code, so the three
cannot disagree.
"""

from datetime import datetime

from attrs import evolve

from nixfleet_proto.agent_event import AgentEvent, DispatchAck
from nixfleet_proto.drafting import maker
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.effect import ControlPlaneEffect
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.terms import RolloutTerms

_remote = maker(Remote)


def opened_record(terms: RolloutTerms, hostname: str) -> HostRolloutState:
    """Return the Pending record of a host of a rollout that opens."""
    closure = terms.targets[hostname]
    return HostRolloutState.pending(terms.rollout_id, hostname, terms.channel, closure, None, None)


def queued_record(
    record: HostRolloutState, at: datetime, soak_due_at: datetime
) -> HostRolloutState:
    """Return `record` with its dispatch noted.

    One that was queued before and withdrawn keeps its times: the host may go by the copy it got then.
    """
    return record if record.dispatched_at is not None else record.dispatched(at, soak_due_at)


def told_record(
    record: HostRolloutState,
    fact: AgentEvent,
    at: datetime,
    policy: RolloutPolicy,
) -> tuple[HostRolloutState, tuple[ControlPlaneEffect, ...]]:
    """Return the record after `fact` was reported, and the effects.

    Raises: TransitionError.
    """
    return step(_with_dispatch_times(record, fact), _remote(fact), at, policy)


def passed_over(record: HostRolloutState, seq: int) -> HostRolloutState:
    """Return `record` after a fact that it cannot take: the number is used up, and nothing else happened.

    The host goes on from that number, and so must whoever takes this record over from here.
    """
    return evolve(record, last_event_seq=seq)


def _with_dispatch_times(record: HostRolloutState, fact: AgentEvent) -> HostRolloutState:
    """A dispatch made after the acknowledgement it now receives takes its times from that.

    So a rebuilt control plane does not judge a replayed convergence by a soak window that began when it woke
    up. When the dispatch that the host went by was made, and its window ended, nobody here knows any more:
    some time before the acknowledgement, and so before any window counted from that. Such a window would
    refuse for ever what a host did right, so the host, which knows its own, is trusted with it.
    Source: docs/spec/runtimes.md, Boot.
    """
    if not isinstance(fact, DispatchAck) or record.state is not HostState.PENDING:
        return record
    dispatched_at = record.dispatched_at
    if dispatched_at is not None and dispatched_at <= fact.received_at:
        return record
    return record.dispatched(fact.received_at, fact.received_at)
