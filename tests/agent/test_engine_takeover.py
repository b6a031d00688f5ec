"""What an agent takes over from its control plane when its journal was lost, and what it does not do on its word."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import (
    RollbackFinished,
    SwitchCompleted,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.messages.inputs import (
    Booted,
    CarryOut,
    ChecksLoaded,
    EventRejected,
    IntentBegun,
    LoadChecks,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    RequestRefused,
    RollbackEnded,
    RunningClosureSeen,
    ShowRefusal,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.messages.writes import MarkRefused, SetRolloutAside
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.agent_event import Converged, ProbeResult, ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventRefused, ReplayFrom
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from tests.agent.lone_agent import ALIVE, T0, LoneAgent, manifest_of, soaking_agent

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
GOOD = ProbeOutcome(ProbeStatus.PASS)
BAD = ProbeOutcome(ProbeStatus.FAIL, "expected status 200, found 503")


def activating_record() -> HostRolloutState:
    lost = LoneAgent()
    lost.tell(lost.offered())
    return lost.record()


RECORD = activating_record()


def replaced_disk(record: HostRolloutState) -> LoneAgent:
    """An agent without a past that was told `record` of stable@r1."""
    fresh = LoneAgent()
    fresh.tell(RecordBootstrapped(record, manifest_of()))
    return fresh


def logged(agent: LoneAgent) -> str:
    return " ".join(str(action) for action in agent.actions if isinstance(action, EmitLog))


def test_a_replaced_disk_continues_from_the_control_planes_record() -> None:
    """The record is taken over, the switch that it says was under way is fired again, the numbers go on."""
    fresh = replaced_disk(activating_record())
    assert fresh.record() == activating_record()
    fresh.tell(SwitchEnded(fresh.intent.intent_id, SwitchCompleted("new", 0)))
    assert fresh.facts[-1].seq == 2


def test_a_replaced_disk_in_a_soak_goes_on_to_converge() -> None:
    """The checks are read again, and the soak ends when it would have ended."""
    lost = soaking_agent()
    fresh = LoneAgent()
    fresh.now = lost.now
    fresh.tell(RecordBootstrapped(lost.record(), manifest_of()))
    assert LoadChecks(R1, "new") in fresh.actions
    fresh.tell(ChecksLoaded(R1, ALIVE))
    fresh.tell(ProbeRan(R1, "alive", GOOD))
    fresh.tell(Tick(), after_seconds=300)
    assert isinstance(fresh.facts[-1], Converged)


def test_a_record_that_knows_less_than_the_journal_changes_nothing() -> None:
    """The journal is never set back."""
    agent = soaking_agent()
    before = agent.record()
    agent.tell(RecordBootstrapped(activating_record(), manifest_of()))
    assert agent.record() == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (evolve(RECORD, target_closure="evil"), "gives web-01, found evil in the record"),
        (evolve(RECORD, hostname="web-02"), "expected a record for web-01, found one for web-02"),
        (evolve(RECORD, rollout_id=R2), "expected the manifest of stable@r2"),
    ],
)
def test_a_record_that_the_signed_manifest_does_not_allow_is_not_taken_over(
    wrong: HostRolloutState, words: str
) -> None:
    """Nothing is switched to, nothing is remembered, and the difference is said."""
    fresh = replaced_disk(wrong)
    assert fresh.writes == ()
    assert words in logged(fresh)
    assert not [action for action in fresh.actions if isinstance(action, CarryOut)]


def test_a_record_of_a_wave_whose_time_is_to_come_is_not_taken_over() -> None:
    """Otherwise a control plane could move a new journal ahead of its wave."""
    manifest = manifest_of(not_before=(T0 + timedelta(days=1),))
    agent = LoneAgent()
    agent.tell(RecordBootstrapped(activating_record(), manifest))
    assert agent.writes == ()
    assert "expected no record before 2026-05-17T01:00:00Z" in logged(agent)


def test_no_rollback_is_fired_to_where_only_the_control_plane_says_the_host_was() -> None:
    """A record that says Failed, with any closure as the prior one, moves no machine."""
    lost = LoneAgent()
    lost.tell(lost.offered())
    lost.tell(SwitchEnded(lost.intent.intent_id, SwitchFailed(SwitchPhase.SWITCH, 1, "")))
    forged = evolve(lost.record(), current_closure_at_dispatch="evil")
    fresh = replaced_disk(forged)
    assert not [action for action in fresh.actions if isinstance(action, CarryOut)]


def test_a_failure_after_a_take_over_rolls_nothing_back_and_says_so() -> None:
    """The host is Failed, and stays where it is: where it was before, nobody here knows."""
    fresh = replaced_disk(activating_record())
    fresh.tell(SwitchEnded(fresh.intent.intent_id, SwitchFailed(SwitchPhase.SWITCH, 1, "")))
    assert fresh.record().state is HostState.FAILED
    assert not [action for action in fresh.actions if isinstance(action, CarryOut)]
    assert "stable@r1 to old" in logged(fresh)


def test_a_rollback_that_is_refused_is_shown_until_its_rollout_is_superseded() -> None:
    """At once, again after a restart, and no longer than the rollout is the host's."""
    fresh = replaced_disk(activating_record())
    fresh.tell(SwitchEnded(fresh.intent.intent_id, SwitchFailed(SwitchPhase.SWITCH, 1, "")))
    (shown,) = refusals_shown(fresh)
    assert shown.reason is not None
    assert "not rolling back to old: the journal was lost" in shown.reason
    fresh.tell(Booted("old"))
    assert refusals_shown(fresh) == [shown]
    fresh.tell(fresh.offered(manifest_of("r2", signed_at=fresh.now)), after_seconds=1)
    assert refusals_shown(fresh) == [ShowRefusal(shown.rollout_id, None)]


