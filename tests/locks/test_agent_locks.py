"""The agent asks the host's own lock before a switch, and never before a way back; an answer expires."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.locks import ASK_AGAIN_DEFAULT, POSTPONED_MAX, YES_GOOD_FOR
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.state import ObeyedOrder
from nixfleet_agent.locks.lock import LockOutcome, LockQuestion
from nixfleet_agent.messages.inputs import (
    CarryOut,
    ChecksLoaded,
    ClosureAwaited,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    IntentBegun,
    IntentKind,
    LockAnswered,
    LockDue,
    MayBegin,
    ProbeRan,
    Reply,
    RollbackEnded,
    SwitchEnded,
    Tick,
    WarrantObeyed,
    WarrantOffered,
    WarrantRefused,
)
from nixfleet_agent.messages.writes import PutOrder
from nixfleet_agent.probes.runner import PASSED
from nixfleet_proto.agent_event import DispatchAck, OnHealthFailure, Postponed
from nixfleet_proto.codec import format_time
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.policy import Recall
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant, verify_warrant
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot, Verified
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, KEY, SOAK_MINUTES, T0, LoneAgent, manifest_of

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
YES, NO = LockOutcome(0), LockOutcome(75, "a call is in progress\n")
ADA = SigningKey.generate()
TRUST = TrustRoot(
    KeySlot(KEY.public_key), operators=(Operator("ada", ADA.public_key, OperatorRole.OPERATE),)
)
OVERRIDE = Warrant("order-1", R1, ClosureRule.TARGET, "ada", "a fix", T0, T0 + timedelta(hours=2))


class LockedAgent(LoneAgent):
    """web-01, which has a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = AgentEngine(self.state, Options(ask_again=ASK_AGAIN_DEFAULT))

    def restart(self, running: str) -> None:
        super().restart(running)
        self.engine = AgentEngine(self.state, Options(ask_again=ASK_AGAIN_DEFAULT))

    def asks(self, manifest: Verified[RolloutManifest] | None = None) -> bool:
        """Offer the dispatch; return whether the lock is to be asked."""
        return isinstance(self.tell(self.offered(manifest)), LockDue)

    def answer(
        self, outcome: LockOutcome, manifest: Verified[RolloutManifest] | None = None
    ) -> Reply:
        return self.tell(LockAnswered(self.offered(manifest), outcome))

    def take(self, manifest: Verified[RolloutManifest] | None = None) -> None:
        """Take the dispatch, with the lock open."""
        assert self.asks(manifest)
        assert self.answer(YES, manifest) == Done()
        assert self.tell(self.offered(manifest)) == DispatchTaken()

    def override(self, warrant: Warrant = OVERRIDE) -> Reply:
        verified = verify_warrant(sign_warrant(warrant, ADA), TRUST, self.now)
        return self.tell(WarrantOffered(verified))


def postponed() -> LockedAgent:
    agent = LockedAgent()
    assert agent.answer(NO) == DispatchPostponed()
    return agent


def converged(closure_ref: str = "r1") -> LockedAgent:
    agent = LockedAgent()
    agent.take(manifest_of(closure_ref))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    rollout_id = RolloutId(f"stable@{closure_ref}")
    agent.tell(ChecksLoaded(rollout_id, ALIVE))
    agent.tell(ProbeRan(rollout_id, "alive", PASSED))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60)
    assert agent.record(rollout_id).state is HostState.CONVERGED
    return agent


def fact_of(agent: LockedAgent) -> Postponed:
    fact = agent.facts[-1]
    assert isinstance(fact, Postponed), fact
    return fact


# When it is asked.


def test_a_host_without_a_lock_asks_nothing() -> None:
    """As before there were locks."""
    agent = LoneAgent()
    assert agent.tell(agent.offered()) == DispatchTaken()


