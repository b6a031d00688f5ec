"""From a dispatch to a switch: what the agent acts on, and what it refuses to."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import (
    EXIT_CODE_OF_AGENT,
    ClosureMismatch,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.messages.inputs import (
    CarryOut,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    IntentBegun,
    IntentKind,
    LoadChecks,
    RollbackEnded,
    RunningClosureSeen,
    StopProbes,
    SwitchEnded,
    SwitchStarted,
    WakeSender,
)
from nixfleet_agent.messages.writes import AppendEvent, PutIntent, PutNewestRelease, PutRecord
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    DispatchAck,
    OnHealthFailure,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import T0, LoneAgent, manifest_of, soaking_agent

DISPATCH = LoneAgent().offered().dispatch


def test_a_dispatch_that_the_manifest_confirms_is_acknowledged_before_the_switch() -> None:
    """The acknowledgement, the record and the intent are written together; the switch comes after."""
    agent = LoneAgent()
    assert agent.tell(agent.offered(running="old")) == DispatchTaken()
    assert agent.facts == [DispatchAck("old", agent.now, seq=1)]
    assert {type(write) for write in agent.writes} == {
        PutRecord,
        PutNewestRelease,
        AppendEvent,
        PutIntent,
    }
    assert agent.intent.kind is IntentKind.SWITCH
    assert agent.intent.closure == "new"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            evolve(DISPATCH, hostname="web-02"),
            "expected a dispatch for web-01, found one for web-02",
        ),
        (evolve(DISPATCH, target_closure="evil"), "gives web-01, found evil in the dispatch"),
        (evolve(DISPATCH, rollout_id="stable@r9"), "expected the manifest of stable@r9"),
    ],
)
def test_a_dispatch_that_differs_from_the_manifest_is_refused(wrong: Dispatch, words: str) -> None:
    """The agent acts on what was signed, and says what was different."""
    agent = LoneAgent()
    reply = agent.tell(evolve(agent.offered(), dispatch=wrong))
    assert isinstance(reply, DispatchRefused)
    assert words in reply.reason
    assert agent.writes == ()
    assert agent.actions == ()


def test_a_dispatch_before_the_signed_time_of_the_wave_is_refused() -> None:
    """All waves at once is what a control plane that was taken over would do; from its time on, it is obeyed."""
    agent = LoneAgent()
    manifest = manifest_of(not_before=(T0 + timedelta(hours=1),))
    reply = agent.tell(agent.offered(manifest))
    assert isinstance(reply, DispatchRefused)
    assert "expected no dispatch before 2026-05-16T02:00:00Z" in reply.reason
    assert agent.facts == []

    agent.step_clock(3600)
    assert agent.tell(agent.offered(manifest)) == DispatchTaken()


@pytest.mark.parametrize(
    ("enqueued_at", "soak_due_at"),
    [("2026-05-16", "2026-05-15"), ("9999-12-31", "0001-01-01"), ("0001-01-01", "9999-12-31")],
)
def test_without_a_signed_soak_a_dispatch_needs_one_that_can_pass(
    enqueued_at: str, soak_due_at: str
) -> None:
    """Manifests of the public project sign none: the times are the control plane's word, and any must be survived."""
    agent = LoneAgent()
    offered = agent.offered(manifest_of(soak_minutes=()))
    began, due = (
        datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (enqueued_at, soak_due_at)
    )
    dispatch = evolve(offered.dispatch, enqueued_at=began, soak_due_at=due)
    reply = agent.tell(evolve(offered, dispatch=dispatch))
    assert isinstance(reply, DispatchRefused)
    assert "expected a soak of 0 to 527040 min" in reply.reason


def test_a_dispatch_for_a_host_that_the_manifest_does_not_name_is_refused() -> None:
    """A manifest without this host gives it no closure."""
    agent = LoneAgent()
    agent.state.hostname = "db-01"
    reply = agent.tell(agent.offered(hostname="db-01"))
    assert isinstance(reply, DispatchRefused)
    assert "gives db-01, found" in reply.reason


def test_the_same_dispatch_again_is_not_acted_on_twice() -> None:
    """A dispatch that comes again before its acknowledgement arrived changes nothing."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    assert agent.tell(agent.offered()) == DispatchTaken()
    assert agent.writes == ()
    assert agent.actions == (WakeSender(),)


def test_a_newer_dispatch_during_a_switch_waits_for_its_end() -> None:
    """A switch in progress finishes before a newer rollout is acknowledged."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    intent = agent.intent
    agent.tell(IntentBegun(intent.intent_id))
    newer = agent.offered(manifest_of("r2", "newer"), closure="newer")
    assert agent.tell(newer) == DispatchPostponed()
    agent.tell(SwitchEnded(intent.intent_id, SwitchCompleted("new", 0)))
    assert agent.tell(newer) == DispatchTaken()