def refusals_shown(agent: LoneAgent) -> list[ShowRefusal]:
    return [action for action in agent.actions if isinstance(action, ShowRefusal)]


def test_a_request_of_the_control_plane_that_is_refused_is_answered_with_the_reason() -> None:
    """A record that is not taken over, each time that it comes, and a replay that the journal cannot have."""
    agent = soaking_agent()
    ahead = evolve(agent.record(), last_event_seq=agent.record().last_event_seq + 5)
    for _ in range(2):
        reply = agent.tell(RecordBootstrapped(ahead, manifest_of()))
        assert isinstance(reply, RequestRefused)
        assert "as in the journal, found a record of" in reply.reason
    reply = agent.tell(ReplayAsked(ReplayFrom("stable@r1", 99)))
    assert reply == RequestRefused(
        "stable@r1",
        "asked to send again what the journal cannot have: stable@r1: expected a number from 1 to "
        f"{agent.record().last_event_seq}, found 99",
    )


def later_record() -> HostRolloutState:
    """The record of stable@r2, dispatched a minute after stable@r1."""
    later = LoneAgent()
    later.now += timedelta(minutes=1)
    later.tell(later.offered(manifest_of("r2", "newer"), closure="newer"))
    return later.record("stable@r2")


def test_an_answer_that_arrives_after_a_newer_dispatch_is_not_taken_over() -> None:
    """It was on its way when the host went on to a newer rollout, and does not switch it back."""
    agent = LoneAgent()
    agent.now += timedelta(minutes=1)
    agent.tell(agent.offered(manifest_of("r2", "newer"), closure="newer"))
    agent.tell(RecordBootstrapped(activating_record(), manifest_of()))
    assert R1 not in agent.state.rollouts
    assert agent.state.rollouts[R2].closed_at is None
    assert "the control plane's record is not taken over" in logged(agent)


def test_an_older_rollout_is_taken_over_as_closed() -> None:
    """Of several records in one answer the newest is open, whatever their order."""
    fresh = LoneAgent()
    fresh.tell(RecordBootstrapped(later_record(), manifest_of("r2", "newer")))
    fresh.tell(RecordBootstrapped(RECORD, manifest_of()))
    assert fresh.state.rollouts[R1].closed_at == fresh.now
    assert fresh.state.rollouts[R2].closed_at is None
    assert fresh.actions == ()


def test_a_newer_rollout_that_is_taken_over_closes_the_older_one() -> None:
    """Of several records in one answer the newest is open, whatever their order."""
    agent = replaced_disk(soaking_agent().record())
    agent.tell(RecordBootstrapped(later_record(), manifest_of("r2", "newer")))
    assert agent.state.rollouts[R1].closed_at == agent.now
    assert agent.intent.closure == "newer"


def test_a_history_that_is_lost_on_both_sides_is_begun_anew() -> None:
    """The rollout's facts are set aside, and its next dispatch starts at 1."""
    fresh = replaced_disk(soaking_agent().record())
    fresh.tell(ReplayAsked(ReplayFrom(R1, 1)))
    assert fresh.writes == (SetRolloutAside(R1, fresh.now),)
    assert "both sides have lost its first facts" in logged(fresh)
    fresh.tell(fresh.offered(running="new"))
    assert fresh.facts[-1].seq == 1


def test_what_was_lived_here_after_a_take_over_is_replayed() -> None:
    """From the first fact that this journal has, it can be told."""
    lost = soaking_agent()
    fresh = replaced_disk(lost.record())
    own = lost.record().last_event_seq + 1
    fresh.tell(ReplayAsked(ReplayFrom(R1, own)))
    assert R1 in fresh.state.rollouts


def test_a_history_that_is_lost_on_both_sides_waits_for_the_switch_under_way() -> None:
    """An act is never without a rollout to report to."""
    fresh = replaced_disk(activating_record())
    intent = fresh.intent
    fresh.tell(IntentBegun(intent.intent_id))
    fresh.tell(ReplayAsked(ReplayFrom(R1, 1)))
    assert R1 in fresh.state.rollouts
    fresh.tell(SwitchEnded(intent.intent_id, SwitchCompleted("new", 0)))
    fresh.tell(ReplayAsked(ReplayFrom(R1, 1)))
    assert R1 not in fresh.state.rollouts


