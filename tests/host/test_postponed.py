"""A host that is postponed stays where it is: Pending, or at rest before another attempt."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import Postponed
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine import HostRolloutState, IllegalForState, Local, Remote, step
from nixfleet_state_machine.host.effect import LocalEmitEvent, RemoteAppendEventLog
from nixfleet_testing.samples import AT, NOW, hosts, next_of

HOSTS: Mapping[str, HostRolloutState] = hosts()
WAITING = ("pending", "failed by activation", "failed by probes", "reverted", "converged")
POSTPONED = Postponed(AT, "a call is in progress", AT + timedelta(hours=1), 1)
POLICY = RolloutPolicy()


@pytest.mark.parametrize("title", WAITING)
def test_a_host_whose_next_switch_is_postponed_stays_as_it_is(title: str) -> None:
    """Only the number of the fact is new: nothing is ordered, and no time of its record changes."""
    record = HOSTS[title]
    fact = next_of(record, POSTPONED)
    expected = evolve(record, last_event_seq=fact.seq)
    there = LocalEmitEvent(record.rollout_id, fact, durable=True)
    here = RemoteAppendEventLog(record.hostname, record.rollout_id, fact)
    assert step(record, Local(fact), NOW, POLICY) == (expected, (there,))
    assert step(record, Remote(fact), NOW, POLICY) == (expected, (here,))


@pytest.mark.parametrize("title", sorted(HOSTS.keys() - set(WAITING)))
def test_a_host_that_acts_is_not_postponed(title: str) -> None:
    """A lock is asked before a switch, and never before a way back."""
    record = HOSTS[title]
    with pytest.raises(IllegalForState):
        step(record, Remote(next_of(record, POSTPONED)), NOW, POLICY)


def test_a_postponement_that_ends_when_it_began_is_over() -> None:
    """So a host says that its lock is open."""
    assert not POSTPONED.is_over
    assert evolve(POSTPONED, until=POSTPONED.postponed_at).is_over
    assert evolve(POSTPONED, until=POSTPONED.postponed_at - timedelta(seconds=1)).is_over
