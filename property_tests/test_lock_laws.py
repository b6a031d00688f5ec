"""Laws of device locks: whatever a lock says, and whenever, no switch begins that neither it nor an order let begin."""

from contextlib import closing
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_agent.engine.locks import (
    ASK_AGAIN_DEFAULT,
    POSTPONED_MAX,
    POSTPONED_MIN,
    REASON_LENGTH_MAX,
    YES_GOOD_FOR,
    lock_answer,
)
from nixfleet_agent.locks.lock import LockOutcome
from nixfleet_agent.messages.inputs import DispatchTaken, LockDue, WarrantObeyed
from nixfleet_proto.agent_event import DispatchAck, Postponed
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.holds.device import DEVICE
from nixfleet_state_machine.planner.holds.scope import HostScope
from nixfleet_state_machine.rollout.state import RolloutState
from tests.agent.lone_agent import T0
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost
from tests.locks.test_agent_locks import OVERRIDE, LockedAgent

OUTCOMES = st.builds(
    LockOutcome,
    st.sampled_from((0, 0, 75, 75, 1, 126, 127, -9, 139)),
    st.text(max_size=40) | st.datetimes().map(lambda at: f"busy\nuntil={at.isoformat()}Z"),
    st.text(max_size=40),
    st.none() | st.just("expected an end within 60 s, found it still running"),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("offer", "offer", "override", "override while asked", "restart")),
        OUTCOMES,
        st.integers(0, 1200),
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
    assert T0 + POSTPONED_MIN <= answer.until <= T0 + POSTPONED_MAX
    assert answer.may_begin or 0 < len(answer.reason) <= REASON_LENGTH_MAX


@given(STEPS)
def test_a_switch_begins_only_after_a_fresh_yes_or_an_order(
    steps: list[tuple[str, LockOutcome, int]],
) -> None:
    """In any history of answers, orders, restarts and times; and no user is asked before the end of an answer."""
    agent = LockedAgent()
    said_yes_at, asked_until, overridden_until = None, T0, T0
    for kind, outcome, seconds in steps:
        agent.step_clock(seconds)
        if kind == "restart":
            agent.restart("old")
            said_yes_at, asked_until = None, T0
        elif kind == "override":
            if agent.now < OVERRIDE.expires_at and agent.override() == WarrantObeyed():
                overridden_until = OVERRIDE.expires_at
        else:
            is_overridden = agent.now < overridden_until
            reply = agent.tell(agent.offered())
            if reply == DispatchTaken():
                is_fresh = said_yes_at is not None and agent.now - said_yes_at < YES_GOOD_FOR
                assert is_fresh or is_overridden
                assert isinstance(agent.facts[-1], DispatchAck)
                return
            assert not is_overridden
            if isinstance(reply, LockDue):
                assert agent.now >= asked_until
                is_ordered = kind == "override while asked" and agent.now < OVERRIDE.expires_at
                if is_ordered and agent.override() == WarrantObeyed():
                    overridden_until = OVERRIDE.expires_at
                told = len(agent.facts)
                agent.answer(outcome)
                if agent.now < overridden_until:
                    assert len(agent.facts) == told
                    continue
                yes = outcome.exit_code == 0 and outcome.problem is None
                said_yes_at = agent.now if yes else None
                if not yes:
                    fact = agent.facts[-1]
                    assert isinstance(fact, Postponed)
                    asked_until = fact.until
    seqs = [fact.seq for fact in agent.facts]
    assert seqs == list(range(1, len(seqs) + 1))


WAITS = st.lists(
    st.tuples(
        st.sampled_from(("not now", "not now", "over", "new journal", "restart", "wait")),
        st.integers(-30, 30),
        st.integers(0, 40),
    ),
    max_size=10,
)
"""What a host that waits for its lock does, by which clock, and for how many minutes."""


@given(WAITS)
def test_a_rollout_ends_whatever_a_host_did_while_it_waited(
    waits: list[tuple[str, int, int]],
) -> None:
    """With any journals lost, any restarts of the control plane, and any clock; what is stored is what the log says."""
    rollout_id = RolloutId("stable@r1")
    with (
        scratch_directory() as directory,
        closing(ScriptedControlPlane(directory, Layout(waves=(("web-01",),)))) as fleet,
    ):
        fleet.publish("r1")
        host = ScriptedHost(fleet, rollout_id, "web-01")
        for kind, behind, minutes in waits:
            at = fleet.now - timedelta(minutes=max(behind, 0))
            if kind == "new journal":
                host = ScriptedHost(fleet, rollout_id, "web-01")
            elif kind == "restart":
                fleet.flush()
                fleet.restart_control_plane()
            elif kind == "wait":
                fleet.wait(minutes=minutes)
                fleet.tick()
            else:
                until = at + timedelta(minutes=minutes if kind == "not now" else 0)

                def fact_of(seq: int, at: datetime = at, until: datetime = until) -> Postponed:
                    return Postponed(at, "busy", until, seq)

                assert host.tell(fact_of) == EventsOutcome(1)
                held = fleet.state.view.holds.get(HostScope("web-01"), DEVICE) is not None
                assert held is (until > at)
                assert ("web-01", rollout_id) not in fleet.queued() or not held
        fleet.wait(minutes=60 * 24 * 8)
        fleet.tick()
        host.finish()
        assert fleet.states(rollout_id) == {"web-01": HostState.CONVERGED}
        assert fleet.rollout(rollout_id).state is RolloutState.TERMINAL
        assert not fleet.check_store().differences
