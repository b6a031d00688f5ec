"""Another attempt at a closure: which one an agent takes, what it forgets for it, and what no lie brings back."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import (
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    IntentBegun,
    IntentKind,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    RollbackEnded,
    RunningClosureSeen,
    StopProbes,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.messages.writes import PutRecord
from nixfleet_agent.probes.runner import PASSED
from nixfleet_proto.agent_event import Converged, DispatchAck, OnHealthFailure
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.trust import Verified
from nixfleet_runtime.transport import ReplayFrom
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, SOAK_MINUTES, T0, LoneAgent, manifest_of, soaking_agent

R1 = RolloutId("stable@r1")
LATER = T0 + timedelta(hours=1)
HALT = OnHealthFailure.HALT
LIES = range(2, 100)


def three_attempts() -> Verified[RolloutManifest]:
    return manifest_of(attempts=3)


def failed_agent(manifest: Verified[RolloutManifest]) -> LoneAgent:
    """An agent whose probe failed for a minute."""
    agent = soaking_agent(manifest)
    fail(agent)
    return agent


def reverted_agent(manifest: Verified[RolloutManifest] | None = None) -> LoneAgent:
    """An agent that rolled back from its first attempt."""
    agent = failed_agent(manifest or three_attempts())
    come_back(agent)
    return agent


def converged_agent() -> LoneAgent:
    agent = soaking_agent()
    converge(agent)
    return agent


def fail(agent: LoneAgent) -> None:
    agent.fail_probe(seconds=60)
    agent.tell(Tick())
    assert agent.record().state is HostState.FAILED


def come_back(agent: LoneAgent) -> None:
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED


def converge(agent: LoneAgent) -> None:
    agent.tell(ProbeRan(R1, "alive", PASSED))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60)
    assert agent.record().state is HostState.CONVERGED


def switch(agent: LoneAgent) -> None:
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, ALIVE))


def refusal_of(agent: LoneAgent, attempt: int, manifest: Verified[RolloutManifest]) -> str:
    reply = agent.tell(agent.offered(manifest, attempt=attempt))
    assert isinstance(reply, DispatchRefused), reply
    assert (agent.writes, agent.actions) == ((), ())
    return reply.reason


def test_a_host_that_rolled_back_takes_the_next_attempt_within_those_that_were_signed() -> None:
    """It acknowledges by number, and notes what runs now as the way back."""
    agent = reverted_agent()
    seq = agent.record().last_event_seq
    offer = agent.offered(three_attempts(), running="old", attempt=2)

    assert agent.tell(offer, after_seconds=60) == DispatchTaken()
    assert agent.facts[-1] == DispatchAck("old", agent.now, seq + 1, attempt=2)
    assert agent.intent.kind is IntentKind.SWITCH
    record = agent.record()
    assert (record.state, record.attempt) == (HostState.ACTIVATING, 2)
    assert record.dispatched_at == offer.dispatch.enqueued_at
    assert record.soak_due_at == offer.dispatch.soak_due_at


def test_another_attempt_soaks_and_converges_like_the_first() -> None:
    """For the whole signed time since its own activation."""
    agent = reverted_agent()
    agent.tell(agent.offered(three_attempts(), attempt=2))
    switch(agent)
    agent.tell(ProbeRan(R1, "alive", PASSED))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60 - 1)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=1)

    assert isinstance(agent.facts[-1], Converged)
    assert agent.record().failed_at is None


def test_another_attempt_that_fails_rolls_back_to_where_it_began() -> None:
    """Each attempt has a way back of its own."""
    agent = reverted_agent()
    agent.tell(agent.offered(three_attempts(), running="by-hand", attempt=2))
    switch(agent)
    fail(agent)

    assert (agent.intent.kind, agent.intent.closure) == (IntentKind.ROLLBACK, "by-hand")


def test_another_attempt_begins_with_no_memory_of_the_failures_of_the_one_before() -> None:
    """A probe that failed for nearly a minute then has a whole minute again."""
    agent = failed_agent(manifest_of(on_health_failure=HALT))
    agent.tell(agent.offered(manifest_of(on_health_failure=HALT), running="new", attempt=2))
    assert StopProbes(R1) in agent.actions
    assert R1 not in agent.state.observed
    assert R1 not in agent.state.checks
    switch(agent)
    agent.fail_probe(seconds=59)
    agent.tell(Tick())

    assert agent.record().state is HostState.SOAKING


def test_an_attempt_that_was_taken_is_not_begun_again() -> None:
    """A dispatch is returned until its acknowledgement is durable at the control plane."""
    agent = reverted_agent()
    offer = agent.offered(three_attempts(), attempt=2)
    agent.tell(offer)

    assert agent.tell(offer) == DispatchTaken()
    assert agent.writes == ()


def test_an_earlier_attempt_was_taken_too() -> None:
    """A control plane that lost its database begins at the first one; the facts of all are sent to it again."""
    agent = reverted_agent()
    agent.tell(agent.offered(three_attempts(), attempt=2))

    assert agent.tell(agent.offered(three_attempts())) == DispatchTaken()
    assert agent.writes == ()


def test_an_attempt_out_of_turn_is_refused() -> None:
    """The refusal names the rollout, and the attempts that were expected and found."""
    reason = refusal_of(reverted_agent(), 3, three_attempts())
    assert reason == "expected attempt 2 of stable@r1, since web-01 has made 1, found attempt 3"


def test_the_first_dispatch_of_a_rollout_is_the_first_attempt() -> None:
    """What came before it is not in this journal, and the control plane's word on it is no evidence."""
    reason = refusal_of(LoneAgent(), 2, three_attempts())
    assert reason == "expected attempt 1 of stable@r1, since web-01 has made none, found attempt 2"


