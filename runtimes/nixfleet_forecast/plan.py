"""A release that is not published, forecast: it is published on the state, and the fleet run forward from there.

Source: docs/spec/forecast.md, Plans.
"""

from collections.abc import Sequence
from datetime import datetime

from attrs import evolve

from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.course import Course, PastCourses, begin_wave
from nixfleet_forecast.forecast import Subject, forecast
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.forecasts import Forecast, RolloutForecast, Span, WaveForecast


def planned(
    subject: Subject, release: Sequence[ArtefactTaken], now: datetime, *, seed: int = 0
) -> Forecast:
    """Return what is to come if `release` were published at `now`: its fleet, then its manifests.

    The subject is of no use for anything else afterwards: the release is in force there.
    """
    state = subject.state
    state.undo.settle()
    ahead = Ahead(state, subject.zones, now)
    at_once = PastCourses()  # Not the subject's: what begins at once in a plan has not begun.

    def queued(dispatch: Dispatch) -> None:
        rollout_id = RolloutId(dispatch.rollout_id)
        begin_wave(at_once.of(rollout_id), state, rollout_id, dispatch.hostname, now)

    ahead.on_queued = queued
    ahead.publish(release)
    state.undo.settle()
    found = forecast(subject, now, seed=seed)
    rollouts = (_begun(it, at_once.of(it.rollout_id), found.runs) for it in found.rollouts)
    return evolve(found, rollouts=tuple(rollouts))


def _begun(rollout: RolloutForecast, at_once: Course, runs: int) -> RolloutForecast:
    """Return the forecast with the waves that begin before any run does: no run sees them begin."""

    def begun(wave: WaveForecast) -> WaveForecast:
        at = at_once.begins.get(wave.wave)
        if at is None or wave.began_at is not None:
            return wave
        return evolve(wave, begins=Span(runs, at, at, at))

    return evolve(rollout, waves=tuple(map(begun, rollout.waves)))
