"""What the agent says of its lock when something else happens meanwhile: an order, a restart, an older release."""

from datetime import timedelta

from attrs import evolve

from nixfleet_agent.activation.activator import SwitchCompleted
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.locks import ASK_AGAIN_DEFAULT, POSTPONED_MIN, lock_answer
from nixfleet_agent.locks.lock import LockOutcome
from nixfleet_agent.messages.inputs import (
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    LockAnswered,
    SwitchEnded,
    Tick,
    WarrantObeyed,
)
from nixfleet_proto.agent_event import DispatchAck, Postponed
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import T0, LoneAgent, manifest_of
from tests.locks.test_agent_locks import (
    NO,
    OVERRIDE,
    R1,
    R2,
    LockedAgent,
    converged,
    fact_of,
    postponed,
)


def in_a_week(agent: LockedAgent) -> LockOutcome:
    return LockOutcome(75, f"later\nuntil={(agent.now + timedelta(days=6)).isoformat()}\n")


# An order that comes meanwhile.


def test_an_answer_that_comes_after_an_order_counts_for_nothing() -> None:
    """The lock was being asked when the order came, and says "not now" for a week."""
    agent = postponed()
    agent.step_clock(ASK_AGAIN_DEFAULT.total_seconds())
    assert agent.asks()
    assert agent.override() == WarrantObeyed()
    told = list(agent.facts)
    assert agent.answer(in_a_week(agent)) == Done()
    assert agent.facts == told
    assert agent.tell(agent.offered()) == DispatchTaken()


def test_an_order_that_comes_again_after_a_not_now_says_again_that_the_lock_is_over() -> None:
    """The order seemed to be over by a clock that was wrong, and the control plane holds the host again."""
    agent = postponed()
    agent.override()
    agent.step_clock(3 * 3600)
    agent.answer(in_a_week(agent))
    agent.now = OVERRIDE.issued_at + timedelta(minutes=30)
    assert agent.override() == WarrantObeyed()
    assert fact_of(agent).is_over
    told = list(agent.facts)
    assert agent.override() == WarrantObeyed()
    assert agent.facts == told
    assert agent.tell(agent.offered()) == DispatchTaken()


def test_an_acknowledgement_uses_up_orders_that_are_over_too() -> None:
    """Otherwise a clock that is set back would override the lock of a later attempt."""
    agent = postponed()
    agent.override()
    agent.step_clock(3 * 3600)
    agent.take()
    assert not agent.state.is_overridden(R1, agent.now - timedelta(minutes=90))


def test_a_host_without_a_lock_answers_an_order_as_if_its_lock_was_over() -> None:
    """The control plane holds it for a lock that it had, and lets it go."""
    agent = postponed()
    agent.restart("old")
    agent.engine = AgentEngine(agent.state)
    assert agent.override() == WarrantObeyed()
    assert fact_of(agent).is_over
    assert agent.tell(agent.offered()) == DispatchTaken()
    assert not agent.state.is_overridden(R1, agent.now)


# A dispatch that is offered again.


def test_a_dispatch_that_is_offered_though_the_lock_said_not_now_has_it_said_again() -> None:
    """The control plane does not hold the host any more; each time in a minute at most once, with the same end."""
    agent = postponed()
    first = fact_of(agent)
    for _ in range(3):
        agent.step_clock(20)
        assert agent.tell(agent.offered()) == DispatchPostponed()
    assert agent.facts[1:] == [Postponed(agent.now, first.reason, first.until, 2)]


def test_a_dispatch_that_is_offered_before_the_fact_can_be_known_adds_none() -> None:
    """It is offered each second until the control plane has the fact."""
    agent = postponed()
    for _ in range(50):
        agent.step_clock(1)
        agent.tell(agent.offered())
    assert len(agent.facts) == 1


# A start of the agent.


def test_a_start_ends_the_postponement_after_a_minute() -> None:
    """What the lock said is forgotten, and the lock may be gone: the host is dispatched, and asks anew. Once."""
    agent = postponed()
    agent.restart("old")
    agent.tell(Tick(), after_seconds=59)
    assert len(agent.facts) == 1
    agent.tell(Tick(), after_seconds=1)
    assert agent.facts[1:] == [Postponed(agent.now, "the agent was restarted", agent.now, 2)]
    agent.tell(Tick(), after_seconds=60)
    assert len(agent.facts) == 2