@pytest.mark.parametrize("state", [HostState.ACTIVATING, HostState.SOAKING, HostState.DEFERRED])
def test_another_attempt_is_refused_while_one_is_going_on(state: HostState) -> None:
    """One that has not ended cannot have failed."""
    agent = LoneAgent() if state is not HostState.SOAKING else soaking_agent(three_attempts())
    if state is not HostState.SOAKING:
        agent.tell(agent.offered(three_attempts()))
    if state is HostState.DEFERRED:
        agent.tell(SwitchEnded(agent.intent.intent_id, SwitchDeferred("kernel")))
    reason = refusal_of(agent, 2, three_attempts())
    assert reason == (
        f"expected a dispatch of stable@r1 to a host whose attempt 1 has ended, found web-01 {state.value}"
    )


def test_another_attempt_waits_for_the_rollback() -> None:
    """The machine is between two closures; the dispatch stays queued and is offered again."""
    agent = failed_agent(three_attempts())
    assert agent.tell(agent.offered(three_attempts(), attempt=2)) == DispatchPostponed()


def test_another_attempt_at_a_closed_rollout_is_refused() -> None:
    """It would switch the host back from what replaced it."""
    agent = reverted_agent()
    agent.tell(agent.offered(manifest_of("r2", "newer", signed_at=LATER), closure="newer"))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("newer", 0)))

    assert refusal_of(agent, 2, three_attempts()) == (
        "expected a dispatch of a rollout that is not closed, found stable@r1, which a newer one replaced on web-01"
    )


def test_a_host_that_did_not_roll_back_takes_attempts_without_limit() -> None:
    """Under `halt` an operator orders them one by one, and nothing is brought back."""
    manifest = manifest_of(on_health_failure=HALT)
    agent = failed_agent(manifest)
    for attempt in range(2, 9):
        assert agent.tell(agent.offered(manifest, attempt=attempt)) == DispatchTaken()
        switch(agent)
        fail(agent)


def test_a_switch_that_failed_with_nothing_to_go_back_to_may_be_tried_again() -> None:
    """The target ran before its dispatch, so there was no rollback."""
    agent = LoneAgent()
    agent.tell(agent.offered(running="new"))
    broken = SwitchFailed(SwitchPhase.SWITCH, 1, "no")
    agent.tell(SwitchEnded(agent.intent.intent_id, broken))

    assert agent.tell(agent.offered(running="new", attempt=2)) == DispatchTaken()