def test_a_dispatch_has_the_lock_asked_and_nothing_changes_meanwhile() -> None:
    """The question names what would be switched to."""
    agent = LockedAgent()
    assert agent.tell(agent.offered()) == LockDue(LockQuestion(R1, "new", 1))
    assert (agent.facts, agent.writes, dict(agent.state.rollouts)) == ([], (), {})


def test_a_dispatch_that_is_refused_asks_no_lock() -> None:
    """A user is asked only about what would begin."""
    agent = LockedAgent()
    assert isinstance(agent.tell(agent.offered(closure="other")), DispatchRefused)


def test_a_yes_begins_the_switch_when_the_dispatch_is_offered_again() -> None:
    """It may have been withdrawn while the user read the question."""
    agent = LockedAgent()
    assert agent.asks()
    assert agent.answer(YES) == Done()
    assert agent.facts == []
    assert agent.tell(agent.offered()) == DispatchTaken()
    assert isinstance(agent.facts[-1], DispatchAck)
    assert agent.intent.kind is IntentKind.SWITCH


def test_a_yes_that_no_dispatch_followed_on_expires() -> None:
    """The user may be in the next call by then."""
    agent = LockedAgent()
    agent.answer(YES)
    agent.step_clock(YES_GOOD_FOR.total_seconds())
    assert agent.asks()


def test_an_acknowledged_switch_asks_no_more() -> None:
    """However long its closure takes, and in a process that begins later too."""
    agent = LockedAgent()
    agent.take()
    intent = agent.intent
    agent.tell(ClosureAwaited(intent.intent_id, "no substituter answers"), after_seconds=3600)
    agent.restart("old")
    assert CarryOut(intent) in agent.actions
    assert isinstance(agent.tell(IntentBegun(intent.intent_id)), MayBegin)
    assert agent.tell(agent.offered()) == DispatchTaken()


def test_a_rollback_asks_nothing() -> None:
    """A lock is asked before a switch, never before a way back."""
    agent = LockedAgent()
    agent.take()
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, ALIVE))
    agent.fail_probe(90)
    agent.tell(Tick())
    (rollback,) = agent.state.intents.values()
    assert rollback.kind is IntentKind.ROLLBACK
    assert isinstance(agent.tell(IntentBegun(rollback.intent_id)), MayBegin)


