"""What must hold of hosts that drift, that join and leave, and of waves that have a time. As `laws`.

Source: docs/spec/policy.md, Drift; docs/spec/policy.md, Members.
"""

from collections.abc import Iterator
from typing import assert_never

from attrs import evolve

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.inputs import (
    Abort,
    Amend,
    Answer,
    BakeEnds,
    Clear,
    Hear,
    HearOf,
    Input,
    Judge,
    MinutePasses,
    PassTime,
    Pause,
    Publish,
    Resume,
    Retire,
    Show,
    WaveTimeComes,
)
from nixfleet_testing.explore.laws import Breach, Law
from nixfleet_testing.explore.world import ControlPlane


def of_turn(
    bounds: Bounds, before: ControlPlane, input: Input, after: ControlPlane
) -> Iterator[Breach]:
    """Yield what is wrong with how the control plane moved because of `input`."""
    yield from _of_drifts(bounds, after)
    yield from _of_times(bounds, before, after)
    match input:
        case Show():
            yield from _of_show(bounds, before, input, after)
        case Amend():
            yield from _of_amend(bounds, before, input, after)
        case (
            Abort()
            | Clear()
            | Hear()
            | HearOf()
            | Judge()
            | BakeEnds()
            | Answer()
            | MinutePasses()
            | PassTime()
            | Pause()
            | Publish()
            | Resume()
            | Retire()
            | WaveTimeComes()
        ):
            pass
        case _:
            assert_never(input)


def _of_drifts(bounds: Bounds, after: ControlPlane) -> Iterator[Breach]:
    for host, seats in enumerate(after.seats):
        for release, seat in enumerate(seats):
            name, state = bounds.hostnames[host], after.rollouts[release].state
            if seat.has_drifted and seat.record.state is not HostState.CONVERGED:
                yield Law.DRIFT, f"{name} has drifted, and is {seat.record.state}"
            if seat.has_drifted and state is RolloutState.SUPERSEDED:
                yield Law.DRIFT, f"{name} has drifted in a rollout that is superseded"
            if seat.standing is Standing.LEFT and (seat.is_queued or seat.has_drifted):
                yield Law.MEMBERS, f"{name} left, and a dispatch or a drift of it is known"


def _of_show(
    bounds: Bounds, before: ControlPlane, input: Show, after: ControlPlane
) -> Iterator[Breach]:
    """A drift is noted or ends, and nothing else happens."""
    release = len(before.rollouts) - 1
    rollout, was = before.rollouts[release], before.seats[input.host][release]
    is_target = input.running == was.record.target_closure
    is_at_rest = was.record.state is HostState.CONVERGED and not was.is_queued
    strays = not is_target and is_at_rest and rollout.state.is_served
    ought = strays or (was.has_drifted and not is_target)
    now = after.seats[input.host][release]
    if now.has_drifted is not ought:
        found = f"{bounds.hostnames[input.host]} runs {input.running}, and has drifted"
        yield Law.DRIFT, f"{found}: {now.has_drifted}, expected {ought}"
    if evolve(now, has_drifted=was.has_drifted) != was or after.rollouts != before.rollouts:
        yield Law.DRIFT, f"{bounds.hostnames[input.host]} counts otherwise by what it runs"


def _of_amend(
    bounds: Bounds, before: ControlPlane, input: Amend, after: ControlPlane
) -> Iterator[Breach]:
    host = bounds.leaver_place
    name = bounds.hostnames[host]
    rollout, now = before.rollouts[0], after.seats[host][0]
    is_done = rollout.state is RolloutState.TERMINAL
    is_done = is_done or bounds.wave_of[host] < rollout.current_wave
    joined = Standing.LATE if is_done else Standing.COUNTED
    expected = joined if input.joins else Standing.LEFT
    # The host that it waits for may not come; then it is skipped at once.
    if now.standing is not expected and not (bounds.edges and now.standing is Standing.SKIPPED):
        yield Law.MEMBERS, f"{name} is {now.standing}, expected {expected}"
    if (now.record.state, now.record.last_event_seq, now.attempt) != (HostState.PENDING, 0, 1):
        yield (
            Law.MEMBERS,
            f"{name} is {now.record.state}, attempt {now.attempt}, expected a new record",
        )
    for other in set(range(bounds.hosts)) - {host}:
        if after.seats[other][0].record.state is not before.seats[other][0].record.state:
            yield Law.MEMBERS, f"{bounds.hostnames[other]} moved because {name} did"


def _of_times(bounds: Bounds, before: ControlPlane, after: ControlPlane) -> Iterator[Breach]:
    if not bounds.timed:
        return
    for host, seats in enumerate(after.seats):
        for release, seat in enumerate(seats):
            was_queued = release < len(before.rollouts) and before.seats[host][release].is_queued
            if seat.is_queued and not was_queued and bounds.wave_of[host] >= after.begun:
                yield Law.EARLY, f"{bounds.hostnames[host]} is dispatched before its time"
