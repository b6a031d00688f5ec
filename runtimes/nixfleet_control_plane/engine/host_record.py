"""How log entries change a host's record on the control plane. Pure.

The same functions are used live, in a replay, and at a start, which folds the log's tail into the record cache; so the
three cannot disagree.
"""

from datetime import datetime
from typing import Final

from attrs import evolve

from nixfleet_proto.agent_event import AgentEvent, DispatchAck, Postponed
from nixfleet_proto.drafting import maker
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.effect import ControlPlaneEffect
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.terms import RolloutTerms

_remote = maker(Remote)
BEGINNINGS: Final = (DispatchAck, Postponed)
"""The facts that tell of the dispatch itself: one of them comes first. All others change nothing but by `step`."""


def opened_record(terms: RolloutTerms, hostname: str) -> HostRolloutState:
    """Return the Pending record of a host in a rollout that opens."""
    closure = terms.targets[hostname]
    return HostRolloutState.pending(terms.rollout_id, hostname, terms.channel, closure, None, None)


def queued_record(
    record: HostRolloutState, at: datetime, soak_due_at: datetime
) -> HostRolloutState:
    """Return `record` with the times of its dispatch.

    A dispatch that was queued before and withdrawn keeps its first times: the host may act on the copy it received.
    """
    return record if record.dispatched_at is not None else record.dispatched(at, soak_due_at)


def retried_record(record: HostRolloutState) -> HostRolloutState:
    """Return `record` without the times of its last dispatch: the next attempt has its own."""
    return record.dispatched(None, None) if record.may_try_again else record


def apply_fact(
    record: HostRolloutState,
    fact: AgentEvent,
    at: datetime,
    policy: RolloutPolicy,
) -> tuple[HostRolloutState, tuple[ControlPlaneEffect, ...]]:
    """Return the record after `fact`, and the effects.

    Raises: TransitionError.
    """
    if not isinstance(fact, BEGINNINGS):
        return step(record, _remote(fact), at, policy)
    if starts_over(record, fact):
        record = skip_seq(record, fact.seq - 1)
    return step(_with_dispatch_times(record, fact), _remote(fact), at, policy)


def starts_over(record: HostRolloutState, fact: AgentEvent) -> bool:
    """Return whether `fact` takes a number again, in place of all that a host said which waits for its own lock.

    Such a host said "not now", and nothing else: when its journal was lost meanwhile, it begins at 1 again, and nothing
    is lost with what it said before. Only what begins a rollout, or does not, is told by a new journal first.
    Source: docs/spec/warrants.md, A journal that is lost while a host waits.
    """
    if fact.seq > record.last_event_seq or record.state is not HostState.PENDING:
        return False
    return isinstance(fact, Postponed) or (
        isinstance(fact, DispatchAck) and fact.attempt_number == 1
    )


def skip_seq(record: HostRolloutState, seq: int) -> HostRolloutState:
    """Return `record` with `seq` as the number of its last fact, otherwise unchanged: that fact did not apply.

    The host continues from that number, and so must a host that adopts this record.
    """
    return evolve(record, last_event_seq=seq)


def _with_dispatch_times(record: HostRolloutState, fact: AgentEvent) -> HostRolloutState:
    """Take the times of a dispatch from its acknowledgement when the acknowledgement is older than the dispatch.

    A rebuilt control plane dispatches anew, and then receives the replayed facts of the earlier dispatch. It no longer
    knows the earlier soak window: that one began before the acknowledgement. A window counted from the new dispatch
    would refuse a correct convergence for ever, so the host, which knows its own window, is trusted.
    The same holds for a host whose clock is behind, at every attempt.
    Source: docs/spec/runtimes.md, Boot.
    """
    if not isinstance(fact, DispatchAck):
        return record
    if record.state is not HostState.PENDING and not record.may_try_again:
        return record
    dispatched_at = record.dispatched_at
    if dispatched_at is not None and dispatched_at <= fact.received_at:
        return record
    return record.dispatched(fact.received_at, fact.received_at)


def is_to_go(record: HostRolloutState) -> bool:
    """Return whether a recall would move the host: it took the release, did not leave it, and has a way back."""
    if record.current_closure_at_dispatch in (None, record.target_closure):
        return False
    match record.state:
        case HostState.ACTIVATING | HostState.DEFERRED | HostState.SOAKING | HostState.CONVERGED:
            return True
        case HostState.PENDING | HostState.FAILED | HostState.REVERTED:
            return False
