"""What an agent does not do on the word of a control plane that was taken over: soak less, go back, begin again."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.messages.inputs import (
    Booted,
    ChecksLoaded,
    DispatchOffered,
    DispatchRefused,
    DispatchTaken,
    IntentBegun,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    RollbackEnded,
    RolloutDisowned,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.messages.writes import RemoveRollout, SetRolloutAside
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.agent_event import Converged, ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import ReplayFrom
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, SOAK_MINUTES, T0, LoneAgent, manifest_of, soaking_agent

R1 = RolloutId("stable@r1")
GOOD = ProbeOutcome(ProbeStatus.PASS)
LATER = T0 + timedelta(hours=1)


def refusal_of(agent: LoneAgent, offer: DispatchOffered) -> str:
    reply = agent.tell(offer)
    assert isinstance(reply, DispatchRefused), reply
    return reply.reason


def converged_agent() -> LoneAgent:
    agent = soaking_agent()
    agent.tell(ProbeRan(agent.record().rollout_id, "alive", GOOD))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60)
    assert agent.record().state is HostState.CONVERGED
    return agent


def rolled_back_agent() -> LoneAgent:
    agent = soaking_agent()
    agent.fail_probe(seconds=60)
    agent.tell(Tick())
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED
    return agent


def test_a_dispatch_with_a_shorter_soak_than_signed_is_refused() -> None:
    """The soak is what was signed for the host's wave, whatever the dispatch says."""
    agent = LoneAgent()
    offer = agent.offered()
    short = evolve(offer.dispatch, soak_due_at=offer.dispatch.enqueued_at)
    reason = refusal_of(agent, evolve(offer, dispatch=short))
    assert reason == (
        "expected the soak of 5 min that the manifest of stable@r1 gives web-01, found 0 min in the dispatch"
    )


def test_a_dispatch_with_a_longer_soak_than_signed_is_refused() -> None:
    """A soak of a year would keep the host from the release, also when an honest control plane is back."""
    agent = LoneAgent()
    offer = agent.offered()
    year = timedelta(days=365)
    endless = evolve(offer.dispatch, soak_due_at=offer.dispatch.enqueued_at + year)
    assert "found 525600 min" in refusal_of(agent, evolve(offer, dispatch=endless))


def test_a_dispatch_dated_in_the_future_soaks_from_now_on() -> None:
    """A window that begins next year would not end before it does."""
    agent = LoneAgent()
    offer = agent.offered()
    year = timedelta(days=365)
    early = evolve(
        offer.dispatch,
        enqueued_at=offer.dispatch.enqueued_at + year,
        soak_due_at=offer.dispatch.soak_due_at + year,
    )
    agent.tell(evolve(offer, dispatch=early))
    assert agent.record().dispatched_at == T0
    assert agent.record().soak_due_at == T0 + timedelta(minutes=SOAK_MINUTES)


def test_a_dispatch_queued_long_ago_still_soaks_for_the_signed_time() -> None:
    """A window that is over already would let the release converge in the second it was activated."""
    agent = LoneAgent()
    offer = agent.offered()
    day = timedelta(days=1)
    old = evolve(
        offer.dispatch,
        enqueued_at=offer.dispatch.enqueued_at - day,
        soak_due_at=offer.dispatch.soak_due_at - day,
    )
    agent.tell(evolve(offer, dispatch=old))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(agent.record().rollout_id, ALIVE))
    agent.tell(ProbeRan(agent.record().rollout_id, "alive", GOOD))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60 - 1)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=1)
    assert isinstance(agent.facts[-1], Converged)


def test_an_older_release_is_refused_though_it_is_fresh() -> None:
    """A replayed release names both, and what to do when going back is meant."""
    agent = LoneAgent()
    agent.tell(agent.offered(manifest_of("r2", signed_at=LATER)))
    reason = refusal_of(agent, agent.offered(manifest_of("r1", closure="older"), closure="older"))
    assert reason == (
        "expected a release signed at 2026-05-16T02:00:00+00:00 or later, as stable@r2 was, found stable@r1 of "
        "2026-05-16T01:00:00+00:00: to go back to older content, sign a new release of it"
    )


def test_older_content_in_a_new_release_is_obeyed() -> None:
    """Going back is a new word of whoever signs."""
    agent = converged_agent()
    back = manifest_of("r2", closure="older", signed_at=LATER)
    assert isinstance(agent.tell(agent.offered(back, closure="older")), DispatchTaken)


