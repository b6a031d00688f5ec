"""The host machine answers as recorded, save where it is stricter on purpose."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine import (
    Event,
    HostRolloutState,
    HostState,
    ProbeRecord,
    TransitionError,
    step,
)
from nixfleet_state_machine.host.effect import HostEffect, LocalFireRollbackTo, RecordTransition
from nixfleet_testing.conformance.host import (
    HostStep,
    check_host,
    read_host_vector,
)
from tests.conformance.recorded import differences, recorded


def test_running_the_recorded_histories_gives_the_recorded_answers() -> None:
    """All 1,200 histories agree step by step, up to where a row says that we are stricter."""
    runs = [check_host(vector) for vector in recorded("host_vectors", read_host_vector)]

    assert differences(runs) == []
    assert Counter(run.stopped_by for run in runs) == {
        None: 1002,
        "a": 4,
        "b": 46,
        "c": 81,
        "d": 67,
    }
    assert len(runs) == 1200
    assert sum(run.steps for run in runs) == 12757


def test_running_the_matrix_gives_the_recorded_answers() -> None:
    """Every state takes or refuses every event, under both policies, as recorded: 336 rows."""
    runs = [check_host(vector) for vector in recorded("host_matrix", read_host_vector)]

    assert differences(runs) == []
    assert Counter(run.stopped_by for run in runs) == {None: 332, "c": 4}
    assert len(runs) == 336


def _forgets_the_transition(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, Sequence[HostEffect]]:
    after, effects = step(state, event, now, policy)
    return after, [effect for effect in effects if not isinstance(effect, RecordTransition)]


def _forgets_the_seq(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, Sequence[HostEffect]]:
    after, effects = step(state, event, now, policy)
    return evolve(after, last_event_seq=state.last_event_seq), effects


def _invents_a_probe(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, Sequence[HostEffect]]:
    after, effects = step(state, event, now, policy)
    ghost = ProbeRecord(ProbeStatus.PASS, ProbeMode.OBSERVE, now)
    return evolve(after, probes=after.probes.with_item("ghost", ghost)), effects


def _never_rolls_back(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, Sequence[HostEffect]]:
    after, effects = step(state, event, now, policy)
    return after, [effect for effect in effects if not isinstance(effect, LocalFireRollbackTo)]


def _ignores_what_is_illegal(
    state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> tuple[HostRolloutState, Sequence[HostEffect]]:
    try:
        return step(state, event, now, policy)
    except TransitionError:
        return state, ()


@pytest.mark.parametrize(
    ("wrong_step", "path"),
    [
        (_forgets_the_transition, "effects.RecordTransition"),
        (_forgets_the_seq, "state.last_event_seq"),
        (_invents_a_probe, "state.probes.ghost"),
        (_never_rolls_back, "effects.LocalFireRollbackTo"),
        (_ignores_what_is_illegal, "answer"),
    ],
)
def test_running_the_vectors_against_a_wrong_step_names_what_is_wrong(
    wrong_step: HostStep, path: str
) -> None:
    """A reducer with a defect is told apart from the recorded one, at the field that is wrong."""
    vectors = recorded("host_vectors", read_host_vector)[:200]
    found = differences(check_host(vector, wrong_step) for vector in vectors)

    assert path in {difference.path for difference in found}


def test_running_a_stricter_step_the_lax_way_is_a_difference() -> None:
    """Where a row says that we are stricter, answering as recorded is reported."""

    def reverts_though_it_failed(
        state: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
    ) -> tuple[HostRolloutState, Sequence[HostEffect]]:
        after, effects = step(state, event, now, policy)
        if state.state is HostState.FAILED:
            after = evolve(after, state=HostState.REVERTED)
        return after, effects

    strict = [
        vector
        for vector in recorded("host_vectors", read_host_vector)
        if vector.steps[-1].divergence == "b"
    ]
    runs = [check_host(vector, reverts_though_it_failed) for vector in strict]

    assert strict
    assert {difference.path for difference in differences(runs)} == {"state.state"}