def test_another_attempt_asks_again() -> None:
    """It is another switch, at another time of the user's day; the host stays as it is until then."""
    again = manifest_of(attempts=2, on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT)
    agent = LockedAgent()
    agent.take(again)
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, ALIVE))
    agent.fail_probe(90)
    agent.tell(Tick())
    (rollback,) = agent.state.intents.values()
    agent.tell(RollbackEnded(rollback.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED

    offer = agent.offered(again, attempt=2)
    assert agent.tell(offer) == LockDue(LockQuestion(R1, "new", 2))
    assert agent.tell(LockAnswered(offer, NO)) == DispatchPostponed()
    assert agent.record().state is HostState.REVERTED
    assert agent.tell(LockAnswered(offer, YES)) == Done()
    assert agent.tell(offer) == DispatchTaken()
    assert agent.record().attempt == 2


# A "not now".


def test_a_no_is_a_fact_of_a_host_that_stays_pending() -> None:
    """Nothing is acknowledged, and nothing is to be switched."""
    agent = postponed()
    until = agent.now + ASK_AGAIN_DEFAULT
    assert agent.facts == [Postponed(agent.now, "a call is in progress", until, 1)]
    assert agent.record().state is HostState.PENDING
    assert not agent.state.intents


def test_a_no_is_not_asked_again_before_its_end() -> None:
    """The control plane offers the dispatch until it has the fact; no user is asked each second."""
    agent = postponed()
    agent.step_clock(ASK_AGAIN_DEFAULT.total_seconds() - 1)
    assert agent.tell(agent.offered()) == DispatchPostponed()
    agent.step_clock(1)
    assert agent.asks()


def test_a_no_is_asked_again_at_the_end_that_the_lock_gave() -> None:
    """And not before: the user said when."""
    agent = LockedAgent()
    until = agent.now + timedelta(hours=9)
    agent.answer(LockOutcome(75, f"tomorrow\nuntil={format_time(until)}\n"))
    assert fact_of(agent) == Postponed(agent.now, "tomorrow", until, 1)
    agent.step_clock(9 * 3600 - 1)
    assert not agent.asks()
    agent.step_clock(1)
    assert agent.asks()


def test_a_clock_that_is_set_back_behind_the_answer_has_the_lock_asked_again() -> None:
    """Otherwise the host would wait for as long as the clock was wrong."""
    agent = postponed()
    agent.step_clock(-3600)
    assert agent.asks()


def test_a_host_that_was_postponed_begins_once_its_lock_lets_it() -> None:
    """The numbers of its facts go on, and it takes the times of the later dispatch."""
    agent = postponed()
    agent.step_clock(ASK_AGAIN_DEFAULT.total_seconds())
    agent.take()
    assert agent.facts[-1] == DispatchAck("old", agent.now, 2)
    assert agent.record().dispatched_at == agent.now
    assert agent.record().state is HostState.ACTIVATING


def test_a_restart_asks_again() -> None:
    """No lock is a file that can go stale."""
    agent = postponed()
    agent.restart("old")
    assert agent.asks()
    assert agent.answer(NO) == DispatchPostponed()
    assert [fact.seq for fact in agent.facts] == [1, 2]


def test_what_runs_is_watched_while_the_next_rollout_is_postponed() -> None:
    """The host follows the older rollout until it begins the newer one."""
    agent = converged()
    later = manifest_of("r2", "newer", signed_at=agent.now)
    offer = agent.offered(later, closure="newer", running="new")
    agent.tell(offer)
    agent.tell(LockAnswered(offer, NO))
    assert agent.state.rollouts[R1].closed_at is None
    agent.tell(LockAnswered(offer, YES))
    assert agent.tell(offer) == DispatchTaken()
    assert agent.state.rollouts[R1].closed_at == agent.now


def test_a_rollout_that_was_postponed_is_closed_when_the_next_one_is() -> None:
    """It is not begun any more; records of what never began do not pile up."""
    agent = postponed()
    later = manifest_of("r2", "newer")
    offer = agent.offered(later, closure="newer")
    agent.tell(LockAnswered(offer, NO))
    assert agent.state.rollouts[R1].closed_at == agent.now
    assert agent.state.rollouts[R2].closed_at is None


def test_a_postponed_release_is_not_the_newest_that_was_obeyed() -> None:
    """Only what a host began makes older releases a downgrade."""
    assert postponed().state.newest_release.get() is None


def test_an_answer_to_a_dispatch_that_is_refused_by_now_is_no_fact() -> None:
    """The user took long, and the release was replaced."""
    agent = LockedAgent()
    offer = agent.offered(closure="other")
    assert isinstance(agent.tell(LockAnswered(offer, NO)), DispatchRefused)
    assert agent.facts == []


# Locks that are broken.

BROKEN = {
    "a problem of the program": (
        LockOutcome(124, problem="expected an end within 60 s, found it still running"),
        "the lock program is broken, and lets nothing begin: expected an end within 60 s, found it still running",
    ),
    "another exit code": (
        LockOutcome(1, "", "Traceback:\n  no such bus\n"),
        "the lock program is broken, and lets nothing begin: "
        "expected exit code 0 (go) or 75 (not now), found 1: Traceback: no such bus",
    ),
    "a signal": (
        LockOutcome(139),
        "the lock program is broken, and lets nothing begin: expected exit code 0 (go) or 75 (not now), found 139",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_lets_nothing_begin_and_says_what_is_wrong(name: str) -> None:
    """It is seen in the fact and in the agent's log, and asked again."""
    outcome, reason = BROKEN[name]
    agent = LockedAgent()
    assert agent.answer(outcome) == DispatchPostponed()
    assert fact_of(agent).reason == reason
    assert fact_of(agent).until == agent.now + ASK_AGAIN_DEFAULT
    assert any(isinstance(it, EmitLog) and it.level == "error" for it in agent.actions)


def test_a_lock_that_only_says_no_is_no_error_of_the_log() -> None:
    """A user who works is no incident."""
    assert not any(isinstance(it, EmitLog) and it.level == "error" for it in postponed().actions)


UNTILS = {
    "until=2026-05-16T00:59:59Z": (
        "expected until= a time to come, found until=2026-05-16T00:59:59Z, which is over",
        ASK_AGAIN_DEFAULT,
    ),
    "until=2031-01-01T00:00:00Z": (
        "expected until= a time within 7 days, found until=2031-01-01T00:00:00Z",
        POSTPONED_MAX,
    ),
    "until=tomorrow": (
        "expected until=YYYY-MM-DDTHH:MM:SS and a zone, found until=tomorrow",
        ASK_AGAIN_DEFAULT,
    ),
    "until=2026-05-16T09:00:00": (
        "expected until=YYYY-MM-DDTHH:MM:SS and a zone, found until=2026-05-16T09:00:00",
        ASK_AGAIN_DEFAULT,
    ),
    "until=9999-12-31T23:59:59-23:59": (
        "expected until= a time within 7 days, found until=9999-12-31T23:59:59-23:59",
        ASK_AGAIN_DEFAULT,
    ),
}


@pytest.mark.parametrize("line", UNTILS)
def test_an_end_that_cannot_be_is_named_and_the_host_waits_a_bounded_time(line: str) -> None:
    """The lock said not now; only its end is wrong."""
    problem, lasts = UNTILS[line]
    agent = LockedAgent()
    agent.answer(LockOutcome(75, f"busy\n{line}\n"))
    assert fact_of(agent).reason == f"busy ({problem})"
    assert fact_of(agent).until == agent.now + lasts


def test_an_end_in_another_zone_is_kept_in_utc() -> None:
    """Facts are dated in UTC."""
    agent = LockedAgent()
    agent.answer(LockOutcome(75, "busy\nuntil=2026-05-16T05:00:00+02:00\n"))
    assert fact_of(agent).until == T0 + timedelta(hours=2)


def test_a_byte_order_mark_is_no_part_of_what_a_lock_says() -> None:
    """Some tools write one in front of all text."""
    agent = LockedAgent()
    agent.answer(LockOutcome(75, "\ufeffuntil=2026-05-16T03:00:00Z\na call\n"))
    fact = fact_of(agent)
    assert (fact.reason, fact.until) == ("a call", T0 + timedelta(hours=2))


@pytest.mark.parametrize("output", ["", "\n\n", "until=2026-05-16T03:00:00Z\n"])
def test_a_lock_that_gives_no_reason_is_said_to_give_none(output: str) -> None:
    """An empty reason would be shown as nothing."""
    agent = LockedAgent()
    agent.answer(LockOutcome(75, output))
    assert fact_of(agent).reason == "the lock gives no reason"


def test_a_long_reason_is_cut_and_a_secret_in_it_is_not_told() -> None:
    """The log keeps it for ever."""
    agent = LockedAgent()
    agent.answer(LockOutcome(75, f"token=hunter2hunter2 {'x' * 4000}"))
    assert len(fact_of(agent).reason) <= 512
    assert "hunter2" not in fact_of(agent).reason


# Overrides.


def test_an_order_overrides_the_lock_for_the_next_switch() -> None:
    """One commit has the order and the fact that the lock is over; the dispatch that follows asks nothing."""
    agent = postponed()
    assert agent.override() == WarrantObeyed()
    reason = "order order-1 of ada overrides the lock: a fix"
    assert fact_of(agent) == Postponed(agent.now, reason, agent.now, 2)
    assert fact_of(agent).is_over
    until = OVERRIDE.expires_at
    assert PutOrder("order-1", R1, agent.now, False, until) in agent.writes
    assert agent.tell(agent.offered()) == DispatchTaken()


def test_an_order_is_obeyed_after_a_restart_too() -> None:
    """It is in the journal until it was used."""
    agent = postponed()
    agent.override()
    agent.restart("old")
    assert agent.tell(agent.offered()) == DispatchTaken()


def test_an_order_that_comes_again_before_it_was_used_changes_nothing() -> None:
    """It is relayed until its fact is known."""
    agent = postponed()
    agent.override()
    facts = list(agent.facts)
    assert agent.override() == WarrantObeyed()
    assert (agent.facts, agent.writes) == (facts, ())


def test_an_order_that_was_used_is_refused() -> None:
    """It was good for one switch: a control plane that keeps it can begin no other one with it."""
    agent = postponed()
    agent.override()
    agent.tell(agent.offered())
    assert agent.state.orders["order-1"] == ObeyedOrder(R1, is_recall=False)
    refused = agent.override()
    assert isinstance(refused, WarrantRefused)
    assert (
        refused.reason
        == "order order-1 was obeyed before, and an order is good once; sign a new one"
    )


def test_an_order_that_expired_before_the_dispatch_overrides_nothing() -> None:
    """The operator said until when."""
    agent = postponed()
    agent.override()
    agent.step_clock(2 * 3600)
    assert agent.asks()


def test_an_override_is_no_recall() -> None:
    """Another attempt of the rollout is not refused for it."""
    agent = postponed()
    agent.override()
    agent.tell(agent.offered())
    assert not agent.state.is_recalled(R1)


def test_a_recall_order_overrides_no_lock() -> None:
    """The rule is signed."""
    agent = postponed()
    refused = agent.override(evolve(OVERRIDE, rule=ClosureRule.PRIOR))
    assert isinstance(refused, WarrantRefused)
    assert agent.asks() is False
    assert agent.state.orders == {}


REFUSED = {
    "of another host": (
        evolve(OVERRIDE, hosts=("db-01",)),
        "order order-1 is for 1 other hosts, not for web-01",
    ),
    "of an unknown rollout": (
        evolve(OVERRIDE, rollout_id=R2),
        "order order-1: expected a rollout of this host, found stable@r2, which it was never dispatched",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_order_for_something_else_is_refused(name: str) -> None:
    """Nothing has changed then."""
    warrant, reason = REFUSED[name]
    agent = postponed()
    assert agent.override(warrant) == WarrantRefused(warrant.rollout_id, reason)
    assert (len(agent.facts), agent.state.orders) == (1, {})


def test_an_order_for_a_rollout_that_was_replaced_is_refused() -> None:
    """The host waits with a newer one."""
    agent = postponed()
    offer = agent.offered(manifest_of("r2", "newer"), closure="newer")
    agent.tell(LockAnswered(offer, NO))
    refused = agent.override()
    assert isinstance(refused, WarrantRefused)
    assert "a newer rollout took over from stable@r1" in refused.reason


def test_an_order_for_a_host_that_has_begun_is_refused() -> None:
    """There is no lock in its way."""
    agent = LockedAgent()
    agent.take()
    refused = agent.override()
    assert isinstance(refused, WarrantRefused)
    assert "expected a host that waits for its lock, found it Activating" in refused.reason


def test_an_order_for_a_rollout_that_was_recalled_here_is_refused() -> None:
    """What one operator took back, another one's override does not bring again."""
    granted = manifest_of(recall=Recall.OPERATOR)
    agent = LockedAgent()
    agent.take(granted)
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    recall = evolve(OVERRIDE, order_id="order-0", rule=ClosureRule.PRIOR)
    assert agent.override(recall) == WarrantObeyed()
    (rollback,) = agent.state.intents.values()
    agent.tell(RollbackEnded(rollback.intent_id, RollbackFinished("old", 0)))
    refused = agent.override()
    assert isinstance(refused, WarrantRefused)
    assert "was recalled here by an order" in refused.reason