def test_the_closure_rolled_back_from_is_refused_in_the_same_release() -> None:
    """Also when the release was signed anew, as timers do, and the journal has forgotten the rollout."""
    agent = rolled_back_agent()
    agent.state.rollouts.discard(RolloutId("stable@r1"))
    agent.engine.settle()
    reason = refusal_of(agent, agent.offered(manifest_of("r1", signed_at=LATER)))
    assert reason.startswith("web-01 rolled back from new in stable@r1, signed at 2026-05-16T01:00")


def test_the_closure_rolled_back_from_is_refused_in_a_release_signed_no_later() -> None:
    """Another release that was signed before the rollback knows nothing of it."""
    agent = rolled_back_agent()
    assert "expected another release signed later" in refusal_of(
        agent, agent.offered(manifest_of("r2"))
    )


def test_the_closure_rolled_back_from_is_obeyed_in_a_release_signed_later() -> None:
    """A new signed word overrides it."""
    agent = rolled_back_agent()
    again = agent.offered(manifest_of("r2", signed_at=LATER))
    assert isinstance(agent.tell(again), DispatchTaken)


@pytest.mark.parametrize("state", [HostState.CONVERGED, HostState.FAILED])
def test_a_record_made_up_for_a_host_with_a_journal_is_not_taken_over(state: HostState) -> None:
    """It would end the probes, or switch rollback off; the host goes on by its own journal."""
    agent = soaking_agent()
    made_up = evolve(agent.record(), state=state, last_event_seq=99)
    agent.tell(RecordBootstrapped(made_up, manifest_of()))
    assert agent.record().state is HostState.SOAKING
    said = " ".join(map(str, agent.actions))
    assert "the control plane's record is not taken over" in said
    assert "found a record of 99" in said


def test_an_objection_to_a_record_is_logged_once() -> None:
    """A heartbeat comes every minute; the same lie is not a line each time."""
    agent = soaking_agent()
    made_up = RecordBootstrapped(evolve(agent.record(), last_event_seq=99), manifest_of())
    agent.tell(made_up)
    agent.tell(made_up)
    assert agent.actions == ()


def test_a_record_with_numbers_that_run_out_is_not_taken_over() -> None:
    """From 2⁶³-1 on there is no next fact, also not for the control plane that was healed."""
    lost, fresh = soaking_agent(), LoneAgent()
    fresh.tell(RecordBootstrapped(evolve(lost.record(), last_event_seq=2**63 - 1), manifest_of()))
    assert fresh.state.rollouts == {}
    assert isinstance(fresh.tell(fresh.offered()), DispatchTaken)


def test_a_record_is_not_taken_over_while_a_switch_is_under_way() -> None:
    """Two made-up records would close the first one's rollout, and its switch would still be carried out."""
    fresh = LoneAgent()
    first = evolve(soaking_agent().record(), state=HostState.ACTIVATING)
    fresh.tell(RecordBootstrapped(first, manifest_of()))
    fresh.tell(IntentBegun(fresh.intent.intent_id))
    second = evolve(first, rollout_id=RolloutId("stable@r2"))
    fresh.tell(RecordBootstrapped(second, manifest_of("r2", signed_at=LATER)))
    assert list(fresh.state.rollouts) == [R1]
    assert fresh.state.rollouts[R1].closed_at is None


@pytest.mark.parametrize("seq", [-1, 0])
def test_a_record_of_no_fact_is_not_taken_over(seq: int) -> None:
    """It would count as a dispatch that was acknowledged, and none would be obeyed any more."""
    fresh = LoneAgent()
    made_up = evolve(soaking_agent().record(), state=HostState.PENDING, last_event_seq=seq)
    fresh.tell(RecordBootstrapped(made_up, manifest_of()))
    assert fresh.state.rollouts == {}
    assert isinstance(fresh.tell(fresh.offered()), DispatchTaken)


@pytest.mark.parametrize("first", [-1, 0, 2**63, 2**70])
def test_a_replay_from_a_number_that_no_fact_has_changes_nothing(first: int) -> None:
    """One below the first fact does not set aside a journal that has it; one above the last cannot be stored."""
    agent = soaking_agent()
    before = agent.record()
    agent.tell(ReplayAsked(ReplayFrom("stable@r1", first)))
    assert agent.writes == ()
    assert agent.record() == before


