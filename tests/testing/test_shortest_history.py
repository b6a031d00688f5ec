"""A failing history is cut down to the calls that it takes, at a bounded cost, and the same ones every time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    AgentEvent,
    DispatchAck,
    Failed,
    OnHealthFailure,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.host.event import Event, Local
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_testing.machines import HostMachine
from nixfleet_testing.machines.shortest import Call, shortest_part

NOW = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)


class Odd(HostMachine):
    """A planted bug: a host may fail only after an odd number of probe results. Results go in pairs, or not at all."""

    results = 0
    made = 0

    def take(self, event: Event, now: datetime) -> None:
        type(self).made += 1
        super().take(event, now)

    def check_step(
        self,
        before: HostRolloutState,
        event: Event,
        after: HostRolloutState,
        effects: tuple[HostEffect, ...],
    ) -> None:
        self.results += isinstance(event.fact, ProbeResult)
        assert after.state is not HostState.FAILED or self.results % 2


def result(seq: int) -> ProbeResult:
    return ProbeResult("alive", ProbeMode.ENFORCE, ProbeStatus.FAIL, NOW, seq=seq)


FACTS: tuple[AgentEvent, ...] = (
    DispatchAck("closure-0", NOW, 1),
    ActivationStarted(NOW, "switch", 2),
    ActivationCompleted("closure-1", 0, NOW, 3),
    ProbeTopologyDeclared((), NOW, 4),
    *map(result, range(5, 13)),
    Failed(NOW, 60, ("alive",), OnHealthFailure.HALT, 13),
)
PENDING = HostRolloutState.pending(
    RolloutId("stable@a1b2"), "web-01", "stable", "closure-1", NOW, NOW + timedelta(minutes=5)
)
BEGIN: Call = "begin", (PENDING, RolloutPolicy(on_health_failure=OnHealthFailure.HALT))


def history(facts: Sequence[AgentEvent]) -> tuple[Call, ...]:
    return (BEGIN, *(("take", (Local(fact), NOW)) for fact in facts))


def run(calls: Sequence[Call]) -> None:
    machine = Odd()
    for method, arguments in calls:
        getattr(machine, method)(*arguments)


def failure_of(calls: Sequence[Call]) -> Exception:
    """Return what running `calls` raises."""
    with pytest.raises(AssertionError) as raised:
        run(calls)
    return raised.value


def names(calls: Sequence[Call]) -> list[str]:
    facts = (arguments[0] for _, arguments in calls[1:])
    return [type(event.fact).__name__ for event in facts if isinstance(event, Local)]


def test_of_fourteen_calls_the_four_that_it_takes_remain() -> None:
    """Calls that can only go together go; what is left is exactly what the failure needs."""
    long = history(FACTS)
    assert len(long) == 14
    part = shortest_part(Odd, long, failure_of(long))
    assert part[0] == BEGIN
    assert names(part) == ["DispatchAck", "ActivationCompleted", "Failed"]


def test_a_history_too_long_for_every_part_to_be_tried_is_cut_all_the_same() -> None:
    """Forty needless results go in pairs, at a cost that stays below the limit."""
    results = map(result, range(4, 44))
    facts = (FACTS[0], ActivationCompleted("closure-1", 0, NOW, 3), *results)
    long = history((*facts, Failed(NOW, 60, ("alive",), OnHealthFailure.HALT, 44)))
    failure = failure_of(long)
    Odd.made = 0
    part = shortest_part(Odd, long, failure, calls_max=20_000)
    assert names(part) == ["DispatchAck", "ActivationCompleted", "Failed"]
    assert Odd.made <= 20_000


def test_what_is_found_before_the_limit_is_returned_and_fails_too() -> None:
    """With few calls to spend the part is longer, and still a history that fails in the same way."""
    long = history(FACTS)
    failure = failure_of(long)
    Odd.made = 0
    part = shortest_part(Odd, long, failure, calls_max=40)
    assert Odd.made <= 40
    assert 4 < len(part) < 14
    assert isinstance(failure_of(part), AssertionError)


def test_the_same_history_is_cut_in_the_same_way() -> None:
    """Neither time nor chance decides what remains."""
    long = history(FACTS)
    parts = [shortest_part(Odd, long, failure_of(long), calls_max=limit) for limit in (40, 40)]
    assert parts[0] == parts[1]


def test_a_history_that_does_not_fail_again_is_returned_whole() -> None:
    """Then the failure depends on something else, and every call may matter."""
    long = history(FACTS[:-1])
    assert shortest_part(Odd, long, failure_of(history(FACTS))) == long
