"""The rollout machine answers as recorded, save where it decides otherwise on purpose."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import pytest
from attrs import evolve

from nixfleet_state_machine import (
    RolloutEffect,
    RolloutEvent,
    RolloutRecord,
    RolloutTransitionError,
    step_rollout,
)
from nixfleet_state_machine.rollout.effect import UpdateCurrentWave
from nixfleet_state_machine.rollout.event import HostJoined
from nixfleet_testing.conformance.rollout import (
    RolloutStep,
    check_rollout,
    read_rollout_vector,
)
from tests.conformance.recorded import differences, recorded


def test_running_the_recorded_histories_gives_the_recorded_answers() -> None:
    """All 800 histories agree step by step, up to where we differ or refuse a foreign event."""
    runs = [check_rollout(vector) for vector in recorded("rollout_vectors", read_rollout_vector)]

    assert differences(runs) == []
    assert Counter(run.stopped_by for run in runs) == {
        None: 512,
        "foreign": 272,
        "clearance": 13,
        "late-revert": 3,
    }
    assert len(runs) == 800
    assert sum(run.steps for run in runs) == 4416


def test_running_the_matrix_gives_the_recorded_answers() -> None:
    """Every rollout state takes or refuses every event as recorded: 144 rows."""
    runs = [check_rollout(vector) for vector in recorded("rollout_matrix", read_rollout_vector)]

    assert differences(runs) == []
    assert Counter(run.stopped_by for run in runs) == {
        None: 141,
        "clearance": 2,
        "late-revert": 1,
    }
    assert len(runs) == 144


def _moves_the_wave_when_a_host_joins(
    record: RolloutRecord, event: RolloutEvent, now: datetime
) -> tuple[RolloutRecord, Sequence[RolloutEffect]]:
    after, effects = step_rollout(record, event, now)
    if isinstance(event, HostJoined):
        return evolve(after, current_wave=after.current_wave + 1), effects
    return after, effects


def _forgets_to_tell_the_wave(
    record: RolloutRecord, event: RolloutEvent, now: datetime
) -> tuple[RolloutRecord, Sequence[RolloutEffect]]:
    after, effects = step_rollout(record, event, now)
    return after, [effect for effect in effects if not isinstance(effect, UpdateCurrentWave)]


def _ignores_what_is_illegal(
    record: RolloutRecord, event: RolloutEvent, now: datetime
) -> tuple[RolloutRecord, Sequence[RolloutEffect]]:
    try:
        return step_rollout(record, event, now)
    except RolloutTransitionError:
        return record, ()


@pytest.mark.parametrize(
    ("wrong_step", "path"),
    [
        (_moves_the_wave_when_a_host_joins, "state.current_wave"),
        (_forgets_to_tell_the_wave, "effects.UpdateCurrentWave"),
        (_ignores_what_is_illegal, "answer"),
    ],
)
def test_running_the_vectors_against_a_wrong_step_names_what_is_wrong(
    wrong_step: RolloutStep, path: str
) -> None:
    """A reducer with a defect is told apart from the recorded one, at the field that is wrong."""
    vectors = recorded("rollout_vectors", read_rollout_vector)[:200]
    found = differences(check_rollout(vector, wrong_step) for vector in vectors)

    assert path in {difference.path for difference in found}