def test_a_newer_dispatch_closes_the_older_rollout() -> None:
    """The older rollout's probes stop, and its failures no longer lead to a rollback."""
    agent = soaking_agent()
    agent.tell(agent.offered(manifest_of("r2", "newer"), closure="newer", running="new"))
    older = agent.state.rollouts[RolloutId("stable@r1")]
    assert older.closed_at == agent.now
    assert StopProbes(older.record.rollout_id) in agent.actions
    assert agent.record("stable@r2").current_closure_at_dispatch == "new"


def test_a_switch_that_starts_and_completes_leads_to_soaking() -> None:
    """The start and the end of a switch are facts, and the new closure's checks are read."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    intent = agent.intent
    agent.tell(SwitchStarted(intent.intent_id, "directory"))
    agent.tell(SwitchEnded(intent.intent_id, SwitchCompleted("new", 0)))
    assert agent.facts[1:] == [
        ActivationStarted(agent.now, "directory", seq=2),
        ActivationCompleted("new", 0, agent.now, seq=3),
    ]
    assert agent.record().state is HostState.SOAKING
    assert LoadChecks(agent.record().rollout_id, "new") in agent.actions


def test_a_resumed_switch_is_not_started_twice() -> None:
    """A switch that is taken up again after a restart is one switch."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    intent = agent.intent
    agent.tell(SwitchStarted(intent.intent_id, "directory"))
    agent.tell(SwitchStarted(intent.intent_id, "directory"))
    assert [type(fact) for fact in agent.facts] == [DispatchAck, ActivationStarted]


def test_the_end_of_an_unknown_switch_changes_nothing() -> None:
    """An outcome that comes a second time is not a second fact."""
    agent = soaking_agent()
    before = list(agent.facts)
    agent.tell(SwitchEnded(1, SwitchCompleted("new", 0)))
    assert agent.facts == before


@pytest.mark.parametrize(
    ("outcome", "exit_code"),
    [
        (SwitchFailed(SwitchPhase.PROFILE_SET, 7, "no space left"), 7),
        (ClosureMismatch("new", "other"), EXIT_CODE_OF_AGENT),
    ],
)
def test_a_failed_switch_rolls_back_when_the_policy_says_so(
    outcome: SwitchFailed | ClosureMismatch, exit_code: int
) -> None:
    """The prior closure, read when the dispatch was acknowledged, is what the agent goes back to."""
    agent = LoneAgent()
    agent.tell(agent.offered(running="old"))
    agent.tell(SwitchEnded(agent.intent.intent_id, outcome))
    assert agent.facts[-1] == ActivationFailed(exit_code, str(outcome), agent.now, seq=2)
    assert agent.intent.kind is IntentKind.ROLLBACK
    assert agent.intent.closure == "old"
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED


def test_a_host_that_ran_the_target_before_stays_failed_and_says_so() -> None:
    """There is nothing to go back to, and what runs is not barred by a revert to itself."""
    agent = LoneAgent()
    agent.tell(agent.offered(running="new"))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchFailed(SwitchPhase.SWITCH, 1, "boom")))

    assert agent.record().state is HostState.FAILED
    assert not [action for action in agent.actions if isinstance(action, CarryOut)]
    (said,) = [action for action in agent.actions if isinstance(action, EmitLog)]
    assert said.message == "failed, and not rolling back, as there is nothing to go back to"
    assert said.fields == (("about", "stable@r1: new ran before its dispatch"),)
    assert not agent.state.rolled_back


def test_a_failed_switch_stays_where_it_is_when_the_policy_says_halt() -> None:
    """With policy halt nothing more is fired."""
    agent = LoneAgent()
    agent.tell(agent.offered(manifest_of(on_health_failure=OnHealthFailure.HALT)))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchFailed(SwitchPhase.SWITCH, 1, "boom")))
    assert agent.record().state is HostState.FAILED
    assert not [action for action in agent.actions if isinstance(action, CarryOut)]


def test_a_deferred_switch_completes_when_the_reboot_brings_its_closure() -> None:
    """The closure that waited for a reboot is seen running: the activation is complete."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchDeferred("systemd")))
    assert agent.facts[-1] == ActivationDeferred("systemd", agent.now, seq=2)
    agent.tell(RunningClosureSeen("old"))
    assert agent.record().state is HostState.DEFERRED
    agent.tell(RunningClosureSeen("new"))
    assert agent.record().state is HostState.SOAKING
