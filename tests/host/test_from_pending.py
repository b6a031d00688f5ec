"""A Pending host waits for one thing: the agent's acknowledgement of its dispatch."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import AgentEvent, DispatchAck
from nixfleet_state_machine import HostState, IllegalForState, SeqRegression, rehydration_effects
from nixfleet_state_machine.host.effect import (
    LocalEmitEvent,
    LocalFireSwitch,
    RemoteAppendEventLog,
)
from tests.builders import (
    HOST,
    PRIOR,
    ROLLOUT,
    SOAK_DUE,
    T0,
    TARGET,
    all_facts_but,
    at,
    dispatch_ack,
    lived,
    metrics,
    moved,
    pending_host,
    told,
)


def test_an_acknowledged_dispatch_makes_the_host_activating() -> None:
    """DispatchAck moves the host to Activating and keeps what was running as its way back."""
    after, _ = told(pending_host(), dispatch_ack(seconds=10, seq=1))

    assert after == evolve(
        pending_host(),
        state=HostState.ACTIVATING,
        current_closure_at_dispatch=PRIOR,
        dispatch_acked_at=at(10),
        last_event_seq=1,
    )


def test_an_acknowledged_dispatch_fires_the_switch_on_the_agent() -> None:
    """The agent first keeps the fact, then records the change, and only then switches."""
    fact = dispatch_ack(seconds=10)
    _, effects = lived(pending_host(), fact)

    assert effects == [
        LocalEmitEvent(ROLLOUT, fact, durable=True),
        moved(HostState.PENDING, HostState.ACTIVATING, seconds=10),
        LocalFireSwitch(ROLLOUT, TARGET),
    ]


def test_an_acknowledged_dispatch_is_logged_by_the_control_plane() -> None:
    """The control plane appends the fact and records the change; it fires nothing."""
    fact = dispatch_ack(seconds=10)
    _, effects = told(pending_host(), fact)

    assert effects == [
        RemoteAppendEventLog(HOST, ROLLOUT, fact),
        moved(HostState.PENDING, HostState.ACTIVATING, seconds=10),
    ]


def test_an_acknowledged_dispatch_is_counted() -> None:
    """Every transition is counted by where it went from and to."""
    (metric,) = metrics(pending_host(), dispatch_ack())

    assert metric.name == "nixfleet_host_transitions_total"
    assert metric.labels == (("from", "Pending"), ("to", "Activating"))
    assert metric.value == 1.0


@pytest.mark.parametrize("fact", all_facts_but(DispatchAck))
def test_any_other_fact_is_refused(fact: AgentEvent) -> None:
    """Nothing but the acknowledgement can come first."""
    with pytest.raises(IllegalForState):
        told(pending_host(), fact)


def test_a_first_fact_numbered_zero_is_refused() -> None:
    """Numbers start at 1: a fact with seq 0 is not later than no fact at all."""
    with pytest.raises(SeqRegression) as refusal:
        told(pending_host(), dispatch_ack(seq=0))

    assert (refusal.value.got, refusal.value.last) == (0, 0)


def test_restoring_a_pending_record_asks_for_nothing() -> None:
    """A host that acknowledged nothing has no probes to start again."""
    assert rehydration_effects(pending_host()) == ()


def test_a_withdrawn_dispatch_leaves_no_times_behind() -> None:
    """A Pending record takes the times of its dispatch, and loses them when it is withdrawn."""
    withdrawn = pending_host().dispatched(None, None)

    assert (withdrawn.dispatched_at, withdrawn.soak_due_at) == (None, None)
    assert withdrawn.dispatched(T0, at(SOAK_DUE)) == pending_host()
