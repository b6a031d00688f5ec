"""A release that is not published, forecast: it is published on the state, and the fleet run forward from there.

Source: docs/spec/forecast.md, Plans.
"""

from collections.abc import Sequence
from datetime import datetime

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import take_artefact
from nixfleet_control_plane.engine.rollout_course import amend
from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.course import begin_wave
from nixfleet_forecast.durations import Begun
from nixfleet_forecast.forecast import Subject, forecast
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.forecasts import Forecast
from nixfleet_state_machine.rollout.event import Stage


def planned(
    subject: Subject, release: Sequence[ArtefactTaken], now: datetime, *, seed: int = 0
) -> Forecast:
    """Return what is to come if `release` were published at `now`: its fleet, then its manifests.

    The subject is of no use for anything else afterwards: the release is in force there.
    """
    state = subject.state
    state.undo.settle()
    ahead = Ahead(state, subject.zones, now)

    def queued(dispatch: Dispatch) -> None:
        rollout_id = RolloutId(dispatch.rollout_id)
        subject.durations.begun[rollout_id, dispatch.hostname] = Begun(Stage.ACK, now)
        begin_wave(subject.past.of(rollout_id), state, rollout_id, dispatch.hostname, now)

    ahead.on_queued = queued
    for entry in release:
        is_known = entry.rollout_id is not None and entry.rollout_id in state.manifests
        take_artefact(state, CommitBuilder(), entry, now)
        if is_known and entry.rollout_id is not None:
            amend(state, CommitBuilder(), entry.rollout_id, now)
    ahead.plan()
    state.undo.settle()
    return forecast(subject, now, seed=seed)
