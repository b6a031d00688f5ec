"""A switch that waits for its closure: what ends the waiting, and what it never is: a failed activation."""

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.state import State
from nixfleet_agent.messages.inputs import (
    Booted,
    CarryOut,
    ClosureAwaited,
    DispatchPostponed,
    DispatchTaken,
    Intent,
    IntentBegun,
    IntentWithdrawn,
    MayBegin,
    RollbackEnded,
    SwitchEnded,
    Tick,
    WithdrawIntent,
)
from nixfleet_agent.messages.writes import RemoveIntent
from nixfleet_proto.agent_event import ActivationFailed, DispatchAck
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import LoneAgent, manifest_of

DAY_SECONDS = 24 * 3600.0
TEN_MINUTES = Deadline(10, AtDeadline.FAIL)
MISSING = "waits for closure new: expected the directory of the closure, found nothing"


def waiting_agent(deadline: Deadline | None = None) -> tuple[LoneAgent, Intent]:
    """An agent that acknowledged a dispatch and looked for its closure in vain. deadline: for the activation."""
    agent = LoneAgent()
    agent.tell(agent.offered(manifest_of(deadlines=Deadlines(activation=deadline))))
    intent = agent.intent
    agent.tell(ClosureAwaited(intent.intent_id, MISSING))
    return agent, intent


def withdrawn_by(agent: LoneAgent) -> list[Intent]:
    """The intents that the last input withdrew."""
    return [each.intent for each in agent.actions if isinstance(each, WithdrawIntent)]


def test_a_closure_that_is_not_here_is_waited_for_without_end() -> None:
    """Without a deadline the host stays Activating, and nothing is reported but its acknowledgement."""
    agent, _ = waiting_agent()
    agent.tell(Tick(), after_seconds=DAY_SECONDS)

    assert [type(fact) for fact in agent.facts] == [DispatchAck]
    assert agent.record().state is HostState.ACTIVATING


def test_a_closure_that_comes_late_is_switched_to() -> None:
    """The waiting leaves no trace in the record."""
    agent, intent = waiting_agent()
    assert agent.tell(IntentBegun(intent.intent_id), after_seconds=DAY_SECONDS) == MayBegin(None)
    agent.tell(SwitchEnded(intent.intent_id, SwitchCompleted("new", 0)))

    assert agent.record().state is HostState.SOAKING


def test_a_newer_release_ends_the_waiting() -> None:
    """The older rollout is closed, its switch is withdrawn, and the newer one is acknowledged."""
    agent, intent = waiting_agent()
    newer = agent.offered(manifest_of("r2", "newer"), closure="newer")
    assert agent.tell(newer) == DispatchTaken()

    assert withdrawn_by(agent) == [intent]
    assert RemoveIntent(intent.intent_id) in agent.writes
    assert agent.intent.closure == "newer"
    assert isinstance(agent.facts[-1], DispatchAck)
    assert agent.tell(IntentBegun(intent.intent_id)) == IntentWithdrawn()


def test_a_newer_release_ends_a_switch_that_was_not_looked_for_yet() -> None:
    """A download that takes hours does not hold up the release that makes it pointless."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    newer = agent.offered(manifest_of("r2", "newer"), closure="newer")

    assert agent.tell(newer) == DispatchTaken()


def test_a_newer_release_waits_for_a_switch_under_way() -> None:
    """Once it has begun, a switch is seen to its end: the machine may be between two closures."""
    agent, intent = waiting_agent()
    agent.tell(IntentBegun(intent.intent_id))
    newer = agent.offered(manifest_of("r2", "newer"), closure="newer")

    assert agent.tell(newer) == DispatchPostponed()
    assert withdrawn_by(agent) == []


def test_a_newer_release_ends_the_waiting_of_a_switch_that_had_begun_before_a_restart() -> None:
    """Its closure was removed meanwhile: waiting for it without end would hold up every later release."""
    agent, intent = waiting_agent()
    agent.tell(IntentBegun(intent.intent_id))
    agent.tell(ClosureAwaited(intent.intent_id, MISSING))
    newer = agent.offered(manifest_of("r2", "newer"), closure="newer")

    assert agent.tell(newer) == DispatchTaken()
    assert [each.intent_id for each in withdrawn_by(agent)] == [intent.intent_id]


def test_a_restart_goes_on_waiting_and_counts_no_attempt() -> None:
    """However often the agent starts while the closure is missing, the switch may still begin."""
    agent, intent = waiting_agent()
    for _ in range(10):
        before, agent.state = agent.state, State("web-01")
        for rollout_id, rollout in before.rollouts.items():
            agent.state.rollouts.set(rollout_id, rollout)
        for intent_id, kept in before.intents.items():
            agent.state.intents.set(intent_id, kept)
        agent.engine = AgentEngine(agent.state)
        agent.tell(Booted("old"))
        assert agent.intent == intent
        agent.tell(ClosureAwaited(intent.intent_id, MISSING))

    assert agent.tell(IntentBegun(intent.intent_id)) == MayBegin(None)


def test_a_closure_that_has_not_come_by_the_deadline_is_a_failed_activation() -> None:
    """The reason says what was waited for; then the policy applies as ever, and the worker stops."""
    agent, intent = waiting_agent(TEN_MINUTES)
    agent.tell(Tick(), after_seconds=599)
    assert agent.record().state is HostState.ACTIVATING
    agent.tell(Tick(), after_seconds=1)

    failed = agent.facts[-1]
    assert isinstance(failed, ActivationFailed)
    assert failed.stderr_tail == (
        f"failed at realise: exit status 125: the closure did not come within 10 min: {MISSING}"
    )
    assert withdrawn_by(agent) == [intent]
    assert agent.tell(IntentBegun(intent.intent_id)) == IntentWithdrawn()


def test_a_switch_that_has_begun_is_not_ended_by_that_deadline() -> None:
    """The machine may be between two closures: the switch was begun with what was left as its limit."""
    agent, intent = waiting_agent(TEN_MINUTES)
    agent.tell(IntentBegun(intent.intent_id))
    agent.tell(Tick(), after_seconds=DAY_SECONDS)

    assert agent.record().state is HostState.ACTIVATING


def test_a_rollback_is_never_withdrawn() -> None:
    """A host on its way back finishes it before anything newer begins."""
    agent, _ = waiting_agent(TEN_MINUTES)
    agent.tell(Tick(), after_seconds=600)
    rollback = next(each.intent for each in agent.actions if isinstance(each, CarryOut))
    newer = agent.offered(manifest_of("r2", "newer"), closure="newer")
    assert agent.tell(newer) == DispatchPostponed()
    agent.tell(RollbackEnded(rollback.intent_id, RollbackFinished("old", 0)))

    assert agent.record(RolloutId("stable@r1")).state is HostState.REVERTED


def test_an_unknown_intent_is_not_awaited() -> None:
    """What a worker reports after the intent was withdrawn changes nothing."""
    agent = LoneAgent()
    agent.tell(ClosureAwaited(7, MISSING))

    assert not agent.state.awaited
