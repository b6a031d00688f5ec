"""Forecasts and previews at rows of simulated lives: whatever state a fleet is in, both have an answer and leave it."""

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    OperatorCommand,
    PauseScope,
    RetryHosts,
)
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.forecast import Subject, forecast
from nixfleet_forecast.history import History
from nixfleet_forecast.preview import preview
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.http.previews import PREVIEW
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_state_machine.planner.holds.scope import RolloutScope
from tests.forecast.worlds import world_of

EVERY = 41


def _commands(rollout_id: RolloutId) -> tuple[OperatorCommand, ...]:
    return (
        PauseScope(RolloutScope(rollout_id), "ada", "why"),
        ClearRollout(rollout_id, "ada", "why"),
        AbortRollout(rollout_id, "ada", "why"),
        RetryHosts(rollout_id, frozenset(), "ada", "why"),
    )


def _seen_of(subject: Subject) -> tuple[Any, ...]:
    state = subject.state
    hosts = {
        (it, host.hostname): host
        for it in state.view.open_rollouts
        for host in state.view.hosts_of(it)
    }
    return (
        dict(state.view.rollouts),
        dict(state.dispatches),
        dict(state.deferrals),
        state.head_seq,
        hosts,
    )


# In both a rollout is pruned within the time that is looked ahead.
@pytest.mark.parametrize("seed", [6, 13])
def test_a_fleet_in_any_state_has_a_forecast_and_previews_and_stays_as_it_is(seed: int) -> None:
    """Both are written as JSON and read again."""
    with world_of(seed) as database, closing(open_for_reading(database)) as connection:
        rows = tuple(read_log(connection))
    history = History(Replay(), SystemZones())
    subject = history.subject
    for row in rows:
        history.take(row)
        if row.seq % EVERY:
            continue
        now = entry_of(row).at + timedelta(minutes=row.seq % 10)
        before = _seen_of(subject)
        told = forecast(subject, now, runs=2)
        assert FORECAST.decode(FORECAST.encode(told)) == told
        for rollout_id in sorted(subject.state.view.open_rollouts)[-1:]:
            for command in _commands(rollout_id):
                found = preview(subject, command, now)
                assert PREVIEW.decode(PREVIEW.encode(found)) == found
                assert found.sentences
        assert _seen_of(subject) == before


def test_the_range_of_a_rollout_is_the_same_whichever_others_are_told_of() -> None:
    """So rollouts that open together are held against one forecast of them all."""
    with world_of(2) as database, closing(open_for_reading(database)) as connection:
        rows = tuple(read_log(connection))
    history, compared = History(Replay(), SystemZones()), 0
    for row in rows:
        history.take(row)
        if row.seq % EVERY:
            continue
        now = entry_of(row).at
        together = forecast(history.subject, now, runs=2).rollouts
        for rollout in together if len(together) > 1 else ():
            (alone,) = forecast(history.subject, now, only={rollout.rollout_id}, runs=2).rollouts
            assert (alone.most, alone.done) == (rollout.most, rollout.done)
            compared += rollout.done.runs > 0
    assert compared