@pytest.mark.parametrize("restarts", [False, True])
def test_a_soak_that_is_taken_over_is_observed_for_the_signed_time(restarts: bool) -> None:
    """A made-up soak that began long ago would converge at once, and at the next restart."""
    seen = soaking_agent().record()
    made_up = evolve(seen, soak_due_at=seen.dispatched_at)
    fresh = LoneAgent()
    fresh.now = T0 + timedelta(days=1)
    fresh.tell(RecordBootstrapped(made_up, manifest_of()))
    if restarts:
        fresh.state.last_tick_at.set(None)  # as a new process begins
        fresh.tell(Booted("new"), after_seconds=1)
    fresh.tell(ChecksLoaded(R1, ALIVE))
    fresh.tell(ProbeRan(R1, "alive", GOOD))
    fresh.tell(Tick(), after_seconds=SOAK_MINUTES * 60 - 1)
    assert fresh.record().state is HostState.SOAKING
    fresh.tell(Tick(), after_seconds=1)
    assert isinstance(fresh.facts[-1], Converged)


def test_probes_that_are_taken_over_must_run_here() -> None:
    """A made-up record in which no probe is declared, or each one passes, does not converge on that."""
    seen = soaking_agent()
    seen.tell(ProbeRan(seen.record().rollout_id, "alive", GOOD))
    for made_up in (seen.record(), evolve(seen.record(), declared_probes=())):
        fresh = LoneAgent()
        fresh.tell(RecordBootstrapped(made_up, manifest_of()))
        fresh.tell(ChecksLoaded(R1, ALIVE), after_seconds=3600)
        assert fresh.record().state is HostState.SOAKING
        fresh.tell(ProbeRan(R1, "alive", GOOD))
        assert fresh.record().state is HostState.CONVERGED


def test_a_replay_from_before_a_record_was_taken_over_deletes_no_fact() -> None:
    """The facts that were lived are set aside."""
    fresh = LoneAgent()
    fresh.tell(RecordBootstrapped(soaking_agent().record(), manifest_of()))
    fresh.tell(ChecksLoaded(fresh.record().rollout_id, ALIVE))
    fresh.tell(ReplayAsked(ReplayFrom("stable@r1", 1)))
    assert [type(write) for write in fresh.writes] == [SetRolloutAside]


def test_after_its_only_rollout_was_set_aside_a_host_takes_the_honest_record_over() -> None:
    """A number that was made up for a host with a new journal keeps it from no record of a control plane that was
    healed."""
    fresh, honest = LoneAgent(), soaking_agent().record()
    fresh.tell(RecordBootstrapped(evolve(honest, last_event_seq=1000), manifest_of()))
    fresh.tell(ChecksLoaded(R1, ALIVE))
    fresh.tell(ReplayAsked(ReplayFrom("stable@r1", honest.last_event_seq + 1)))
    fresh.tell(RecordBootstrapped(honest, manifest_of()))
    assert fresh.record().last_event_seq == honest.last_event_seq


def test_a_rollout_said_to_be_unknown_is_kept_for_thirty_days() -> None:
    """The word of a control plane deletes nothing before an honest one could have asked."""
    agent = converged_agent()
    agent.tell(agent.offered(manifest_of("r2", signed_at=LATER)))
    agent.unsent = frozenset({RolloutId("stable@r1")})
    agent.tell(RolloutDisowned(RolloutId("stable@r1")), after_seconds=29 * 86400)
    assert not agent.writes
    agent.tell(RolloutDisowned(RolloutId("stable@r1")), after_seconds=2 * 86400)
    assert agent.writes == (RemoveRollout(RolloutId("stable@r1")),)


def test_a_record_from_the_future_is_not_taken_over() -> None:
    """The host takes the next honest dispatch instead."""
    seen = soaking_agent().record()
    completed_at = T0 + timedelta(days=365 * 7000)
    fresh = LoneAgent()
    fresh.tell(
        RecordBootstrapped(evolve(seen, activation_completed_at=completed_at), manifest_of())
    )
    assert fresh.state.rollouts == {}
    assert isinstance(fresh.tell(fresh.offered()), DispatchTaken)


def test_a_record_without_times_soaks_for_the_signed_time() -> None:
    """A record of a switch under way, with no dispatch and no soak in it, would converge in the next second."""
    lost = LoneAgent()
    lost.tell(lost.offered())
    fresh = LoneAgent()
    fresh.tell(
        RecordBootstrapped(
            evolve(lost.record(), dispatched_at=None, soak_due_at=None), manifest_of()
        )
    )
    fresh.tell(SwitchEnded(fresh.intent.intent_id, SwitchCompleted("new", 0)))
    fresh.tell(ChecksLoaded(R1, ALIVE))
    fresh.tell(ProbeRan(R1, "alive", GOOD))
    fresh.tell(Tick(), after_seconds=SOAK_MINUTES * 60 - 1)
    assert fresh.record().state is HostState.SOAKING
    fresh.tell(Tick(), after_seconds=1)
    assert fresh.record().state is HostState.CONVERGED
