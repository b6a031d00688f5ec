"""A host goes back by an operator's warrant, to what it noted itself; each thing that is wrong with one is told."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import (
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
)
from nixfleet_agent.engine.state import ObeyedOrder
from nixfleet_agent.messages.inputs import (
    Booted,
    ChecksLoaded,
    ClosureAwaited,
    DispatchOffered,
    DispatchRefused,
    IntentBegun,
    IntentKind,
    ProbeRan,
    Reply,
    RollbackEnded,
    RunningClosureSeen,
    SwitchEnded,
    Tick,
    WarrantObeyed,
    WarrantOffered,
    WarrantRefused,
    WithdrawIntent,
)
from nixfleet_agent.messages.writes import PutOrder
from nixfleet_agent.probes.runner import PASSED
from nixfleet_proto.agent_event import OnHealthFailure, Recalled
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant, verify_warrant
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, KEY, SOAK_MINUTES, T0, LoneAgent, manifest_of

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
ADA = SigningKey.generate()
TRUST = TrustRoot(
    KeySlot(KEY.public_key), operators=(Operator("ada", ADA.public_key, OperatorRole.OPERATE),)
)
RECALL = Warrant(
    "order-1", R1, ClosureRule.PRIOR, "ada", "it eats disks", T0, T0 + timedelta(hours=2)
)
GRANTED = manifest_of(recall=Recall.OPERATOR)


def offer(warrant: Warrant = RECALL) -> WarrantOffered:
    return WarrantOffered(verify_warrant(sign_warrant(warrant, ADA), TRUST, T0))


def activating() -> LoneAgent:
    agent = LoneAgent()
    agent.tell(agent.offered(GRANTED))
    return agent


def deferred() -> LoneAgent:
    agent = activating()
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchDeferred("kernel")))
    return agent


def soaking() -> LoneAgent:
    agent = activating()
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, ALIVE))
    return agent


def converged() -> LoneAgent:
    agent = soaking()
    agent.tell(ProbeRan(R1, "alive", PASSED))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60)
    return agent


IN_EACH_STATE: dict[HostState, Callable[[], LoneAgent]] = {
    HostState.ACTIVATING: activating,
    HostState.DEFERRED: deferred,
    HostState.SOAKING: soaking,
    HostState.CONVERGED: converged,
}


@pytest.mark.parametrize("state", IN_EACH_STATE)
def test_a_recalled_host_goes_back_to_what_it_noted_at_its_dispatch(state: HostState) -> None:
    """From every state in which it took the release; the order, the fact and the intent are one commit."""
    agent = IN_EACH_STATE[state]()
    assert agent.record().state is state

    assert agent.tell(offer()) == WarrantObeyed()

    fact = agent.facts[-1]
    assert fact == Recalled("order-1", agent.now, fact.seq)
    assert PutOrder("order-1", R1, agent.now) in agent.writes
    (rollback,) = (it for it in agent.state.intents.values() if it.kind is IntentKind.ROLLBACK)
    assert rollback.closure == "old"
    agent.tell(RollbackEnded(rollback.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED


def test_a_recall_under_halt_goes_back_too() -> None:
    """What follows a failure is one thing, what an operator orders within the grant another."""
    agent = LoneAgent()
    agent.tell(
        agent.offered(manifest_of(recall=Recall.OPERATOR, on_health_failure=OnHealthFailure.HALT))
    )
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))

    assert agent.tell(offer()) == WarrantObeyed()
    assert agent.intent.kind is IntentKind.ROLLBACK


def test_a_switch_that_waits_for_its_closure_is_withdrawn_by_a_recall() -> None:
    """Nothing was switched, and nothing is."""
    agent = activating()
    switch = agent.intent
    agent.tell(offer())

    assert WithdrawIntent(switch) in agent.actions
    assert switch.intent_id not in agent.state.intents


def test_a_switch_that_is_under_way_ends_before_its_host_goes_back() -> None:
    """A machine is not stopped between two closures; what the switch reports then changes nothing."""
    agent = activating()
    switch = agent.intent
    agent.tell(IntentBegun(switch.intent_id))
    agent.tell(offer())
    assert [it.kind for it in agent.state.intents.values()] == [
        IntentKind.SWITCH,
        IntentKind.ROLLBACK,
    ]
    agent.tell(SwitchEnded(switch.intent_id, SwitchCompleted("new", 0)))

    assert agent.record().state is HostState.FAILED


def test_an_order_that_is_relayed_again_moves_nothing() -> None:
    """It is relayed until its fact is known: the host answers as before."""
    agent = converged()
    agent.tell(offer())
    facts = len(agent.facts)

    assert agent.tell(offer()) == WarrantObeyed()
    assert (agent.writes, agent.actions, len(agent.facts)) == ((), (), facts)


def test_a_recall_survives_a_restart_of_the_agent() -> None:
    """The intent is carried out by the next process, and the order is known to it."""
    agent = converged()
    agent.tell(offer())
    agent.restart("new")
    (rollback,) = agent.state.intents.values()
    assert rollback.kind is IntentKind.ROLLBACK

    assert agent.tell(offer()) == WarrantObeyed()


def _replayed() -> tuple[LoneAgent, WarrantOffered]:
    """Return a host that runs the release, whose journal knows the order all the same."""
    agent = converged()
    agent.state.orders.set("order-1", ObeyedOrder(R1))
    return agent, offer()


def _recalled() -> LoneAgent:
    agent = LoneAgent()
    manifest = manifest_of(recall=Recall.OPERATOR, attempts=2)
    agent.tell(agent.offered(manifest))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(offer())
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("old", 0)))
    return agent


def _of_other_hosts() -> tuple[LoneAgent, WarrantOffered]:
    return converged(), offer(evolve(RECALL, hosts=("web-02", "web-03")))


def _of_another_rollout() -> tuple[LoneAgent, WarrantOffered]:
    return converged(), offer(evolve(RECALL, rollout_id=R2))


def _of_a_rollout_that_was_superseded() -> tuple[LoneAgent, WarrantOffered]:
    agent = converged()
    agent.tell(agent.offered(manifest_of("r2", "newer"), closure="newer", running="new"))
    return agent, offer()


def _not_granted() -> tuple[LoneAgent, WarrantOffered]:
    agent = LoneAgent()
    agent.tell(agent.offered(manifest_of()))
    return agent, offer()


def _after_a_lost_journal() -> tuple[LoneAgent, WarrantOffered]:
    agent = converged()
    known = agent.state.rollouts[R1]
    agent.state.rollouts.set(R1, evolve(known, taken_over_seq=3))
    return agent, offer()


def _with_nothing_to_go_back_to() -> tuple[LoneAgent, WarrantOffered]:
    agent = LoneAgent()
    agent.tell(agent.offered(GRANTED, running="new"))
    return agent, offer()


def _that_failed() -> tuple[LoneAgent, WarrantOffered]:
    agent = soaking()
    agent.fail_probe(seconds=60)
    agent.tell(Tick())
    return agent, offer()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (_replayed, "was obeyed before, and an order is good once"),
        (_of_other_hosts, "is for 2 other hosts, not for web-01"),
        (_of_another_rollout, "found stable@r2, which it was never dispatched"),
        (_of_a_rollout_that_was_superseded, "a newer rollout took over from stable@r1"),
        (_not_granted, 'the signed policy says recall = "never"'),
        (_after_a_lost_journal, "the journal was lost"),
        (_with_nothing_to_go_back_to, "new ran before its dispatch"),
        (_that_failed, "expected a host that took the release, found it Failed"),
    ],
)
def test_a_warrant_that_does_not_apply_is_refused_with_the_reason(
    case: Callable[[], tuple[LoneAgent, WarrantOffered]], reason: str
) -> None:
    """Nothing is half done: no write, no action, and the reason is one line."""
    agent, offered = case()
    reply: Reply = agent.tell(offered)

    assert isinstance(reply, WarrantRefused)
    assert reason in reply.reason
    assert (agent.writes, agent.actions) == ((), ())


def test_a_host_that_was_recalled_does_not_take_the_closure_again_from_the_same_release() -> None:
    """It rolled back from it: only a release signed later brings it."""
    agent = converged()
    agent.tell(offer())
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("old", 0)))
    again: DispatchOffered = agent.offered(manifest_of("r2", signed_at=T0))

    assert "rolled back" in str(agent.tell(again))


def test_a_boot_into_a_deferred_switch_after_a_recall_changes_nothing() -> None:
    """The machine may boot what was set before the profile went back; the rollback sees to it."""
    agent = deferred()
    agent.tell(offer())
    agent.tell(RunningClosureSeen("new"))
    agent.tell(Booted("new"))

    assert agent.record().state is HostState.FAILED


def test_a_recall_whose_commit_fails_changes_nothing_and_is_obeyed_when_it_comes_again() -> None:
    """The order, the fact and the intent are durable together, or not at all."""
    agent = converged()
    before = agent.record()
    agent.engine.handle(offer(), agent.now)
    agent.engine.roll_back()
    assert (agent.record(), "order-1" in agent.state.orders) == (before, False)
    assert not agent.state.intents

    assert agent.tell(offer()) == WarrantObeyed()
    assert agent.intent.kind is IntentKind.ROLLBACK


def test_a_host_that_was_recalled_takes_no_further_attempt_of_the_release() -> None:
    """Only a release that is signed later brings the closure again, whatever attempts the policy signs."""
    agent = _recalled()
    manifest = manifest_of(recall=Recall.OPERATOR, attempts=2)

    answer = agent.tell(agent.offered(manifest, attempt=2))

    assert isinstance(answer, DispatchRefused)
    assert "was recalled here by an order" in answer.reason
    assert agent.record().state is HostState.REVERTED


def test_a_switch_that_a_recall_takes_back_is_not_begun_again_after_a_restart() -> None:
    """The rollback alone is carried out; the switch would bring the recalled closure, or wait for it for ever."""
    agent = activating()
    switch = agent.intent
    agent.tell(IntentBegun(switch.intent_id))
    agent.tell(offer())

    agent.restart("old")

    assert [each.kind for each in agent.state.intents.values()] == [IntentKind.ROLLBACK]
    assert agent.intent.kind is IntentKind.ROLLBACK


def test_a_switch_that_a_recall_takes_back_is_withdrawn_when_its_closure_is_not_here() -> None:
    """Whoever waits for the closure would keep the rollback waiting."""
    agent = activating()
    switch = agent.intent
    agent.tell(IntentBegun(switch.intent_id))
    agent.tell(offer())

    agent.tell(ClosureAwaited(switch.intent_id, "the cache is away"))

    assert [each.kind for each in agent.state.intents.values()] == [IntentKind.ROLLBACK]
    withdrawn = [each.intent for each in agent.actions if isinstance(each, WithdrawIntent)]
    assert [each.intent_id for each in withdrawn] == [switch.intent_id]