def test_a_host_that_drifted_takes_another_attempt_and_goes_to_the_target_again() -> None:
    """Converged, then switched by hand: the attempt brings it home."""
    agent = converged_agent()
    agent.tell(RunningClosureSeen("by-hand"))
    assert agent.tell(agent.offered(running="by-hand", attempt=2)) == DispatchTaken()

    assert agent.intent.closure == "new"
    assert agent.record().current_closure_at_dispatch == "by-hand"


def test_the_policy_of_the_manifest_that_brings_the_attempt_applies() -> None:
    """It may have been signed again, with another word on failures; that is durable."""
    agent = failed_agent(manifest_of(on_health_failure=HALT))
    again = manifest_of(on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT, signed_at=LATER)
    agent.tell(agent.offered(again, attempt=2))
    (put, *_) = [write for write in agent.writes if isinstance(write, PutRecord)]
    assert put.policy == again.value.rollout_policy
    switch(agent)
    fail(agent)

    assert agent.intent.kind is IntentKind.ROLLBACK


def test_a_dispatch_of_another_attempt_is_held_against_the_manifest_like_the_first() -> None:
    """The soak is what was signed, in each attempt."""
    agent = reverted_agent()
    offer = agent.offered(three_attempts(), attempt=2)
    short = evolve(offer.dispatch, soak_due_at=offer.dispatch.enqueued_at)
    assert isinstance(agent.tell(evolve(offer, dispatch=short)), DispatchRefused)


# What a control plane that lies cannot do.


@pytest.mark.parametrize("signed", [1, 2, 3])
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "restarts"])
def test_a_lie_brings_a_closure_back_no_more_often_than_was_signed(
    signed: int, restarts: bool
) -> None:
    """Whatever attempts it dispatches, in whatever order and how often, also after a restart."""
    manifest = manifest_of(attempts=signed)
    agent = reverted_agent(manifest)
    begun = 1
    for attempt in (*LIES, *LIES, *reversed(LIES), 1):
        if restarts:
            agent.restart("old")
        reply = agent.tell(agent.offered(manifest, attempt=attempt))
        if agent.record().state is HostState.ACTIVATING:
            begun += 1
            assert reply == DispatchTaken()
            switch(agent)
            fail(agent)
            come_back(agent)
    assert begun == signed
    acks = [fact.attempt_number for fact in agent.facts if isinstance(fact, DispatchAck)]
    assert acks == list(range(1, signed + 1))


def test_the_refusal_of_one_attempt_too_many_says_what_was_signed_and_what_to_do() -> None:
    """An operator's retry of a host that rolled back is refused too: only a new word of CI brings the closure."""
    reason = refusal_of(reverted_agent(manifest_of()), 2, manifest_of())
    assert reason == (
        "web-01 rolled back from new in stable@r1: expected at most the 1 attempts that its policy signs, found "
        "attempt 2; to try the closure again, sign a new release of it"
    )


def test_a_dispatch_that_was_carried_out_is_not_carried_out_again_when_it_is_replayed() -> None:
    """Not after the rollback that followed it, and not after a restart."""
    agent = reverted_agent()
    second = agent.offered(three_attempts(), attempt=2)
    agent.tell(second)
    switch(agent)
    fail(agent)
    come_back(agent)
    for _ in range(2):
        assert agent.tell(second) == DispatchTaken()
        assert agent.record().state is HostState.REVERTED
        assert not agent.state.intents
        agent.restart("old")


def test_another_release_does_not_lend_its_attempts_to_a_closure_that_was_rolled_back_from() -> (
    None
):
    """A release signed no later than the rollback, with attempts to spare, names the same closure."""
    agent = reverted_agent(manifest_of())
    generous = manifest_of("r2", attempts=99)
    reply = agent.tell(agent.offered(generous))
    assert isinstance(reply, DispatchRefused)
    assert "expected another release signed later" in reply.reason


def test_a_host_that_went_on_under_halt_after_a_rollback_is_still_limited() -> None:
    """The closure was rolled back from in this rollout, whatever the last attempt did."""
    agent = reverted_agent(manifest_of(attempts=2))
    halting = manifest_of(attempts=2, on_health_failure=HALT, signed_at=LATER)
    agent.tell(agent.offered(halting, attempt=2))
    switch(agent)
    fail(agent)

    assert "found attempt 3" in refusal_of(agent, 3, halting)


