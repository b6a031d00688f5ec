"""Laws of what a control plane believes of its hosts' clocks."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_control_plane.engine.receipts import AHEAD_MAX, SOAK_ALLOWANCE, Receipts, time_of
from nixfleet_proto.agent_event import ActivationCompleted, AgentEvent, Converged
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.strategies import facts

NOW = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
KEY = RolloutId("stable@r1"), "web-01"
SOAK = timedelta(hours=1)
OFFSETS = st.timedeltas(-timedelta(days=400), timedelta(days=400))
WAITS = st.timedeltas(timedelta(), timedelta(hours=3))


def _soak() -> timedelta:
    return SOAK


@given(facts())
def test_a_fact_is_early_when_its_date_is_more_than_a_minute_ahead(fact: AgentEvent) -> None:
    """Of every kind, and to the microsecond."""
    receipts = Receipts(UndoLog())
    at = time_of(fact)
    assert receipts.early(KEY, fact, _soak, at - AHEAD_MAX) is None
    early = receipts.early(KEY, fact, _soak, at - AHEAD_MAX - timedelta(microseconds=1))
    assert early is not None
    assert early.seq == fact.seq


@given(activated=OFFSETS, converged=OFFSETS, heartbeat_before=WAITS, wait=WAITS)
def test_no_dates_cut_the_soak_of_a_host_that_is_heard(
    activated: timedelta, converged: timedelta, heartbeat_before: timedelta, wait: timedelta
) -> None:
    """Whatever the host says, a soak that it claims began no earlier than it was seen without an activation."""
    receipts = Receipts(UndoLog())
    receipts.note_in_step(KEY, NOW - heartbeat_before)
    completed = ActivationCompleted("new", 0, NOW + activated, seq=1)
    receipts.note(KEY, completed, NOW)
    claim = Converged(NOW + converged, "new", seq=2)
    later = NOW + wait
    if receipts.early(KEY, claim, _soak, later) is not None:
        return
    assert claim.converged_at - later <= AHEAD_MAX
    claims_a_soak = claim.converged_at - completed.completed_at >= SOAK - SOAK_ALLOWANCE
    assert not claims_a_soak or later - (NOW - heartbeat_before) >= SOAK - SOAK_ALLOWANCE


@given(activated=WAITS, converged=OFFSETS, wait=WAITS)
def test_an_early_fact_is_taken_when_the_answer_says(
    activated: timedelta, converged: timedelta, wait: timedelta
) -> None:
    """What is sent again unchanged after the time that the answer names is early no more."""
    receipts = Receipts(UndoLog())
    receipts.note(KEY, ActivationCompleted("new", 0, NOW - activated, seq=1), NOW)
    claim = Converged(NOW + converged, "new", seq=2)
    now, answers = NOW + wait, 0
    while (early := receipts.early(KEY, claim, _soak, now)) is not None:
        now += timedelta(seconds=early.retry_after_seconds)
        answers += 1
    assert answers <= 2, "once for its date, and once for the soak"