def test_an_outcome_for_a_rollout_that_is_gone_changes_nothing() -> None:
    """It comes too late, and that is not a fault."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    intent = agent.intent
    agent.state.rollouts.discard(R1)
    agent.tell(RollbackEnded(intent.intent_id, RollbackFinished("old", 0)))
    assert agent.facts[1:] == []


def test_a_clock_that_is_set_back_delays_a_sustained_failure_by_the_threshold_at_most() -> None:
    """A run of failures that began at a time yet to come is counted anew from now, not until that time comes."""
    agent = soaking_agent()
    agent.tell(ProbeRan(R1, "alive", BAD), after_seconds=3600)
    agent.step_clock(-3600)
    agent.fail_probe(seconds=59)
    agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING
    agent.tell(ProbeRan(R1, "alive", BAD), after_seconds=1)
    agent.tell(Tick())
    assert agent.record().state is HostState.FAILED


def test_a_pass_after_the_clock_was_set_back_begins_the_count_anew() -> None:
    """Flapping is not sustained failure, whatever the clock does."""
    agent = soaking_agent()
    agent.tell(ProbeRan(R1, "alive", BAD))
    agent.step_clock(-600)
    agent.tell(ProbeRan(R1, "alive", BAD))
    agent.tell(ProbeRan(R1, "alive", GOOD), after_seconds=30)
    agent.step_clock(30)
    agent.fail_probe(seconds=59)
    agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING
    agent.tell(ProbeRan(R1, "alive", BAD), after_seconds=1)
    agent.tell(Tick())
    assert agent.record().state is HostState.FAILED


def test_a_convergence_that_was_refused_is_soaked_for_again() -> None:
    """A whole window later the host converges once more, under the next number."""
    agent = soaking_agent()
    agent.tell(ProbeRan(R1, "alive", GOOD))
    agent.tell(Tick(), after_seconds=300)
    refused = agent.facts[-1]
    assert isinstance(refused, Converged)
    agent.tell(EventRejected(7, EventRefused(R1, refused.seq, "soak-elapsed")))
    assert agent.record().state is HostState.SOAKING
    assert agent.writes[0] == MarkRefused(7, "soak-elapsed")
    assert LoadChecks(R1, "new") in agent.actions
    agent.tell(Tick(), after_seconds=299)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=1)
    assert agent.facts[-1] == Converged(agent.now, "new", refused.seq + 1)


def test_another_fact_that_was_refused_changes_nothing_but_its_row() -> None:
    """It is marked, and the rollout goes on as it lived it."""
    agent = soaking_agent()
    before = agent.record()
    agent.tell(EventRejected(3, EventRefused(R1, 1, "a rule")))
    assert agent.record() == before
    assert agent.writes == (MarkRefused(3, "a rule"),)


def test_a_host_that_runs_something_else_does_not_converge() -> None:
    """What the probes say is about another closure then: it is reported, and fails the host if it lasts."""
    agent = soaking_agent()
    agent.tell(ProbeRan(R1, "alive", GOOD))
    agent.tell(RunningClosureSeen("by-hand"), after_seconds=300)
    assert [type(fact).__name__ for fact in agent.facts[-3:]] == [
        "ProbeObservedFirst",
        "ProbeFailureFirst",
        "ProbeResult",
    ]
    agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=60)
    assert agent.record().state is HostState.FAILED
    assert agent.intent.closure == "old"


def test_a_host_that_runs_its_closure_again_converges() -> None:
    """A moment on another closure is over when it is over."""
    agent = soaking_agent()
    agent.tell(ProbeRan(R1, "alive", GOOD))
    agent.tell(RunningClosureSeen("by-hand"))
    agent.tell(RunningClosureSeen("by-hand"), after_seconds=5)
    agent.tell(RunningClosureSeen("new"), after_seconds=5)
    agent.tell(RunningClosureSeen("new"), after_seconds=5)
    assert [fact.status for fact in agent.facts if isinstance(fact, ProbeResult)] == [
        ProbeStatus.PASS,
        ProbeStatus.FAIL,
        ProbeStatus.PASS,
    ]
    agent.tell(Tick(), after_seconds=300)
    assert agent.record().state is HostState.CONVERGED


def test_a_record_of_a_soak_that_is_not_what_runs_does_not_converge() -> None:
    """The disk was replaced after the host had gone back: what the control plane remembers is no longer so."""
    agent = soaking_agent()
    agent.tell(ProbeRan(R1, "alive", GOOD))
    fresh = LoneAgent()
    fresh.tell(Booted("old"), after_seconds=3600)
    fresh.tell(RecordBootstrapped(agent.record(), manifest_of()))
    fresh.tell(ChecksLoaded(R1, ALIVE))
    fresh.tell(ProbeRan(R1, "alive", GOOD))
    fresh.tell(Tick())
    assert fresh.record().state is HostState.SOAKING
