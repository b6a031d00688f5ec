"""What this process itself has seen of a rollout that soaks: which probes ran, how long they fail, how long it soaked.

Kept in memory alone and begun anew at each start, because what was true before a restart proves nothing about now: a
probe has not reported until it has run. Time is what passes between two looks that are close together; what a clock
jumps, forward or back, is no time.
Source: docs/spec/runtimes.md, Sustained failure; docs/spec/runtimes.md, Convergence on the agent.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import evolve, frozen

from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.host.state import HostRolloutState, HostState

CLOCK_STEP_MAX: Final = timedelta(seconds=60)
"""The longest time between two ticks that counts in full. Ticks come every few seconds."""


@frozen
class FailingRun:
    """An unbroken run of failed samples of one probe: when the first and the last one were taken."""

    first_at: datetime
    last_at: datetime

    @property
    def lasted(self) -> timedelta:
        return self.last_at - self.first_at


@frozen
class Tally:
    """How many samples of one probe were taken in the part of the soak by which it is judged, and how many passed."""

    samples: int = 0
    passes: int = 0


@frozen
class Contact:
    """The latest look of a soak at the contact with the control plane.

    answered_at: which answer was the latest, by the clock of its time. heard_place: how much of the soak had passed
    when it came; `None`: none came in this soak. looked_place: the same of the look.
    """

    answered_at: datetime | None
    heard_place: timedelta | None
    looked_place: timedelta


@frozen
class Observed:
    """activating, soaked: time seen to pass while it did. reported: probes that ran. failing: by probe.

    watched_from: `soaked` when this process began to watch. tallies: by probe, see `health_rule`.
    began_place: `soaked` at the start of this process. contact: for probes of kind `home`; `None`: no look yet.
    """

    soaked: timedelta = timedelta()
    reported: frozenset[str] = frozenset()
    failing: FrozenMap[str, FailingRun] = FrozenMap()
    watched_from: timedelta = timedelta()
    tallies: FrozenMap[str, Tally] = FrozenMap()
    activating: timedelta = timedelta()
    began_place: timedelta = timedelta()
    contact: Contact | None = None


def with_sample(
    observed: Observed, name: str, status: ProbeStatus, now: datetime, gap_max: timedelta
) -> Observed:
    """Return `observed` after a sample of `name` was taken.

    gap_max: samples further apart say nothing about the time between them, so a run of failures begins anew.
    """
    failing = dict(observed.failing)
    run = failing.pop(name, None)
    if status is ProbeStatus.FAIL:
        follows = run is not None and timedelta() <= now - run.last_at <= gap_max
        failing[name] = FailingRun(run.first_at if run is not None and follows else now, now)
    return evolve(observed, reported=observed.reported | {name}, failing=FrozenMap(failing))


def with_time(observed: Observed, passed: timedelta, step_max: timedelta) -> Observed:
    """Return `observed` of a soak after a tick that came `passed` after the one before."""
    return evolve(observed, soaked=place_of(observed, passed, step_max))


def with_activating_time(observed: Observed, passed: timedelta, step_max: timedelta) -> Observed:
    """Return `observed` of an activation after a tick that came `passed` after the one before."""
    return evolve(observed, activating=observed.activating + _seen(passed, step_max))


def place_of(observed: Observed, passed: timedelta, step_max: timedelta) -> timedelta:
    """Return how much of the soak was seen `passed` after the last tick."""
    return observed.soaked + _seen(passed, step_max)


def _seen(passed: timedelta, step_max: timedelta) -> timedelta:
    return min(max(passed, timedelta()), step_max)


def soak_of(record: HostRolloutState) -> timedelta:
    """Return how long `record` must soak; nothing without a due time."""
    if record.soak_due_at is None or record.dispatched_at is None:
        return timedelta()
    return record.soak_due_at - record.dispatched_at


def at_start(record: HostRolloutState, now: datetime) -> Observed:
    """Return what is known of `record` at a start.

    It activates or soaks for as long as the clock says, and no probe has run.
    """
    if record.state is HostState.ACTIVATING:
        return Observed(activating=_since(record.dispatch_acked_at, now))
    passed = _since(record.activation_completed_at, now)
    return Observed(soaked=passed, watched_from=passed, began_place=passed)


def _since(began_at: datetime | None, now: datetime) -> timedelta:
    return timedelta() if began_at is None else max(now - began_at, timedelta())


def judged_anew(observed: Observed) -> Observed:
    """Return `observed` without the samples that rules judge: the window begins now."""
    return evolve(observed, watched_from=observed.soaked, tallies=FrozenMap())


def waits_for(record: HostRolloutState, observed: Observed) -> str | None:
    """Return what must be seen before `record` may converge, `None` when all of it was."""
    for declared in record.declared_probes or ():
        if declared.mode is ProbeMode.ENFORCE and declared.probe_name not in observed.reported:
            return f"a result of probe {declared.probe_name!r} since the start"
    window = soak_of(record)
    return None if observed.soaked >= window else f"{window - observed.soaked} more of its soak"


def sustained(
    record: HostRolloutState, failing: Mapping[str, FailingRun], threshold: timedelta
) -> dict[str, FailingRun]:
    """Return the enforce probes of `record` that failed at both ends of `threshold` and all samples between."""
    return {
        name: run
        for name, run in failing.items()
        if name in record.probes
        and record.probes[name].mode is ProbeMode.ENFORCE
        and run.lasted >= threshold
    }