def test_a_rollback_in_an_earlier_release_does_not_limit_a_later_one() -> None:
    """The release that was signed later brought the closure again, with attempts of its own."""
    agent = reverted_agent(manifest_of())
    later = manifest_of("r2", on_health_failure=HALT, signed_at=LATER)
    agent.tell(agent.offered(later))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchFailed(SwitchPhase.SWITCH, 1, "no")))

    assert agent.tell(agent.offered(later, attempt=2)) == DispatchTaken()


# A record of the control plane, after the journal was lost.


@pytest.mark.parametrize("signed", [2, 3])
def test_a_record_of_a_host_that_rolled_back_is_taken_over_with_its_attempts(signed: int) -> None:
    """The next one is counted from it, and against what is signed."""
    manifest = manifest_of(attempts=signed)
    lost = evolve(reverted_agent(manifest).record(), attempt=2)
    fresh = LoneAgent()
    fresh.now = LATER
    fresh.tell(RecordBootstrapped(lost, manifest))
    reply = fresh.tell(fresh.offered(manifest, attempt=3))

    assert isinstance(reply, DispatchTaken if signed == 3 else DispatchRefused)


def test_a_second_attempt_under_way_is_taken_over_and_carried_out() -> None:
    """As a first one is."""
    lost = reverted_agent()
    lost.tell(lost.offered(three_attempts(), attempt=2))
    fresh = LoneAgent()
    fresh.now = lost.now
    fresh.tell(RecordBootstrapped(lost.record(), three_attempts()))

    assert fresh.intent.kind is IntentKind.SWITCH
    assert fresh.record().attempt == 2


@pytest.mark.parametrize("attempt", [0, -1, 10**6])
def test_a_record_with_more_attempts_than_facts_is_not_taken_over(attempt: int) -> None:
    """Each attempt has an acknowledgement, and a host counts on from its number."""
    fresh = LoneAgent()
    fresh.now = LATER
    made_up = evolve(reverted_agent().record(), attempt=attempt)
    fresh.tell(RecordBootstrapped(made_up, three_attempts()))

    assert fresh.state.rollouts == {}


def test_a_rollout_that_was_set_aside_does_not_begin_to_count_anew() -> None:
    """What a control plane asks for makes a journal forget the record, and not the rollback."""
    fresh = LoneAgent()
    seen = soaking_agent(three_attempts())
    fresh.tell(RecordBootstrapped(seen.record(), three_attempts()))
    fresh.tell(ChecksLoaded(R1, ALIVE))
    fresh.tell(ReplayAsked(ReplayFrom("stable@r1", 1)))
    assert fresh.state.rollouts == {}
    fresh.tell(fresh.offered(three_attempts()))
    switch(fresh)
    fail(fresh)
    come_back(fresh)
    fresh.tell(ReplayAsked(ReplayFrom("stable@r1", 1)))
    for attempt in (1, *LIES):
        fresh.tell(fresh.offered(three_attempts(), attempt=attempt))
        assert fresh.record().attempt <= 3
        if fresh.record().state is HostState.ACTIVATING:
            switch(fresh)
            fail(fresh)
            come_back(fresh)


def test_a_second_attempt_survives_a_restart_in_every_state() -> None:
    """What a journal keeps is enough to go on."""
    agent = reverted_agent()
    agent.tell(agent.offered(three_attempts(), attempt=2))
    agent.restart("old")
    agent.tell(IntentBegun(agent.intent.intent_id))
    agent.restart("old")
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchDeferred("kernel")))
    agent.restart("new")
    assert agent.record().state is HostState.SOAKING
    agent.tell(ChecksLoaded(R1, ALIVE))
    agent.restart("new")
    agent.tell(ChecksLoaded(R1, ALIVE))
    fail(agent)
    agent.restart("new")
    come_back(agent)
    agent.restart("old")

    assert agent.tell(agent.offered(three_attempts(), attempt=3)) == DispatchTaken()
    assert agent.record().attempt == 3
