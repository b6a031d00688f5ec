"""Laws of device locks: whatever a lock says, and whenever, no switch begins that neither it nor an order let begin."""

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_agent.engine.locks import (
    ASK_AGAIN_DEFAULT,
    POSTPONED_MAX,
    REASON_LENGTH_MAX,
    YES_GOOD_FOR,
    lock_answer,
)
from nixfleet_agent.locks.lock import LockOutcome
from nixfleet_agent.messages.inputs import DispatchTaken, LockDue, WarrantObeyed
from nixfleet_proto.agent_event import DispatchAck, Postponed
from tests.agent.lone_agent import T0
from tests.locks.test_agent_locks import LockedAgent

OUTCOMES = st.builds(
    LockOutcome,
    st.sampled_from((0, 0, 75, 75, 1, 126, 127, -9, 139)),
    st.text(max_size=40) | st.datetimes().map(lambda at: f"busy\nuntil={at.isoformat()}Z"),
    st.text(max_size=40),
    st.none() | st.just("expected an end within 60 s, found it still running"),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("offer", "offer", "override", "restart")), OUTCOMES, st.integers(0, 1200)
    ),
    max_size=12,
)


@given(OUTCOMES)
def test_only_an_exit_code_of_zero_without_a_problem_lets_a_switch_begin(
    outcome: LockOutcome,
) -> None:
    """Everything else says not now, with a reason, for a bounded time to come."""
    answer = lock_answer(outcome, 1, ASK_AGAIN_DEFAULT, T0)
    assert answer.may_begin is (outcome.exit_code == 0 and outcome.problem is None)
    assert T0 < answer.until <= T0 + POSTPONED_MAX
    assert answer.may_begin or 0 < len(answer.reason) <= REASON_LENGTH_MAX


@given(STEPS)
def test_a_switch_begins_only_after_a_fresh_yes_or_an_order(
    steps: list[tuple[str, LockOutcome, int]],
) -> None:
    """In any history of answers, orders, restarts and times; and no user is asked before the end of an answer."""
    agent = LockedAgent()
    said_yes_at, asked_until, is_overridden = None, T0, False
    for kind, outcome, seconds in steps:
        agent.step_clock(seconds)
        if kind == "restart":
            agent.restart("old")
            said_yes_at, asked_until = None, T0
        elif kind == "override":
            is_overridden |= agent.override() == WarrantObeyed()
        else:
            reply = agent.tell(agent.offered())
            if reply == DispatchTaken():
                is_fresh = said_yes_at is not None and agent.now - said_yes_at < YES_GOOD_FOR
                assert is_fresh or is_overridden
                assert isinstance(agent.facts[-1], DispatchAck)
                return
            assert not is_overridden
            if isinstance(reply, LockDue):
                assert agent.now >= asked_until
                agent.answer(outcome)
                yes = outcome.exit_code == 0 and outcome.problem is None
                said_yes_at = agent.now if yes else None
                if not yes:
                    fact = agent.facts[-1]
                    assert isinstance(fact, Postponed)
                    asked_until = fact.until
    seqs = [fact.seq for fact in agent.facts]
    assert seqs == list(range(1, len(seqs) + 1))
