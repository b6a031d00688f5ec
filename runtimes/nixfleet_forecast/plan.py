"""A release that is not published, forecast: it is published on the state, and the fleet run forward from there.

Source: docs/spec/forecast.md, Plans.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from attrs import evolve

from nixfleet_control_plane.engine.state import fleet_name, manifest_name
from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.course import Course, PastCourses, begin_wave
from nixfleet_forecast.forecast import Subject, forecast
from nixfleet_proto.codec import decode_manifest
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import artefact_hash
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.forecasts import Forecast, RolloutForecast, Span, WaveForecast


class PlanRefused(NixfleetError):
    """The release cannot be planned. Attributes: `why`, for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why


def unsigned(fleet: str, manifests: Iterable[str]) -> tuple[ArtefactTaken, ...]:
    """Return a release as the engine takes it: the texts of its fleet and of its manifests. Raises: DecodeError."""
    name = fleet_name(artefact_hash(fleet.encode()))
    return (
        ArtefactTaken(name, None, fleet, "", ""),
        *(
            ArtefactTaken(manifest_name(rollout_id), rollout_id, text, "", "")
            for text in manifests
            for rollout_id in (decode_manifest(text.encode()).rollout_id,)
        ),
    )


def planned(
    subject: Subject,
    release: Sequence[ArtefactTaken],
    now: datetime,
    *,
    seed: int = 0,
    is_late: Callable[[], bool] = lambda: False,
) -> Forecast:
    """Return what is to come if `release` were published at `now`: its fleet, then its manifests.

    The state is as before afterwards. is_late: as of `forecast`. Raises: PlanRefused.
    """
    state = subject.state
    known = [it.rollout_id for it in release if it.rollout_id in state.view.rollouts]
    if known:
        raise PlanRefused(
            f"expected a release that is not published, found {', '.join(map(str, known))}, which the log has: "
            "give it another ref"
        )
    ahead = Ahead(state, subject.zones, now)
    at_once = PastCourses()  # Not the subject's: what begins at once in a plan has not begun.

    def queued(dispatch: Dispatch) -> None:
        rollout_id = RolloutId(dispatch.rollout_id)
        begin_wave(at_once.of(rollout_id), state, rollout_id, dispatch.hostname, now)

    ahead.on_queued = queued
    try:
        try:
            ahead.publish(release)
        except (NixfleetError, ValueError, LookupError) as error:
            # Nothing of it was verified, so its artefacts may contradict each other.
            raise PlanRefused(f"its artefacts do not fit together: {error}") from error
        published = state.undo.set_aside()
        try:
            found = forecast(subject, now, seed=seed, is_late=is_late)
        finally:
            state.undo.put_back(published)
    finally:
        state.undo.undo_to(0)
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
