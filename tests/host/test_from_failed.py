"""A Failed host waits for its rollback, if there is one."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import AgentEvent, RollbackComplete
from nixfleet_state_machine import HostState, IllegalForState
from nixfleet_state_machine.host.effect import (
    EmitLog,
    LocalEmitEvent,
    LogLevel,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
)
from tests.builders import (
    CHANNEL,
    HOST,
    LATER,
    PRIOR,
    ROLLOUT,
    TARGET,
    all_facts_but,
    at,
    failed_host,
    lived,
    moved,
    only,
    rollback_complete,
    told,
)


def test_a_rollback_that_worked_makes_the_host_reverted() -> None:
    """RollbackComplete with exit code 0 moves the host back to what ran before."""
    after, _ = told(failed_host(), rollback_complete(seconds=250))

    assert after == evolve(
        failed_host(),
        state=HostState.REVERTED,
        reverted_at=at(250),
        reverted_to=PRIOR,
        current_closure=PRIOR,
        last_event_seq=LATER,
    )


def test_a_rollback_that_worked_quarantines_the_bad_closure() -> None:
    """The control plane bars the target from the channel before it records the change."""
    fact = rollback_complete(seconds=250)
    _, effects = told(failed_host(), fact)

    assert effects == [
        RemoteAppendEventLog(HOST, ROLLOUT, fact),
        RemoteInsertQuarantine(CHANNEL, TARGET),
        moved(HostState.FAILED, HostState.REVERTED, seconds=250),
    ]


def test_a_rollback_that_worked_quarantines_nothing_on_the_agent() -> None:
    """Quarantines are the control plane's; the agent keeps the fact and records the change."""
    fact = rollback_complete(seconds=250)
    _, effects = lived(failed_host(), fact)

    assert effects == [
        LocalEmitEvent(ROLLOUT, fact, durable=True),
        moved(HostState.FAILED, HostState.REVERTED, seconds=250),
    ]


@pytest.mark.parametrize("exit_code", [1, -9])
def test_a_rollback_that_failed_leaves_the_host_failed(exit_code: int) -> None:
    """A non-zero exit code is no revert: only what really runs now is noted."""
    after, _ = told(failed_host(), rollback_complete(exit_code=exit_code, closure=TARGET))

    assert after == evolve(failed_host(), current_closure=TARGET, last_event_seq=LATER)


def test_a_rollback_that_failed_is_told_to_the_operator() -> None:
    """An error log says so; there is neither a transition nor a quarantine."""
    _, effects = told(failed_host(), rollback_complete(exit_code=1, closure=TARGET))
    (log,) = only(EmitLog, effects)

    assert log.level is LogLevel.ERROR
    assert dict(log.fields) == {
        "rollout_id": ROLLOUT,
        "host": HOST,
        "exit_code": "1",
        "current_closure": TARGET,
    }
    assert only(RecordTransition, effects) == []
    assert only(RemoteInsertQuarantine, effects) == []


def test_a_rollback_that_works_at_the_second_attempt_reverts_the_host() -> None:
    """A host whose rollback failed is still waiting for one that works."""
    stuck, _ = told(failed_host(), rollback_complete(exit_code=1))
    after, _ = told(stuck, evolve(rollback_complete(), seq=LATER + 1))

    assert after.state is HostState.REVERTED


@pytest.mark.parametrize("fact", all_facts_but(RollbackComplete))
def test_any_other_fact_is_refused(fact: AgentEvent) -> None:
    """A failed host neither soaks nor converges nor fails again."""
    with pytest.raises(IllegalForState):
        told(failed_host(), fact)
