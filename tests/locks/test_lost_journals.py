"""A host that loses its journal while its lock keeps it from beginning loses nothing: it begins its numbers anew."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from nixfleet_agent.activation.activator import SwitchCompleted
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    Done,
    IntentKind,
    RecordBootstrapped,
    SwitchEnded,
    Tick,
)
from nixfleet_proto.agent_event import DispatchAck, OnHealthFailure, Postponed
from nixfleet_runtime.transport import SeqForked
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.agent.lone_agent import ALIVE, manifest_of
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost
from tests.locks.test_agent_locks import LockedAgent, postponed
from tests.locks.test_control_plane_locks import LAPTOP, R1, laptop, lock_of, postpone


@pytest.fixture
def fleet() -> Iterator[ScriptedControlPlane]:
    """web-01 alone, for which stable@r1 is published."""
    with (
        scratch_directory() as directory,
        closing(ScriptedControlPlane(directory, Layout(waves=((LAPTOP,),)))) as control_plane,
    ):
        control_plane.publish("r1")
        yield control_plane


def waiting_again(fleet: ScriptedControlPlane, times: int = 1) -> None:
    """The host said "not now" so many times, and is dispatched again."""
    host = laptop(fleet)
    for _ in range(times - 1):
        postpone(host)
    fleet.heartbeat(LAPTOP, {R1: times})
    fleet.wait(minutes=31)
    fleet.tick()
    assert fleet.queued() == [(LAPTOP, R1)]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same process", "restarted"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_acknowledgement_of_a_new_journal_is_taken_and_the_rollout_ends(
    fleet: ScriptedControlPlane, is_restarted: bool, times: int
) -> None:
    """Its number was taken by a "not now", which carries nothing that must be kept."""
    waiting_again(fleet, times)
    if is_restarted:
        fleet.flush()
        fleet.restart_control_plane()
    new = ScriptedHost(fleet, R1, LAPTOP)
    new.finish()
    assert fleet.states(R1) == {LAPTOP: HostState.CONVERGED}
    assert fleet.rollout(R1).state is RolloutState.TERMINAL
    assert not fleet.heartbeat(LAPTOP, {R1: len(new.facts)}, new.target).bootstrap_rollouts
    assert LAPTOP not in fleet.state.forked
    assert not fleet.check_store().differences


def test_a_heartbeat_of_a_new_journal_that_has_begun_contradicts_nothing(
    fleet: ScriptedControlPlane,
) -> None:
    """The numbers of the journal before are forgotten with its facts."""
    waiting_again(fleet, times=3)
    new = ScriptedHost(fleet, R1, LAPTOP)
    new.acknowledge()
    for _ in range(3):
        fleet.wait(minutes=3)
        fleet.heartbeat(LAPTOP, {R1: 1})
    assert LAPTOP not in fleet.state.forked


def test_a_not_now_of_a_new_journal_holds_the_host(fleet: ScriptedControlPlane) -> None:
    """It is another fact than the one that had its number, and no second machine is suspected."""
    waiting_again(fleet, times=3)
    new = ScriptedHost(fleet, R1, LAPTOP)
    postpone(new, reason="in the next call")
    lock = lock_of(fleet)
    assert lock is not None
    assert lock.reason == "in the next call"
    assert fleet.mirrored(R1, LAPTOP).last_event_seq == 1
    assert LAPTOP not in fleet.state.forked
    assert not fleet.check_store().differences


def test_a_not_now_that_comes_twice_is_a_duplicate(fleet: ScriptedControlPlane) -> None:
    """Its acknowledgement was lost on the way; no row is written."""
    host = laptop(fleet)
    rows = len(fleet.log())
    assert fleet.hear(LAPTOP, R1, host.facts[0]).accepted == 1
    assert len(fleet.log()) == rows


def test_two_acknowledgements_by_one_number_are_a_contradiction(
    fleet: ScriptedControlPlane,
) -> None:
    """A record that has one does not begin again."""
    ScriptedHost(fleet, R1, LAPTOP).acknowledge()
    twin = ScriptedHost(fleet, R1, LAPTOP)
    other = DispatchAck("another-machine", fleet.now, 1)
    assert fleet.hear(LAPTOP, R1, other).stopped_by == SeqForked(R1, 1)
    assert twin.facts == []


def test_a_record_of_a_host_that_waits_is_not_taken_over() -> None:
    """It has nothing that the host needs, and what the host notes at its dispatch is its own then."""
    waiting = postponed()
    agent = LockedAgent()
    assert agent.tell(RecordBootstrapped(waiting.record(), manifest_of())) == Done()
    assert dict(agent.state.rollouts) == {}
    assert agent.state.newest_release.get() is None


def test_a_host_that_lost_its_journal_while_it_waited_rolls_back() -> None:
    """It noted itself what ran at its dispatch."""
    signed = manifest_of(on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT)
    waiting = postponed()
    agent = LockedAgent()
    agent.tell(RecordBootstrapped(waiting.record(), signed))
    agent.now += timedelta(minutes=20)
    agent.take(signed)
    assert agent.facts[-1] == DispatchAck("old", agent.now, 1)
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, ALIVE))
    agent.fail_probe(90)
    agent.tell(Tick())
    assert [intent.kind for intent in agent.state.intents.values()] == [IntentKind.ROLLBACK]


def test_facts_of_a_waiting_host_are_all_postponements() -> None:
    """What a control plane may replace: a Pending record carries nothing else."""
    agent = postponed()
    agent.override()
    assert all(isinstance(fact, Postponed) for fact in agent.facts)