def test_an_agent_that_is_started_again_and_again_adds_no_fact() -> None:
    """A process that lives for less than a minute ends nothing."""
    agent = postponed()
    for _ in range(9):
        agent.restart("old")
        agent.tell(Tick(), after_seconds=30)
    assert len(agent.facts) == 1


def test_a_start_ends_no_postponement_that_was_told_since() -> None:
    """The lock was asked within the minute, and says "not now" again."""
    agent = postponed()
    agent.restart("old")
    agent.answer(NO)
    agent.tell(Tick(), after_seconds=60)
    assert [isinstance(fact, Postponed) and fact.is_over for fact in agent.facts] == [False, False]


def test_a_start_says_nothing_of_rollouts_that_do_not_wait() -> None:
    """As before there were locks: of hosts without one, of those that began, and of those whose rollout is closed."""
    alone = LoneAgent()
    alone.tell(alone.offered())
    done = converged()
    closed = postponed()
    closed.tell(LockAnswered(closed.offered(manifest_of("r2")), NO))
    for agent in (alone, done, closed):
        facts = len(agent.facts)
        agent.restart("old")
        agent.tell(Tick(), after_seconds=60)
        told = [fact for fact in agent.facts[facts:] if isinstance(fact, Postponed)]
        assert len(told) == (agent is closed)
    assert closed.state.rollouts[R1].record.last_event_seq == 1
    assert closed.state.rollouts[R2].record.last_event_seq == 2


# An older release meanwhile.


def test_a_release_that_was_postponed_is_taken_after_an_older_one() -> None:
    """A control plane that was set back dispatched the older one; the newer one only waited."""
    agent = LockedAgent()
    older = manifest_of("r1", signed_at=T0 - timedelta(hours=2))
    newer = manifest_of("r2", closure="newer", signed_at=T0 - timedelta(hours=1))
    agent.tell(LockAnswered(agent.offered(newer, closure="newer"), NO))
    agent.take(older)
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    assert agent.state.rollouts[R2].closed_at is not None

    agent.step_clock(24 * 3600)
    offer = agent.offered(newer, closure="newer", running="new")
    agent.tell(offer)
    agent.tell(LockAnswered(offer, LockOutcome(0)))
    assert agent.tell(offer) == DispatchTaken()
    assert agent.facts[-1] == DispatchAck("new", agent.now, 2)
    assert agent.state.rollouts[R1].closed_at is not None


def test_a_release_that_was_postponed_is_refused_after_a_newer_one_began() -> None:
    """That is a downgrade, as it would be without a lock."""
    agent = LockedAgent()
    older = manifest_of("r1", signed_at=T0 - timedelta(hours=2))
    newer = manifest_of("r2", closure="newer", signed_at=T0 - timedelta(hours=1))
    agent.tell(LockAnswered(agent.offered(older), NO))
    offer = agent.offered(newer, closure="newer")
    agent.tell(LockAnswered(offer, LockOutcome(0)))
    assert agent.tell(offer) == DispatchTaken()
    assert isinstance(agent.tell(agent.offered(older)), DispatchRefused)
    assert agent.record(R1).state is HostState.PENDING


# Short ends.


def test_an_end_within_a_minute_is_a_minute_away() -> None:
    """Each "not now" is a row of the log for good."""
    soon = (T0 + timedelta(seconds=1)).isoformat()
    answer = lock_answer(LockOutcome(75, f"soon\nuntil={soon}\n"), 1, ASK_AGAIN_DEFAULT, T0)
    assert answer.until == T0 + POSTPONED_MIN
    assert answer.reason == "soon"
    broken = lock_answer(LockOutcome(1), 1, timedelta(seconds=1), T0)
    assert broken.until == T0 + POSTPONED_MIN


def test_an_order_of_another_rollout_lets_an_answer_count() -> None:
    """Only the order of the rollout itself overrides."""
    agent = postponed()
    agent.override(evolve(OVERRIDE, rollout_id=R2))
    agent.step_clock(ASK_AGAIN_DEFAULT.total_seconds())
    assert agent.answer(NO) == DispatchPostponed()
