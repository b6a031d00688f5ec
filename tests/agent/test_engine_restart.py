"""What an agent takes up again after a start, and what it learns from its control plane."""

from datetime import timedelta

from nixfleet_agent.activation.activator import (
    EXIT_CODE_OF_AGENT,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    Booted,
    CarryOut,
    IntentBegun,
    IntentKind,
    KeepManifestsOf,
    LoadChecks,
    MayBegin,
    ReplayAsked,
    RolloutDisowned,
    StopProbes,
    SwitchEnded,
    Tick,
    WakeSender,
)
from nixfleet_agent.messages.writes import MarkUnsent, RemoveRollout
from nixfleet_proto.agent_event import ActivationFailed, RollbackComplete
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import ReplayFrom
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import LoneAgent, manifest_of, soaking_agent

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
HOUR = 3600.0


def superseded_agent() -> LoneAgent:
    """An agent whose host left r1 for r2 just now."""
    agent = soaking_agent()
    agent.tell(agent.offered(manifest_of("r2", "newer"), closure="newer"))
    return agent


def test_a_start_takes_up_the_switch_that_was_decided() -> None:
    """An intent that is in the journal is carried out again."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    intent = agent.intent
    restarted = LoneAgent(agent.state)
    restarted.tell(Booted("old"))
    assert CarryOut(intent) in restarted.actions
    restarted.tell(SwitchEnded(intent.intent_id, SwitchCompleted("new", 0)))
    assert restarted.record().state is HostState.SOAKING


def restarted_while_it_acts(agent: LoneAgent, intent_id: int) -> LoneAgent:
    """The agent's next process, after one that began the intent and did not see its end."""
    assert agent.tell(IntentBegun(intent_id)) == MayBegin(None)
    agent.state.begun.discard(intent_id)
    restarted = LoneAgent(agent.state)
    restarted.tell(Booted("old"))
    return restarted


def test_a_switch_that_ends_every_process_that_begins_it_has_failed() -> None:
    """After three attempts the host is Failed, with a reason that says so, and rolls back."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    switch = agent.intent
    for _ in range(3):
        agent = restarted_while_it_acts(agent, switch.intent_id)
    assert agent.tell(IntentBegun(switch.intent_id)) == AttemptsUsedUp()
    (failed,) = agent.facts
    assert isinstance(failed, ActivationFailed)
    assert "was begun 3 times" in failed.stderr_tail
    assert agent.record().state is HostState.FAILED
    assert agent.intent.kind is IntentKind.ROLLBACK


def test_a_rollback_that_ends_every_process_that_begins_it_has_failed() -> None:
    """The host stays Failed: what runs is the closure that it could not leave, or a part of it."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    failure = SwitchFailed(SwitchPhase.SWITCH, 1, "no")
    agent.tell(SwitchEnded(agent.intent.intent_id, failure))
    rollback = agent.intent
    for _ in range(3):
        agent = restarted_while_it_acts(agent, rollback.intent_id)
    assert agent.tell(IntentBegun(rollback.intent_id)) == AttemptsUsedUp()
    (undone,) = agent.facts
    assert isinstance(undone, RollbackComplete)
    assert undone.exit_code == EXIT_CODE_OF_AGENT
    assert agent.record().state is HostState.FAILED
    assert not agent.state.intents


def test_an_act_that_one_process_tries_again_is_one_attempt() -> None:
    """A machine that cannot be read for an hour has not been restarted."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    switch = agent.intent
    replies = {agent.tell(IntentBegun(switch.intent_id)) for _ in range(10)}
    assert replies == {MayBegin(None)}
    assert agent.state.intents[switch.intent_id].attempts == 1


def test_a_start_while_soaking_begins_the_probes_from_scratch() -> None:
    """The checks are read out of the closure again."""
    restarted = LoneAgent(soaking_agent().state)
    restarted.tell(Booted("new"))
    assert restarted.actions[:2] == (StopProbes(R1), LoadChecks(R1, "new"))


def test_a_start_after_the_reboot_completes_a_deferred_switch() -> None:
    """An agent that finds the awaited closure running at its start says so at once."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchDeferred("kernel")))
    restarted = LoneAgent(agent.state)
    restarted.tell(Booted("new"))
    assert restarted.record().state is HostState.SOAKING


def test_a_replay_marks_the_rows_unsent_and_wakes_the_sender() -> None:
    """A control plane that lost its database hears the history again."""
    agent = soaking_agent()
    agent.tell(ReplayAsked(ReplayFrom("stable@r1", 1)))
    assert agent.writes == (MarkUnsent(R1, 1),)
    assert agent.actions == (WakeSender(),)


def test_a_replay_of_an_unknown_rollout_is_ignored() -> None:
    """There is nothing to send for a rollout that this host was never in."""
    agent = soaking_agent()
    agent.tell(ReplayAsked(ReplayFrom("stable@r9", 1)))
    assert agent.writes == ()


def test_a_closed_rollout_is_forgotten_after_its_retention() -> None:
    """The journal keeps a superseded rollout for as long as somebody might ask, and no longer."""
    agent = superseded_agent()
    agent.tell(Tick(), after_seconds=HOUR * 71)
    assert R1 in agent.state.rollouts
    agent.tell(Tick(), after_seconds=HOUR)
    assert R1 not in agent.state.rollouts
    assert RemoveRollout(R1) in agent.writes
    assert agent.actions == (KeepManifestsOf((R2,)),)


def test_a_closed_rollout_with_facts_that_wait_outlives_its_retention() -> None:
    """What the control plane has not acknowledged is never dropped because time passed."""
    agent = superseded_agent()
    agent.tell(Tick(frozenset({R1})), after_seconds=HOUR * 1000)
    assert R1 in agent.state.rollouts
    agent.tell(Tick(frozenset({R2})))
    assert R1 not in agent.state.rollouts


def test_facts_that_the_control_plane_disowns_go_after_thirty_days() -> None:
    """A control plane that pruned the rollout never acknowledges it; until then an honest one may still ask for it."""
    agent = superseded_agent()
    agent.unsent = frozenset({R1})
    agent.tell(RolloutDisowned(R1), after_seconds=HOUR * (30 * 24 - 1))
    assert R1 in agent.state.rollouts
    agent.tell(RolloutDisowned(R1), after_seconds=HOUR)
    assert agent.writes == (RemoveRollout(R1),)
    assert isinstance(agent.actions[0], EmitLog)


def test_an_open_rollout_that_is_not_known_elsewhere_stays() -> None:
    """However long the control plane takes to learn of it."""
    agent = soaking_agent()
    agent.tell(RolloutDisowned(R1), after_seconds=HOUR * 1000)
    assert R1 in agent.state.rollouts


def test_an_input_that_is_taken_back_leaves_no_trace() -> None:
    """What could not be made durable did not happen, and its number is used again."""
    agent = soaking_agent()
    before = agent.record()
    agent.engine.handle(Tick(), agent.now + timedelta(hours=1))
    agent.engine.handle(ReplayAsked(ReplayFrom("stable@r1", 1)), agent.now)
    agent.engine.roll_back()
    assert agent.record() == before
